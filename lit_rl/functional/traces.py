"""Eligibility traces: what an online step credits with its TD error, by going backwards in time. Formula sheet: 5.6.1b.

One row per environment. ``decay`` is γλ, and 0 where the step before ended an episode.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def accumulating_trace(
    trace: Float[Tensor, "N P"], gradient: Float[Tensor, "N P"], decay: Float[Tensor, " N"]
) -> Float[Tensor, "N P"]:
    """e ← γλ e + ∇: summed over a batch of frozen weights, Σ δ_t e_t = Σ ∇_t A_t with the λ-return's A.

    Source: Sutton and Barto 2018, section 12.2. Formula sheet: 5.6.1b.
    """
    return decay.unsqueeze(-1) * trace + gradient


@torch.no_grad()
def replacing_trace(
    trace: Float[Tensor, "N P"], features: Float[Tensor, "N P"], decay: Float[Tensor, " N"]
) -> Float[Tensor, "N P"]:
    """e ← γλ e, then 1 where the binary feature is on: a state visited twice is not credited twice.

    Source: Singh and Sutton 1996. Formula sheet: 5.6.1b.
    """
    return torch.where(features > 0, 1.0, decay.unsqueeze(-1) * trace)


class TrueOnline(NamedTuple):
    """What true online TD(λ) carries from step to step."""

    weights: Tensor  # [D]
    trace: Tensor  # [D], Dutch
    old_value: Tensor  # [], of this step's state under the weights before the last update; 0 at an episode's start


@torch.no_grad()
def true_online_td(
    carry: TrueOnline,
    features: Float[Tensor, " D"],
    next_features: Float[Tensor, " D"],
    reward: float,
    discount: float,
    decay: float,
    lr: float,
) -> TrueOnline:
    """One step of linear true online TD(λ), which equals the online λ-return algorithm exactly.

        e ← γλ e + (1 − α γλ eᵀx) x
        w ← w + α (δ + wᵀx − v_old) e − α (wᵀx − v_old) x,   δ = r + γ(1 − terminated) wᵀx' − wᵀx
        v_old ← wᵀx' with w from before

    Source: van Seijen et al. 2016, Algorithm 1. Formula sheet: 5.6.1b.

    Args:
        carry: zeros for trace and old value at an episode's start.
        discount: γ(1 − terminated).
        decay: γλ.
    """
    weights, trace, old_value = carry
    value, next_value = weights @ features, weights @ next_features
    trace = decay * trace + (1 - lr * decay * (trace @ features)) * features
    delta = reward + discount * next_value - value
    weights = weights + lr * (delta + value - old_value) * trace - lr * (value - old_value) * features
    return TrueOnline(weights, trace, next_value)
