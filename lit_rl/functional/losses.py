"""Losses of learners of values: means over rows, which may have weights. Formula sheet: 7.6a, H2."""

import torch
from jaxtyping import Float
from torch import Tensor


def weighted_mean(loss: Float[Tensor, " B"], weight: Float[Tensor, " B"] | None = None) -> Float[Tensor, ""]:
    """1/B Σ_b w_b ℓ_b, for the importance weights of a prioritised replay; without any, all are 1."""
    return loss.mean() if weight is None else (weight * loss).mean()


def huber_loss(
    error: Float[Tensor, " B"], delta: float, weight: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """1/B Σ_b w_b huber(e_b): ½ e² up to |e| = δ, δ (|e| − ½ δ) beyond (Huber 1964; Mnih et al. 2015)."""
    zero = torch.zeros_like(error)
    if weight is None:
        return torch.nn.functional.huber_loss(error, zero, delta=delta)  # one kernel for the mean too
    return weighted_mean(torch.nn.functional.huber_loss(error, zero, reduction="none", delta=delta), weight)
