"""Policy gradient from episodes of other policies, by importance weights.

Paper    Precup, Sutton and Singh 2000 (per-decision weights); Degris, White and Sutton 2012 (states left uncorrected).
         Formula sheet: 4.2a, 4.2b, 4.2c, 4.2d, 4.2e
Update   g = 1/M Σ_i Σ_t c_t (x_t − b_t) ∇ log π(a_t|s_t),   ρ_t = π(a_t|s_t; θ)/β(a_t|s_t)                  (1)
         c = Π_k ρ_k,      x = Σ_k γᵏ r_k                       ``trajectory``: ∇J(θ), at a huge variance      (2)
             Π_{k≤t} ρ_k,  x = Σ_{k≥t} γ^{k−t} r_k Π_{t<j≤k} ρ_j   ``per_decision``: ∇J(θ) at γ = 1, less noise  (3)
             Π_{k≤t} ρ_k,  x = Σ_{k≥t} γ^{k−t} r_k              ``dropped``: new states, old values            (4)
             ρ_t,          x = Σ_{k≥t} γ^{k−t} r_k              ``first_order``: old states as well            (5)
         b = 0, or the mean of x over the other episodes, at the same time or at all times                  (6)
         c ← c / (mean of c over the episodes alive at t), if ``self_normalized``                           (7)
Data     WholeEpisodes: M episodes with the log-probabilities of the policies β that played them, ``updates`` steps
         along g, then the next ones; with ``data.window`` also those of rounds before.
Differs  (4) and (5) are biased where θ is not β: they are directions of improvement near it. (7) is biased, and
         consistent. ``max_weight`` bounds c, another bias. Discounting is option 1 (5.3a), but for (2).
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Trajectories, select
from lit_rl.data.episodes import Episodes
from lit_rl.data.whole_episodes import WholeEpisodes
from lit_rl.envs.recipe import Env
from lit_rl.functional.policy_gradient import (
    leave_one_out_baseline,
    per_time_baseline,
    pseudo_loss,
    reward_to_go,
    whole_return,
)
from lit_rl.functional.returns import linear_recursion
from lit_rl.functional.statistics import approx_kl
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy

Weights = Literal["trajectory", "per_decision", "dropped", "first_order"]


class Weighted(NamedTuple):
    """The two factors of (1)."""

    weight: Tensor  # [T, M], c
    signal: Tensor  # [T, M], x


@torch.no_grad()
def importance_weighted(
    log_ratio: Float[Tensor, "T M"],
    reward: Float[Tensor, "T M"],
    mask: Bool[Tensor, "T M"],
    gamma: float,
    kind: Weights,
) -> Weighted:
    """c and x of (2)-(5). ``log_ratio`` is log ρ; where ``mask`` is False neither it nor a reward counts."""
    log_ratio = log_ratio.where(mask, 0.0)
    ratio, so_far = log_ratio.exp(), log_ratio.cumsum(0)
    if kind == "trajectory":
        return Weighted(so_far[-1:].exp().expand_as(reward) * mask, whole_return(reward, gamma))  # (2)
    if kind == "per_decision":
        ahead = torch.cat([ratio[1:], torch.ones_like(ratio[:1])])
        return Weighted(so_far.exp() * mask, linear_recursion(reward, gamma * ahead))  # (3)
    if kind == "dropped":
        return Weighted(so_far.exp() * mask, reward_to_go(reward, gamma))  # (4)
    return Weighted(ratio * mask, reward_to_go(reward, gamma))  # (5)


def self_normalize(weight: Float[Tensor, "T M"], mask: Bool[Tensor, "T M"]) -> Float[Tensor, "T M"]:
    """(7): the weights of the episodes alive at t have mean 1."""
    mean = (weight * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return torch.where(mask, weight / mean.clamp(min=torch.finfo(weight.dtype).tiny), 0.0)


def effective_sample_size(weight: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """(Σ c)²/Σ c²: so many equally weighted samples are these worth. Formula sheet: 4.2a."""
    return weight.sum().square() / weight.square().sum()


class Minibatch(NamedTuple):
    """The B steps of M whole episodes."""

    obs: Observation  # [B, ...]
    action: Tensor  # [B] or [B, A]
    log_prob: Tensor  # [B], log β
    reward: Tensor  # [T, M]
    mask: Tensor  # [T, M] bool; its True entries, row by row, are the B steps


class OffPolicyGradient(Agent):
    """Several importance-weighted policy-gradient steps on each batch of whole episodes.

    Args:
        env: environment recipe, or its id.
        data: whole episodes, with ``window`` also of earlier rounds.
        net: policy; its critic is not used.
        optimizer: how parameters move.
        gamma: discount per step.
        weights: (2), (3), (4) or (5).
        baseline: b of (6).
        updates: steps along g on the same episodes.
        self_normalized: (7).
        max_weight: c is no larger than this; null lets it grow.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy

    def __init__(
        self,
        env: Env | str,
        data: WholeEpisodes = WholeEpisodes(),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=3e-3, max_grad_norm=1.0),
        gamma: float = 0.99,
        weights: Weights = "first_order",
        baseline: Literal["none", "leave_one_out", "per_time"] = "per_time",
        updates: int = 4,
        self_normalized: bool = False,
        max_weight: float | None = None,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(updates >= 1, "updates", updates, "at least one step is needed")
        self.require(max_weight is None or max_weight > 0, "max_weight", max_weight, "it is positive, or null for none")
        self.weights, self.baseline, self.steps_per_round = weights, baseline, updates
        self.self_normalized, self.max_weight = self_normalized, max_weight
        networks = net.build(self.env.observation_space, self.env.action_space)
        self.require(not networks.recurrent, "net.body", net.body, "it has a memory; use a body without one")
        self.policy = networks.policy

    def minibatches(self, data: Trajectories) -> Iterator[Minibatch]:
        """All episodes, ``updates`` times."""
        rows = select(data.obs, data.mask)
        self.policy.body.update_statistics(rows)
        batch = Minibatch(rows, data.action[data.mask], data.log_prob[data.mask], data.reward, data.mask)
        for _ in range(self.steps_per_round):
            yield batch

    def loss(self, batch: Minibatch) -> dict[str, Tensor]:
        """(1)-(7), with the weights of the policy as it is now."""
        outputs = self.policy.outputs(batch.obs).float()
        log_prob = self.policy.log_prob(outputs, batch.obs, batch.action)
        log_ratio = torch.zeros_like(batch.reward)
        log_ratio[batch.mask] = log_prob.detach() - batch.log_prob
        weight, signal = importance_weighted(log_ratio, batch.reward, batch.mask, self.gamma, self.weights)  # (2)-(5)
        if self.max_weight is not None:
            weight = weight.clamp(max=self.max_weight)
        if self.self_normalized:
            weight = self_normalize(weight, batch.mask)  # (7)
        signal = signal - self._baseline(signal, batch.mask)
        used = weight[batch.mask]
        self.record(
            entropy=self.policy.entropy(outputs, batch.obs),
            kl=approx_kl(log_ratio[batch.mask]),
            rho=used,
            effective_samples=effective_sample_size(used) / len(used),
        )
        return {"policy_loss": pseudo_loss(log_prob, used * signal[batch.mask], batch.mask.shape[1])}  # (1)

    def _baseline(self, signal: Tensor, mask: Tensor) -> Tensor:
        """(6)."""
        if self.baseline == "none":
            return torch.zeros_like(signal)
        if self.baseline == "per_time":
            return per_time_baseline(signal, mask)
        if self.weights == "trajectory":  # one number per episode, which counts once
            return leave_one_out_baseline(signal[:1], mask[:1]).expand_as(signal)
        return leave_one_out_baseline(signal, mask)
