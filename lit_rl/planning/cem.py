"""The cross-entropy method over a box, for many problems at once, with and without memory.

A Gaussian is moved to the best of its own samples:

    a_i ~ N(m, s²), clipped to the box;  E = the M best                              (1)
    m ← β m + (1 − β) mean(E),  s² ← max(β s² + (1 − β) var(E), floor²)              (2)

Rubinstein & Kroese 2004; with falling numbers of samples, elites that come back and coloured noise it is iCEM
(Pinneri et al. 2020). Formula sheet: 9.0.2a, G8.

Shapes: B problems, N candidates, D dimensions of a candidate (of a plan: H·A). An axis of length 1 in place of B
shares the random numbers among the problems.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Value = Callable[[Tensor], Tensor]  # [B, N, D] → [B, N]


class Maximum(NamedTuple):
    """The best candidate that was looked at, for each problem."""

    action: Tensor  # [B, D]
    value: Tensor  # [B]


class Fit(NamedTuple):
    """What the cross-entropy method ends with."""

    mean: Tensor  # [B, D]
    deviation: Tensor  # [B, D]
    kept: Tensor  # [B, K, D], the best candidates of the last iteration, the best first
    best: Maximum  # of all iterations


def better_of(action: Tensor, value: Tensor, before: Maximum | None = None) -> Maximum:
    """The best of candidates [B, N, D] with values [B, N], and of what was best before."""
    highest, which = value.max(-1)
    found = Maximum(action.gather(1, which[:, None, None].expand(-1, 1, action.shape[-1])).squeeze(1), highest)
    if before is None:
        return found
    better = found.value > before.value
    return Maximum(torch.where(better[:, None], found.action, before.action), torch.maximum(highest, before.value))


@torch.no_grad()
def cross_entropy(
    value: Value,
    low: Float[Tensor, " D"],
    high: Float[Tensor, " D"],
    normals: Sequence[Tensor] | Tensor,
    mean: Float[Tensor, "B D"],
    deviation: Float[Tensor, "#B D"],
    elites: int,
    momentum: float = 0.0,
    floor: Float[Tensor, " D"] | float = 0.0,
    returning: Tensor | None = None,
    keep: int = 0,
) -> Fit:
    """max ``value`` over the box by (1)-(2), one iteration for each of ``normals`` [B, N, D].

    Args:
        value: of candidates; what is not a number must come as −∞.
        low: of the box, −∞ allowed.
        high: of the box.
        normals: standard normal numbers, as many of an iteration as it has samples.
        mean: m at first.
        deviation: s at first.
        elites: M.
        momentum: β.
        floor: least s, against a variance that collapses before the mean has arrived.
        returning: [B, K, D], candidates that join the first iteration.
        keep: K elites join the next iteration; then the mean joins the last one too (iCEM).
    """
    mean, spread = mean.unsqueeze(1), deviation.unsqueeze(1)
    best: Maximum | None = None
    kept = mean[:, :0] if returning is None else returning
    for iteration, normal in enumerate(normals):
        pool = torch.minimum(torch.maximum(mean + spread * normal, low), high)
        joining = [pool, kept]
        if keep and iteration == len(normals) - 1:
            joining.append(mean)
        if kept.shape[1] or len(joining) > 2:
            pool = torch.cat(joining, 1)
        found = value(pool)
        best = better_of(pool, found, best)
        which = found.topk(min(elites, found.shape[-1]), dim=-1).indices
        elite = pool.gather(1, which[..., None].expand(-1, -1, pool.shape[-1]))
        kept = elite[:, :keep]
        fitted, width = elite.mean(1, keepdim=True), elite.std(1, keepdim=True, correction=0)
        if momentum:
            fitted = torch.lerp(fitted, mean, momentum)
            width = torch.lerp(width.square(), spread.square(), momentum).sqrt()
        mean, spread = fitted, width.clamp(min=floor)
    if best is None:
        raise ValueError("cross_entropy: no iterations; give normals for at least one")
    return Fit(mean.squeeze(1), spread.squeeze(1), kept, best)
