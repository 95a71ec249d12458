"""Running statistics that live in checkpoints: of observations, and of discounted returns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_rl.collective import all_sum

EPSILON = 1e-8
LIMIT = 10.0


class Normalizer(nn.Module):
    """x → clip((x − mean) / √(var + ε), ±10) with the mean and variance of all data seen so far.

    Batches are merged by Chan et al. 1979, in float64, over all ranks of a distributed run, so that the
    order of the data does not matter and ranks agree. The identity until the first update.

    Args:
        size: D, the width of what is normalised.
    """

    count: Tensor  # [] float64, rows seen
    mean: Tensor  # [D] float64
    m2: Tensor  # [D] float64, Σ (x − mean)²
    shift: Tensor  # [D] the mean, in the dtype of the layers
    scale: Tensor  # [D] 1 / √(var + ε)
    bounds: Tensor  # [2] (−10, 10); infinite until the first update

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("bounds", torch.tensor([-torch.inf, torch.inf]))

    @property
    def variance(self) -> Tensor:
        """[D] float64, M2 / count; 1 before the first update."""
        return self.m2 / self.count if self.count > 0 else torch.ones_like(self.m2)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """[..., D] → [..., D], in the dtype of the layers."""
        return ((x - self.shift) * self.scale).clamp(self.bounds[0], self.bounds[1])

    def numpy(self) -> Callable[[np.ndarray], np.ndarray]:
        """The same on float32 arrays, through views that see later updates."""
        shift, scale, bounds = self.shift.numpy(), self.scale.numpy(), self.bounds.numpy()
        low, high = bounds[:1], bounds[1:]

        def normalize(x: np.ndarray) -> np.ndarray:
            x = x - shift
            x *= scale
            np.maximum(x, low, out=x)
            np.minimum(x, high, out=x)
            return x

        return normalize

    @torch.no_grad()
    def update(self, x: Float[Tensor, "*B D"]) -> None:
        """Take rows into the statistics. In a distributed run every rank must call this equally often."""
        x = x.to(self.mean).reshape(-1, self.mean.numel())
        count = all_sum(torch.full_like(self.count, len(x)))
        if count == 0:
            return
        mean = all_sum(x.sum(0)) / count
        m2 = all_sum((x - mean).square().sum(0))
        total = self.count + count
        difference = mean - self.mean
        # in place throughout: worker processes and numpy views share this memory
        self.mean += difference * (count / total)
        self.m2 += m2 + difference.square() * (self.count * count / total)
        self.count.copy_(total)
        self.shift.copy_(self.mean)
        self.scale.copy_((self.variance + EPSILON).rsqrt())
        self.bounds.copy_(torch.tensor([-LIMIT, LIMIT]))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        statistics = {name: getattr(self, name) for name in ("count", "mean", "m2")}
        super()._apply(fn, recurse)
        for name, tensor in statistics.items():  # a change of precision is for the layers, not for running sums
            moved = getattr(self, name)
            if moved.dtype != tensor.dtype:
                setattr(self, name, tensor.to(moved.device))
        return self


class ReturnNormalizer(nn.Module):
    """r → clip(r / √(var(R) + ε), ±10), R the discounted return of each env so far: R ← γ R (1 − done) + r.

    Scales rewards without moving their zero. The running ``returns`` belong to the envs of one rank;
    the statistics are of all ranks.

    Args:
        num_envs: N.
        gamma: γ of the running return.
    """

    returns: Tensor  # [N] float64, of the episodes in progress

    def __init__(self, num_envs: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.statistics = Normalizer(1)
        self.register_buffer("returns", torch.zeros(num_envs, dtype=torch.float64))

    def forward(self, reward: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Rewards → scaled rewards, of any shape."""
        low, high = self.statistics.bounds
        return (reward * self.statistics.scale).clamp(low, high)

    @torch.no_grad()
    def update(self, reward: Float[Tensor, "T N"], done: Bool[Tensor, "T N"]) -> None:
        """Take T further steps of the N envs into the statistics; ``done`` starts a return anew after its step."""
        history = []
        for r, alive in zip(reward.to(self.returns), (~done).to(self.returns), strict=True):
            self.returns.mul_(self.gamma).add_(r)
            history.append(self.returns.clone())
            self.returns.mul_(alive)
        self.statistics.update(torch.stack(history).reshape(-1, 1))
