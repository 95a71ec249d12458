"""Differential dynamic programming (DDP).

Paper    Mayne 1966; Jacobson & Mayne 1970; Tassa, Mansard & Todorov 2014.       Formula sheet: 9.2.1b, 9.2.2a
Update   as iLQR, but with f to second order as well:
         Q += Σ_i v'_i ∂²f_i/∂z²,  v' the gradient of the value at the next state of the trajectory               (1)
Data     Rollouts, to look at: nothing is learnt.
Differs  As iLQR: trajectories are planned by the policy when an episode begins, from several first guesses.
"""

from lit_rl.algorithms.control.control_agent import ControlAgent
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.ddp import DDP as Descent
from lit_rl.planning.task import ControlTask
from lit_rl.policies.control import TrajectoryPolicy


class DDP(ControlAgent):
    """Follows trajectories of DDP by their own feedback; see :class:`lit_rl.algorithms.control.ilqr.ILQR`.

    Args:
        env: environment recipe, or its id.
        data: rollouts to look back at.
        planner: how trajectories are found.
        replan_every: steps between two of them, at most the task's horizon.
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
