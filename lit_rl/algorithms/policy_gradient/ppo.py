"""Proximal policy optimisation with a clipped surrogate (PPO).

Paper    Schulman et al. 2017, section 3 and Algorithm 1.       Formula sheet: 8.3a, 5.6.2a, G1
Update   A_t  = GAE(λ), standardised over the minibatch                                       (1)
         ρ    = exp(log π(a|s; θ) − log π(a|s; θ_old))                                        (2)
         L(θ) = −mean min(ρ A, clip(ρ, 1 − c, 1 + c) A)                                       (3)
              + ½ c_v mean (V(s) − G)²  −  c_H mean H(π(·|s)),   G_t = A_t + V_old(s_t)       (4)
Data     Rollouts: T steps of N environments, then epochs × shuffled minibatches over them.
Differs  Old log-probabilities and values are recomputed in one batch after collecting, which is faster
         and right under mixed precision. With ``data.workers`` the data lag, and V-trace (H1) takes the
         place of GAE. Epochs stop early where the KL estimate exceeds 1.5 ``target_kl``.
"""

from collections.abc import Iterator

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
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.statistics import approx_kl
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy
from lit_rl.safeguards import mean_over_ranks
from lit_rl.schedules import Scheduled, as_schedule


def clipped_surrogate_loss(
    log_ratio: Float[Tensor, " B"], advantage: Float[Tensor, " B"], clip: float
) -> Float[Tensor, " B"]:
    """−min(ρ A, clip(ρ, 1 − c, 1 + c) A) per sample, (2)-(3)."""
    ratio = log_ratio.exp()
    return -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


class PPO(Agent):
    """Several epochs of clipped policy-gradient steps on each rollout.

    Args:
        env: environment recipe, or its id.
        data: rollouts; their size is T · N.
        net: policy and critic.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of the advantage estimator.
        epochs: passes over each rollout.
        minibatch_size: B, rows per update; with a memory, rounded to whole environments.
        clip: c, how far the ratio counts; may be scheduled over env steps.
        entropy_weight: c_H.
        target_kl: stop the epochs early beyond 1.5 times this divergence; null never does.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy
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
        clip: Scheduled = 0.2,
        entropy_weight: float = 0.0,
        target_kl: float | None = None,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(epochs >= 1, "epochs", epochs, "at least one pass is needed")
        self.require(minibatch_size >= 1, "minibatch_size", minibatch_size, "it counts rows, from 1")
        self.require(target_kl is None or target_kl > 0, "target_kl", target_kl, "it is positive, or null for none")
        self.lam, self.epochs, self.minibatch_size = lam, epochs, minibatch_size
        self.clip, self.entropy_weight, self.target_kl = as_schedule(clip), entropy_weight, target_kl
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.policy = self.networks.policy
        self._clip_now = self.clip(0)
        self._last_kl = torch.zeros(())

    def minibatches(self, data: Rollout) -> Iterator[Minibatch]:
        """(1), then epochs × shuffled minibatches."""
        self._clip_now = self.clip(self.env_steps)
        self.networks.update_statistics(data.obs)
        now = self.networks.evaluate(data)
        advantage, target = advantages_and_targets(self, data, now)
        rows = None if self.networks.recurrent else all_rows(data, now, advantage, target)
        for _ in range(self.epochs):
            if rows is None:
                yield from shuffled_segments(data, now, advantage, target, self.minibatch_size)
            else:
                yield from shuffled_rows(rows, self.minibatch_size)
            if self.target_kl is not None and mean_over_ranks(self._last_kl, self.trainer) > 1.5 * self.target_kl:
                return

    def loss(self, batch: Minibatch) -> dict[str, Tensor]:
        """(2)-(4)."""
        outputs, value = self.networks(batch.obs, batch.state, batch.start)
        obs = rows_of(batch.obs, batch.start)
        outputs, value = outputs.float(), value.float()  # under mixed precision too, ρ begins at 1
        log_ratio = self.policy.log_prob(outputs, obs, batch.action) - batch.log_prob  # (2)
        entropy = self.policy.entropy(outputs, obs).mean()
        advantage = standardized(batch.advantage)  # (1)
        self._diagnose(log_ratio.detach(), entropy.detach())
        return {
            "policy_loss": clipped_surrogate_loss(log_ratio, advantage, self._clip_now).mean(),  # (3)
            "value_loss": 0.5 * self.value_weight * (value - batch.target).square().mean(),  # (4)
            "entropy_loss": -self.entropy_weight * entropy,
        }

    def _diagnose(self, log_ratio: Tensor, entropy: Tensor) -> None:
        self._last_kl = approx_kl(log_ratio)
        clipped = (log_ratio.exp() - 1).abs() > self._clip_now
        self.record(kl=self._last_kl, clip_fraction=clipped, entropy=entropy)
