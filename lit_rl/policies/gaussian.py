"""Policies over continuous actions."""

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.batch import Observation
from lit_rl.functional.distributions import (
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    squashed_gaussian_sample,
)
from lit_rl.nn.network import BuiltBody
from lit_rl.policies.network import NetworkPolicy

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class GaussianPolicy(NetworkPolicy):
    """a ~ N(head(body(s)), diag σ²) with one σ per dimension that does not depend on the state.

    Actions are in the environment's units and may leave its box: they are clipped where they are
    executed, and the log-probability is that of the action before clipping.
    """

    def __init__(self, body: BuiltBody, head: nn.Module, space: gymnasium.spaces.Box, log_std: float = 0.0) -> None:
        super().__init__(body, head)
        self.log_std = nn.Parameter(torch.full((int(np.prod(space.shape)),), float(log_std)))
        self.shape = space.shape
        self._log_std_now = np.full(len(self.log_std), log_std, np.float32)

    def refresh(self) -> None:
        """Also read σ."""
        super().refresh()
        self._log_std_now = self.log_std.detach().float().cpu().numpy().copy()

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """See :meth:`NetworkPolicy.choose`."""
        if not explore:
            return outputs.reshape(outputs.shape[0], *self.shape), np.zeros(len(outputs), np.float32)
        noise = rng.standard_normal(outputs.shape, dtype=np.float32)
        action = outputs + np.exp(self._log_std_now) * noise
        log_prob = -0.5 * (noise * noise).sum(-1) - (
            self._log_std_now.sum() + 0.5 * noise.shape[-1] * math.log(2 * math.pi)
        )
        return action.reshape(outputs.shape[0], *self.shape), log_prob

    def log_prob(self, outputs: Tensor, obs: Observation, action: Tensor) -> Tensor:
        """log N(a; mean, σ²) [B], summed over the dimensions of actions [B, A], given the means [B, A]."""
        return gaussian_log_prob(outputs, self.log_std, action.reshape(outputs.shape))

    def entropy(self, outputs: Tensor, obs: Observation) -> Tensor:
        """Differential entropy [B] in nats."""
        return gaussian_entropy(outputs, self.log_std)

    def distribution(self, outputs: Tensor) -> Tensor:
        """All that determines π(·|s) [B, 2A]: the means, and log σ beside them."""
        return torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)

    def kl(self, p: Tensor, q: Tensor, obs: Observation) -> Tensor:
        """KL(p‖q) [B] of distributions [B, 2A] of the same observations."""
        (mean_p, log_std_p), (mean_q, log_std_q) = p.chunk(2, dim=-1), q.chunk(2, dim=-1)
        return gaussian_kl(mean_p, log_std_p, mean_q, log_std_q)

    def greedy(self, obs: Observation) -> Tensor:
        """The mean [B, A]."""
        outputs = self.outputs(obs)
        return outputs.reshape(outputs.shape[0], *self.shape)


class SquashedGaussianPolicy(NetworkPolicy):
    """a = centre + half_width · tanh(u), u ~ N(μ(s), σ(s)²), inside the bounds of a Box.

    Formula sheet 0.4. The head gives [μ, log σ] side by side, log σ clamped to [−5, 2].
    """

    centre: Tensor
    half_width: Tensor

    def __init__(self, body: BuiltBody, head: nn.Module, space: gymnasium.spaces.Box) -> None:
        super().__init__(body, head)
        low, high = (np.asarray(bound, np.float32).reshape(-1) for bound in (space.low, space.high))
        self.register_buffer("centre", torch.from_numpy((high + low) / 2))
        self.register_buffer("half_width", torch.from_numpy((high - low) / 2))
        self.shape = space.shape
        self._centre, self._half_width = (high + low) / 2, (high - low) / 2
        self._log_scale = np.float32((np.log(4 * self._half_width) + 0.5 * math.log(2 * math.pi)).sum())

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """See :meth:`NetworkPolicy.choose`."""
        rows, size = len(outputs), len(self._centre)
        u = outputs[:, :size]
        if explore:
            log_std = np.minimum(np.maximum(outputs[:, size:], LOG_STD_MIN), LOG_STD_MAX)
            noise = rng.standard_normal(u.shape, dtype=np.float32)
            u = u + np.exp(log_std) * noise
            # log N + log |du/da| up to a constant; log(1 − tanh²u) is 2 (log 2 − u − softplus(−2u))
            terms = -0.5 * noise * noise - log_std + 2 * (u + np.logaddexp(np.float32(0), -2 * u))
            log_prob = terms.sum(-1) - self._log_scale
        else:
            log_prob = np.zeros(rows, np.float32)
        action = self._centre + self._half_width * np.tanh(u)
        return action.reshape(rows, *self.shape), log_prob

    def sample(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """Reparameterised actions [B, A] and log π(a|s) [B]: gradients flow to the policy through both."""
        mean, log_std = self.outputs(obs).chunk(2, dim=-1)
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        action, _, log_prob = squashed_gaussian_sample(
            mean, log_std, torch.randn_like(mean), self.half_width, self.centre
        )
        return action.reshape(mean.shape[0], *self.shape), log_prob

    def greedy(self, obs: Observation) -> Tensor:
        """The squashed mean [B, A]."""
        mean, _ = self.outputs(obs).chunk(2, dim=-1)
        return (self.centre + self.half_width * torch.tanh(mean)).reshape(mean.shape[0], *self.shape)
