"""min ½ uᵀHu + gᵀu over a box, for many small problems at once, by projected Newton steps.

Paper: Bertsekas 1982; Tassa, Mansard & Todorov 2014, section III. Formula sheet: 9.2.1a.

    held  = (u = low and ∂ > 0) or (u = high and ∂ < 0),  ∂ = g + Hu            (1)
    Δ     = −H_ff⁻¹ ∂_f on the free, 0 on the held                               (2)
    u     ← clip(u + αΔ),  α the first of 1, ½, ¼ … that descends enough         (3)
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HALVINGS, SUFFICIENT = 14, 0.1


class BoxSolution(NamedTuple):
    """The minimiser, and which of its numbers no bound holds."""

    action: Tensor  # [*B, A]
    free: Tensor  # [*B, A], bool
    factor: Tensor  # [*B, A, A], Cholesky factor of H on the free; the identity on the held


def box_qp(
    hessian: Float[Tensor, "*B A A"],
    gradient: Float[Tensor, "*B A"],
    low: Float[Tensor, "*B A"],
    high: Float[Tensor, "*B A"],
    iterations: int = 30,
    tolerance: float = 1e-12,
) -> BoxSolution:
    """Minimise from the clipped free minimum.

    Args:
        hessian: H, positive definite.
        gradient: g.
        low: −∞ where there is no bound.
        high: ∞ likewise.
        iterations: at most so many Newton steps; each finds out which bounds hold, and few are needed.
        tolerance: of |∂_f| relative to the largest |g|.
    """
    action = _newton(_factor(hessian), gradient).clamp(low, high)
    steps = 0.5 ** torch.arange(HALVINGS, dtype=action.dtype, device=action.device)
    enough = tolerance * (1.0 + gradient.abs().amax(-1))
    done = torch.zeros_like(enough, dtype=torch.bool)
    for _ in range(iterations):
        slope = gradient + (hessian @ action.unsqueeze(-1)).squeeze(-1)
        free = _free(action, slope, low, high)
        factor = _factor(_restricted(hessian, free))
        done = done | ((slope * free).abs().amax(-1) <= enough)
        if done.all():
            break
        step = _newton(factor, slope * free)  # (2)
        tried = (action + steps.view(-1, *[1] * action.ndim) * step).clamp(low, high)  # [halvings, *B, A]
        moved = tried - action
        change = (moved * (slope + 0.5 * (hessian @ moved.unsqueeze(-1)).squeeze(-1))).sum(-1)
        good = change <= SUFFICIENT * (moved * slope).sum(-1)
        which = good.int().argmax(0)
        chosen = tried.gather(0, which[None, ..., None].expand_as(tried[:1])).squeeze(0)
        stuck = ~good.any(0)  # rounding: nothing is better
        action = torch.where((done | stuck).unsqueeze(-1), action, chosen)  # (3)
        done = done | stuck
    return BoxSolution(action, free, factor)


def _free(action: Tensor, slope: Tensor, low: Tensor, high: Tensor) -> Bool[Tensor, "*B A"]:
    return ~(((action <= low) & (slope > 0)) | ((action >= high) & (slope < 0)))  # (1)


def _restricted(hessian: Tensor, free: Tensor) -> Tensor:
    both = free.unsqueeze(-1) & free.unsqueeze(-2)
    return torch.where(both, hessian, torch.zeros_like(hessian)) + torch.diag_embed((~free).to(hessian.dtype))


def _factor(hessian: Tensor) -> Tensor:
    return torch.linalg.cholesky_ex(hessian).L  # without a check, which would be one more wait for a GPU


def _newton(factor: Tensor, slope: Tensor) -> Tensor:
    return -torch.cholesky_solve(slope.unsqueeze(-1), factor).squeeze(-1)
