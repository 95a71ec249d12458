"""Thompson sampling.

Paper    Thompson 1933; Russo et al. 2018, algorithms 4 and 5.       Formula sheet: 12.0.2a, 12.0a
Update   Beta:     α_a = α₀ + Σ r,  β_a = β₀ + Σ (1 − r)                                      (1)
         Gaussian: precision L = 1/s₀² + N/s²,  mean (m₀/s₀² + Σ r/s²)/L                       (2)
         a_t = argmax_a E[r_a|θ_a],  θ_a ~ posterior                                          (3)
Data     Rollouts of one step: pull, then count.
Differs  rewards inside (0, 1) count as that share of a success.
"""

from lit_rl.algorithms.bandits.pulls import count_pulls
from lit_rl.algorithms.tabular.table_agent import ArrayAgent
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.policies.bandit import Belief, ThompsonPolicy


class ThompsonSampling(ArrayAgent):
    """Pulls an arm as often as it may be the best.

    Args:
        env: environment recipe, or its id.
        data: where pulls come from.
        gamma: unused by the rule; of returns in plots.
        belief: prior over the arms' means, and what is known of the noise.
        evaluation: episodes with the arm of the best posterior mean, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: ThompsonPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        gamma: float = 1.0,
        belief: Belief = Belief(),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.bounded = belief.kind == "beta"
        self.policy = ThompsonPolicy(self.env.observation_space, self.actions, belief)

    def sweep(self, data: Rollout) -> dict[str, float]:
        """Count."""
        return count_pulls(self.policy, data, self.bounded)
