"""The linear-quadratic regulator (LQR).

Paper    Kalman 1960; Anderson & Moore 1990, chapter 2.       Formula sheet: 9.1.1a, 9.2a
Update   once, when the agent is built: f and c to first and second order about the goal x* (A, B; Q, R, N), and
         P = Q + γ AᵀPA + (γ AᵀPB + N) K,  K = −(R + γ BᵀPB)⁻¹ (γ BᵀPA + Nᵀ)                                 (1)
         u = clip(K (x − x*)),  cost-to-go (x − x*)ᵀ P (x − x*)                                               (2)
Data     Rollouts, to look at: nothing is learnt.
Differs  The horizon is infinite. Optimal where f is linear, c quadratic and no bound holds, also under noise, which
         adds to the cost alone; elsewhere right near x*. Where the environment has but a few actions the nearest one
         is taken: in CartPole, u's sign.
"""

from lit_rl.algorithms.control.control_agent import ControlAgent
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.regulator import regulate
from lit_rl.planning.task import ControlTask
from lit_rl.policies.control import FeedbackPolicy


class LQR(ControlAgent):
    """One matrix of gains, from one Riccati equation.

    Args:
        env: environment recipe, or its id.
        data: rollouts to look back at.
        task: physics and cost; horizon and final cost have no meaning here.
        gamma: γ of (1), and of returns in plots.
        evaluation: episodes played at each validation.
    """

    action_spaces = ("Box", "Discrete")
    policy: FeedbackPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=50, steps_per_epoch=1_000),
        task: ControlTask = ControlTask(),
        gamma: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, task, gamma, evaluation)
        _, problem, goal = self.controlled
        solved = regulate(problem.dynamics, problem.cost, goal, len(problem.low), gamma)
        self.policy = FeedbackPolicy(self.controlled, self.env.action_space, solved)
