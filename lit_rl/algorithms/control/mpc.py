"""Model-predictive control (MPC).

Paper    Rawlings, Mayne & Diehl 2017, chapter 1; planners by sampling as in Chua et al. 2018.
         Formula sheet: 9.2.2a, 9.0.1a, 9.0.2a, 9.0.2b, 9.1a, 9.2.1a, H6, G8
Update   in every step t, from the state x_t that is observed:
         U = argmin_U Σ_{k<H} γᵏ c(x_{t+k}, u_{t+k}) + γᴴ c_H(x_{t+H}),  x_{t+k+1} = f(x_{t+k}, u_{t+k})      (1)
         u_t = U_0, the next search begins from (U_1 … U_{H−1}, U_{H−1})                                        (2)
Data     Rollouts, to look at: nothing is learnt. Of the physics f and the cost c everything is known.
Differs  (1) is searched for as long as the planner's recipe says, not solved. Where the environment has but a few
         actions (CartPole's forces) the nearest one is taken, and plans do not know it.
"""

from lit_rl.algorithms.control.control_agent import ControlAgent
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.planner import Planner
from lit_rl.planning.shooting import CEM
from lit_rl.planning.task import ControlTask
from lit_rl.policies.control import RecedingHorizonPolicy


class MPC(ControlAgent):
    """Plans again in every step, with any planner.

    The plan of an environment travels in the policy's memory, is forgotten where its episode ends, and lies in
    checkpoints: a resumed run goes on with it.

    Args:
        env: environment recipe, or its id.
        data: rollouts to look back at.
        planner: searches (1).
        task: physics, cost and horizon.
        gamma: γ of (1), and of returns in plots.
        evaluation: episodes played at each validation.
    """

    action_spaces = ("Box", "Discrete")
    policy: RecedingHorizonPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=50, steps_per_epoch=1_000),
        planner: Planner = CEM(iterations=4),
        task: ControlTask = ControlTask(),
        gamma: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, task, gamma, evaluation)
        self.policy = RecedingHorizonPolicy(self.controlled, self.env.action_space, planner)
