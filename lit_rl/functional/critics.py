"""Losses of critics of continuous actions. Formula sheet: 7.5.3a, 15.6.5a, H4."""

from jaxtyping import Float
from torch import Tensor


def critics_loss(q: Float[Tensor, "E B"], target: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Σ_e ½ (q_e(s, a) − y)² per sample, for one critic or several (Lillicrap et al. 2016; Fujimoto et al. 2018)."""
    return 0.5 * (q - target).square().sum(0)
