"""Upper confidence bounds (UCB1).

Paper    Auer, Cesa-Bianchi & Fischer 2002, figure 1.       Formula sheet: 12.0.1a, 12.0a
Update   N_a ← N_a + 1, Σ_a ← Σ_a + r                                              (1)
         a_t = argmax_a Σ_a/N_a + c √(2 ln t / N_a), every arm once first          (2)
Data     Rollouts of one step: pull, then count.
Differs  c scales the width (1 in the paper, for rewards in [0, 1]). With several environments side by side
         they pull the same arm before any of them has told.
"""

from lit_rl.algorithms.bandits.pulls import count_pulls
from lit_rl.algorithms.tabular.table_agent import ArrayAgent
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.policies.bandit import UCBPolicy


class UCB1(ArrayAgent):
    """Optimism in the face of uncertainty: regret grows with ln T.

    Args:
        env: environment recipe, or its id.
        data: where pulls come from.
        gamma: unused by the rule; of returns in plots.
        width: c of (2), the range of the rewards.
        evaluation: episodes with the arm that paid best, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: UCBPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        gamma: float = 1.0,
        width: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(width > 0, "width", width, "it is positive")
        self.policy = UCBPolicy(self.env.observation_space, self.actions, width)

    def sweep(self, data: Rollout) -> dict[str, float]:
        """Count."""
        return count_pulls(self.policy, data, False)
