"""Entropy-regularised policy gradient.

Paper    Williams and Peng 1991; Schulman, Chen and Abbeel 2017; O'Donoghue et al. 2017.
         Formula sheet: 15.6.2a, 15.6.3a, 5.6.2a
Update   r̃_t = r_t − α log π(a_t|s_t; θ_old)      (``entropy: return``: all entropy to come counts)        (1)
         A_t = GAE(λ) of r̃, G = A + V(s)                                                                    (2)
         L(θ) = −mean A log π(a|s; θ) − [``entropy: step``: α mean H(π(·|s; θ))]  +  ½ c_v mean (V(s) − G)²   (3)
         With ``step`` r̃ = r: a bonus on the entropy of each state alone, which is another objective.
Data     Rollouts: T steps of N environments, and one step on all of them.
Differs  The −α that belongs to ∇(−α log π) is dropped from A: its mean is 0. A critic is the baseline, and A is
         standardised over the rollout where ``standardize`` says so.
"""

from collections.abc import Iterator
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.algorithms.policy_gradient.minibatches import (
    Minibatch,
    advantages_and_targets,
    all_rows,
    rows_of,
    shuffled_segments,
    standardized,
)
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import soft_value
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy
from lit_rl.schedules import Scheduled, as_schedule


def score_loss(log_prob: Float[Tensor, " B"], advantage: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """−A log π(a|s) per sample, (3): its gradient is minus that of the policy. No gradient reaches A."""
    return -log_prob * advantage.detach()


def soft_q_as_policy_gradient(
    q: Float[Tensor, "B A"], action: Int[Tensor, " B"], target: Float[Tensor, " B"], alpha: float
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Soft Q-learning's ½ (Q(s, a) − y)² in two terms, whose gradients sum to its own; formula sheet 15.6.3a.

    With π = exp((Q − V)/α): Q = V + α log π, so (Q − y) ∇Q = (Q − y) α ∇log π + (Q − y) ∇V. The first is the
    entropy-regularised policy gradient, with the return y − α log π(a|s) and the baseline V(s), times α; the second
    regresses V on the target.

    Args:
        q: Q(s, ·).
        action: taken in s.
        target: y = r + γ V(s'), without gradient.
        alpha: temperature.
    """
    value = soft_value(q, alpha)
    chosen = q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    log_prob = (chosen - value) / alpha
    advantage = target - alpha * log_prob - value
    return alpha * score_loss(log_prob, advantage), (chosen - target).detach() * value


class EntropyPG(Agent):
    """One policy-gradient step per rollout on return plus α times entropy.

    Args:
        env: environment recipe, or its id.
        data: rollouts; their size is T · N.
        net: policy and critic.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of the advantage estimator.
        alpha: α, the worth of a nat; may be scheduled over env steps.
        entropy: ``return`` counts the entropy of all later steps, ``step`` that of each state alone.
        standardize: scale advantages to mean 0 and variance 1.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy
    value_weight = 0.5  # c_v

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=32),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=1e-3, max_grad_norm=0.5),
        gamma: float = 0.99,
        lam: float = 0.95,
        alpha: Scheduled = 0.01,
        entropy: Literal["return", "step"] = "return",
        standardize: bool = True,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(entropy in ("return", "step"), "entropy", entropy, "it is return or step")
        self.lam, self.alpha, self.entropy, self.standardize = lam, as_schedule(alpha), entropy, standardize
        self.require(self.alpha(0) >= 0, "alpha", alpha, "a temperature is 0 or positive")
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.policy = self.networks.policy

    def minibatches(self, data: Rollout) -> Iterator[Minibatch]:
        """(1)-(2): all rows at once."""
        self.networks.update_statistics(data.obs)
        now = self.networks.evaluate(data)
        if self.entropy == "return":
            data = data._replace(reward=data.reward - self.alpha(self.env_steps) * now.log_prob)  # (1)
        advantage, target = advantages_and_targets(self, data, now)
        advantage = standardized(advantage) if self.standardize else advantage
        if self.networks.recurrent:
            yield from shuffled_segments(data, now, advantage, target, advantage.numel())
        else:
            yield all_rows(data, now, advantage, target)

    def loss(self, batch: Minibatch) -> dict[str, Tensor]:
        """(3)."""
        outputs, value = self.networks(batch.obs, batch.state, batch.start)
        obs = rows_of(batch.obs, batch.start)
        outputs, value = outputs.float(), value.float()
        entropy = self.policy.entropy(outputs, obs).mean()
        self.record(entropy=entropy.detach())
        losses = {
            "policy_loss": score_loss(self.policy.log_prob(outputs, obs, batch.action), batch.advantage).mean(),
            "value_loss": 0.5 * self.value_weight * (value - batch.target).square().mean(),
        }
        if self.entropy == "step":
            losses["entropy_loss"] = -self.alpha(self.env_steps) * entropy
        return losses

    def schedules(self) -> dict[str, float]:
        """α."""
        return {"alpha": self.alpha(self.env_steps)}
