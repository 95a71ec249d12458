"""Policy gradient under a KL constraint, by dual descent or an adaptive penalty (KL-PPO).

Paper    Schulman et al. 2017, section 4; Boyd and Vandenberghe 2004, chapter 5.
         Formula sheet: 8.1a, 8.1.1a, 8.3a, 5.6.2a, G1
Update   A_t  = GAE(λ), standardised over the minibatch                                       (1)
         ρ    = exp(log π(a|s; θ) − log π(a|s; θ_old))                                        (2)
         L(θ) = −mean ρ A + β mean KL + ½ c_v mean (V(s) − G)²,   KL over all actions,
                KL(θ_old‖θ) or KL(θ‖θ_old), by epochs of shuffled minibatches                 (3)
         β   ← clip(β + rate (KL − δ), 0, limit) after each epoch (rule ``dual``), or         (4)
               2 β where KL > 1.5 δ, β/2 where KL < δ/1.5, after the last one (``adaptive``)  (5)
               with the mean KL over the whole rollout, of all ranks
Data     Rollouts: T steps of N environments, then epochs × shuffled minibatches over them.
Differs  The KL is exact where others estimate it from the actions taken. Epochs end early where it exceeds 4 δ.
         (5) keeps β within [1e-4, limit], so that it can grow again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.algorithms.policy_gradient.minibatches import (
    Minibatch,
    advantages_and_targets,
    all_rows,
    rows_of,
    shuffled_rows,
    shuffled_segments,
    standardized,
)
from lit_rl.batch import Observation, Rollout, map_tensors
from lit_rl.collective import all_mean
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy

LEAST = 1e-4  # of β under the adaptive rule
EARLY = 4.0  # times δ, where epochs end


@dataclass(frozen=True)
class KLConstraint:
    """What the divergence is held to, and how.

    Args:
        target: δ, mean divergence of a rollout's update in nats.
        rule: ``dual`` ascends the multiplier (4), ``adaptive`` doubles and halves it (5).
        rate: of (4), per nat.
        start: β at first.
        limit: β at most.
        of: ``old`` for KL(θ_old‖θ), ``new`` for KL(θ‖θ_old); the same to second order.
    """

    target: float = 0.01
    rule: Literal["dual", "adaptive"] = "dual"
    rate: float = 10.0
    start: float = 1.0
    limit: float = 1000.0
    of: Literal["old", "new"] = "old"

    def __post_init__(self) -> None:
        if not self.target > 0 or not self.rate > 0 or not 0 <= self.start <= self.limit:
            raise ValueError(f"KLConstraint needs target > 0, rate > 0 and 0 ≤ start ≤ limit; got {self}")
        if self.rule not in ("dual", "adaptive") or self.of not in ("old", "new"):
            raise ValueError(f"KLConstraint.rule is dual or adaptive, and of is old or new; got {self}")

    def next_multiplier(self, multiplier: float, kl: float) -> float:
        """(4) or (5): β after an epoch, or a rollout, that came to this mean KL."""
        if self.rule == "dual":
            return min(max(0.0, multiplier + self.rate * (kl - self.target)), self.limit)
        factor = 2.0 if kl > 1.5 * self.target else 0.5 if kl < self.target / 1.5 else 1.0
        return min(max(LEAST, factor * multiplier), self.limit)


def penalized_surrogate_loss(
    log_ratio: Float[Tensor, " B"],
    advantage: Float[Tensor, " B"],
    kl: Float[Tensor, " B"],
    multiplier: Float[Tensor, ""],
) -> Float[Tensor, " B"]:
    """−ρ A + β KL per sample, (2)-(3): the Lagrangian but for the constant −β δ."""
    return multiplier * kl - log_ratio.exp() * advantage


class KLPPO(Agent):
    """Several epochs of policy-gradient steps on each rollout, held back by the price of divergence.

    Args:
        env: environment recipe, or its id.
        data: rollouts; their size is T · N.
        net: policy and critic.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of the advantage estimator.
        epochs: passes over each rollout.
        minibatch_size: B, rows per update; with a memory, rounded to whole environments.
        constraint: δ, and how the multiplier follows.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy
    multiplier: Tensor  # [] β
    value_weight = 0.5  # c_v

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=2.5e-4, eps=1e-5, max_grad_norm=0.5),
        gamma: float = 0.99,
        lam: float = 0.95,
        epochs: int = 4,
        minibatch_size: int = 256,
        constraint: KLConstraint = KLConstraint(),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(epochs >= 1, "epochs", epochs, "at least one pass is needed")
        self.require(minibatch_size >= 1, "minibatch_size", minibatch_size, "it counts rows, from 1")
        self.lam, self.epochs, self.minibatch_size, self.constraint = lam, epochs, minibatch_size, constraint
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.policy = self.networks.policy
        self.register_buffer("multiplier", torch.tensor(float(constraint.start)))

    def minibatches(self, data: Rollout) -> Iterator[Minibatch]:
        """(1), then epochs × shuffled minibatches, β following the divergence."""
        self.networks.update_statistics(data.obs)
        now = self.networks.evaluate(data)
        advantage, target = advantages_and_targets(self, data, now)
        old = self.policy.distribution(now.outputs)
        rows = None if self.networks.recurrent else all_rows(data, now, advantage, target, old)
        for epoch in range(self.epochs):
            if rows is None:
                yield from shuffled_segments(data, now, advantage, target, self.minibatch_size, old)
            else:
                yield from shuffled_rows(rows, self.minibatch_size)
            kl = self.divergence(data, old)
            last = epoch + 1 == self.epochs or kl > EARLY * self.constraint.target
            if last or self.constraint.rule == "dual":
                self.multiplier.fill_(self.constraint.next_multiplier(float(self.multiplier), kl))  # (4)-(5)
            if last:
                self.record(kl=kl, multiplier=float(self.multiplier), epochs=epoch + 1)
                return

    @torch.no_grad()
    def divergence(self, data: Rollout, old: Float[Tensor, "T N P"]) -> float:
        """Mean KL over the rollout's states, of all ranks, between the policy that began it and that of now."""
        obs = map_tensors(lambda tensor: tensor[:-1].flatten(0, 1), data.obs)
        new = self.policy.distribution(self.networks.evaluate(data).outputs).flatten(0, 1)
        return float(all_mean(self._kl(old.flatten(0, 1), new, obs).mean()))

    def _kl(self, old: Tensor, new: Tensor, obs: Observation) -> Tensor:
        return self.policy.kl(old, new, obs) if self.constraint.of == "old" else self.policy.kl(new, old, obs)

    def loss(self, batch: Minibatch) -> dict[str, Tensor]:
        """(2)-(3)."""
        outputs, value = self.networks(batch.obs, batch.state, batch.start)
        obs = rows_of(batch.obs, batch.start)
        outputs, value = outputs.float(), value.float()  # under mixed precision too, ρ begins at 1
        log_ratio = self.policy.log_prob(outputs, obs, batch.action) - batch.log_prob  # (2)
        assert batch.distribution is not None
        kl = self._kl(batch.distribution, self.policy.distribution(outputs), obs)
        self.record(entropy=self.policy.entropy(outputs, obs))
        advantage = standardized(batch.advantage)  # (1)
        return {
            "policy_loss": penalized_surrogate_loss(log_ratio, advantage, kl, self.multiplier).mean(),  # (3)
            "value_loss": 0.5 * self.value_weight * (value - batch.target).square().mean(),
        }
