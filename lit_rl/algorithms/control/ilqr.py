"""The iterative linear-quadratic regulator (iLQR).

Paper    Li & Todorov 2004; Tassa, Erez & Todorov 2012.       Formula sheet: 9.2.1a, 9.2.2a, G7
Update   where an episode begins, and again every n steps, from the observed state: a trajectory (û, x̂) of H steps by
         f to first order, c to second about the last one, one pass of LQR, a line search; until it converges   (1)
         u_t = clip(û_t + K_t (x_t − x̂_t)),  K_t of the last pass                                            (2)
Data     Rollouts, to look at: nothing is learnt.
Differs  A trajectory belongs to the state that it begins in, and an environment begins in another one every time: so
         it is planned by the policy when an episode begins, not trained beforehand. Several first guesses are tried;
         bounds of the actions are kept within the pass.
"""

from lit_rl.algorithms.control.control_agent import ControlAgent
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.ilqr import ILQR as Descent
from lit_rl.planning.task import ControlTask
from lit_rl.policies.control import TrajectoryPolicy


class ILQR(ControlAgent):
    """Follows trajectories of iLQR by their own feedback.

    Plan and gains of an environment travel in the policy's memory, are forgotten where its episode ends, and lie in
    checkpoints: a resumed run goes on with them.

    Args:
        env: environment recipe, or its id.
        data: rollouts to look back at.
        planner: how (1) is done.
        replan_every: n, at most the task's horizon.
        task: physics, cost and horizon.
        gamma: γ of the costs, and of returns in plots.
        evaluation: episodes played at each validation.
    """

    action_spaces = ("Box", "Discrete")
    policy: TrajectoryPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=50, steps_per_epoch=1_000),
        planner: Descent = Descent(iterations=15, starts=8),
        replan_every: int = 25,
        task: ControlTask = ControlTask(horizon=50),
        gamma: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, task, gamma, evaluation)
        self.require(1 <= replan_every <= task.horizon, "replan_every", replan_every, f"from 1 to {task.horizon} steps")
        self.policy = TrajectoryPolicy(self.controlled, self.env.action_space, planner, replan_every)
