"""Information-directed sampling (IDS).

Paper    Russo & Van Roy 2014, sections 3-4 and algorithm 2.       Formula sheet: 12.0.3a, 12.0.3b, G20
Update   Δ(a) = E[max_b θ_b] − E[θ_a] under the posterior                                      (1)
         g(a) = I(θ_a; Y_a), I(A*; Y_a), or a bound on the latter from Var E[r_a|A*]           (2)
         π = argmin (π·Δ)²/(π·g): over distributions, or over single arms                      (3)
Data     Rollouts of one step: pull, then count.
Differs  integrals by quadrature over 1000 points. I(A*; Y_a) is exact for Bernoulli rewards alone; Gaussian
         arms have the bound.
"""

from lit_rl.algorithms.bandits.pulls import count_pulls
from lit_rl.algorithms.tabular.table_agent import ArrayAgent
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.policies.bandit import Belief, InformationDirectedPolicy, Target


class IDS(ArrayAgent):
    """Pays regret only for information.

    Args:
        env: environment recipe, or its id.
        data: where pulls come from.
        gamma: unused by the rule; of returns in plots.
        belief: prior over the arms' means, and what is known of the noise.
        target: what information is about: an arm's own ``param``, which is the ``optimal_action``, or the
            ``variance`` bound of the latter.
        randomised: minimise over distributions; else over single arms.
        evaluation: episodes with the arm of the best posterior mean, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: InformationDirectedPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        gamma: float = 1.0,
        belief: Belief = Belief(),
        target: Target = "optimal_action",
        randomised: bool = True,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(
            target in ("param", "optimal_action", "variance"), "target", target, "it is param, optimal_action, variance"
        )
        self.require(
            target != "optimal_action" or belief.kind == "beta",
            "target",
            target,
            "gaussian arms have param or variance",
        )
        self.bounded = belief.kind == "beta"
        self.policy = InformationDirectedPolicy(self.env.observation_space, self.actions, belief, target, randomised)

    def sweep(self, data: Rollout) -> dict[str, float]:
        """Count."""
        return count_pulls(self.policy, data, self.bounded)
