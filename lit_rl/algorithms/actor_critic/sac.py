"""Soft actor-critic for continuous actions (SAC).

Paper    Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", 4-6.
         Formula sheet: 15.6.5a, 7.3.1a, 0.4, G2
Update   y     = r + γ(1 − terminated) [min_j q_j(s', a'; θ⁻) − α log π(a'|s')],  a' ~ π(·|s')   (1)
         L(θ)  = Σ_j mean ½ (q_j(s, a; θ) − y)²                                                 (2)
         L(φ)  = mean α log π(f_φ(s, ξ)|s) − min_j q_j(s, f_φ(s, ξ)),  θ held fixed             (3)
         L(α)  = −log α · mean (log π(a|s) + H̄),  log π held fixed                              (4)
         H̄     = −dim A for actions scaled to [−1, 1]; log π counts them as they are, which adds Σ log ½(high − low)
         θ⁻   ← (1 − τ) θ⁻ + τ θ                                                               (5)
Data     Replay: act by sampling π, store, sample uniformly; uniformly random actions at first.
Differs  All three losses descend in one backward and one optimiser step: they reach disjoint parameters.
         n-step rewards leave out the entropy of the steps between. val/overestimation also holds the entropy still to
         come, of which a greedy episode earns nothing.
"""

import math
from collections.abc import Iterator

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Transition, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.critics import critics_loss
from lit_rl.functional.losses import weighted_mean
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.frozen import Frozen
from lit_rl.nn.heads import Critics
from lit_rl.nn.mlp import linear_head
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.gaussian import SquashedGaussianPolicy


def soft_target(
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    next_q: Float[Tensor, "E B"],
    next_log_prob: Float[Tensor, " B"],
    alpha: Float[Tensor, ""],
) -> Float[Tensor, " B"]:
    """y of (1). ``discount`` is γⁿ(1 − terminated)."""
    return reward + discount * (next_q.amin(0) - alpha * next_log_prob)


def actor_loss(q: Float[Tensor, "E B"], log_prob: Float[Tensor, " B"], alpha: Float[Tensor, ""]) -> Float[Tensor, " B"]:
    """(3) per sample."""
    return alpha * log_prob - q.amin(0)


def temperature_loss(
    log_alpha: Float[Tensor, ""], log_prob: Float[Tensor, " B"], target_entropy: float
) -> Float[Tensor, " B"]:
    """(4) per sample."""
    return -log_alpha * (log_prob.detach() + target_entropy)


class SAC(Agent):
    """Off-policy actor-critic that maximises return plus entropy.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body of the policy and of each critic.
        optimizer: how parameters move.
        gamma: discount per step.
        tau: weight of θ in the Polyak average (5).
        alpha: the temperature; null learns it by (4), from 1.
        target_entropy: H̄ in nats of the actions as the environment takes them; null is the paper's −dim A in [−1, 1].
        critics: E, of which the smallest counts.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Box",)
    policy: SquashedGaussianPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=1_000_000, batch_size=256, replay_ratio=1.0, warmup=100),
        net: Body = MLP((256, 256), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=3e-4),
        gamma: float = 0.99,
        tau: float = 0.005,
        alpha: float | None = None,
        target_entropy: float | None = None,
        critics: int = 2,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        observation_space, action_space = self.env.observation_space, self.env.action_space
        assert isinstance(action_space, spaces.Box)
        self.require(action_space.is_bounded(), "env", self.env.id, f"SAC needs a bounded Box; it has {action_space}")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.require(alpha is None or alpha > 0, "alpha", alpha, "a temperature is positive, or null to learn it")
        self.require(critics >= 1, "critics", critics, "at least one is needed")
        self.tau = tau
        dimensions = math.prod(action_space.shape)
        body = net.build(observation_space)
        gain = 1.0 if net.head_is_orthogonal else None
        self.policy = SquashedGaussianPolicy(body, linear_head(body.out_features, 2 * dimensions, gain), action_space)
        scaled = float(self.policy.half_width.log().sum()) - dimensions
        self.target_entropy = scaled if target_entropy is None else target_entropy
        self.critics = Critics(net, observation_space, action_space, critics)
        self.critics_target, self.frozen_critics = TargetNetwork(self.critics), Frozen(self.critics)
        self.log_alpha = torch.nn.Parameter(torch.tensor(math.log(alpha or 1.0)), requires_grad=alpha is None)

    def minibatches(self, data: Transition) -> Iterator[Transition]:
        """One per update; all of them count in the normalisers, where there are any."""
        if len(data.reward):
            self.policy.body.update_statistics(data.obs)
            self.critics.update_statistics(data.obs, data.action)
        yield from unstack(data)

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(4)."""
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            next_action, next_log_prob = self.policy.sample(batch.next_obs)
            next_q = self.critics_target(batch.next_obs, next_action)
            target = soft_target(batch.reward, batch.discount, next_q, next_log_prob, alpha)  # (1)
        q = self.critics(batch.obs, batch.action)
        action, log_prob = self.policy.sample(batch.obs)
        q_of_policy = self.frozen_critics(batch.obs, action)
        td_error = (q.detach() - target).abs().mean(0)
        self.experience.learnt(batch.index, td_error)
        self.record(q=q, td_error=td_error, entropy=-log_prob, alpha=alpha)
        losses = {
            "critic_loss": weighted_mean(critics_loss(q, target), batch.weight),  # (2)
            "actor_loss": actor_loss(q_of_policy, log_prob, alpha).mean(),  # (3)
        }
        if self.log_alpha.requires_grad:
            losses["temperature_loss"] = temperature_loss(self.log_alpha, log_prob, self.target_entropy).mean()  # (4)
        return losses

    def after_update(self) -> None:
        """(5)."""
        self.critics_target.follow(self.tau)

    def state_value(self, obs: Observation) -> Tensor:
        """The smallest q(s, a) of the squashed mean [B], for the diagnostic."""
        return self.critics(obs, self.policy.greedy(obs)).amin(0)
