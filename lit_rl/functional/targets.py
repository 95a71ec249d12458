"""Target networks: slow copies of the weights that are learnt. Formula sheet: 7.1b, 7.1c."""

from collections.abc import Iterable

import torch
from torch import Tensor


def _pairs(target: Iterable[Tensor], online: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    to, source = list(target), list(online)
    if len(to) != len(source):
        raise ValueError(f"target update: {len(to)} target tensors for {len(source)} online ones; pass equal networks")
    return to, source


@torch.no_grad()
def polyak_update(target: Iterable[Tensor], online: Iterable[Tensor], tau: float) -> None:
    """θ⁻ ← (1 − τ) θ⁻ + τ θ in place: ``tau`` is the weight of the new.

    For parameters; pass buffers (statistics, counters) to :func:`hard_update`. After k updates towards a
    fixed θ: θ⁻ₖ − θ = (1 − τ)ᵏ (θ⁻₀ − θ). Source: Lillicrap et al. 2016.

    Args:
        target: the tensors to change; a list kept by the caller saves walking the modules each time.
        online: as many tensors of the same shapes.
        tau: in [0, 1].

    Raises:
        ValueError: the two have different lengths.
    """
    to, source = _pairs(target, online)
    if to:
        torch._foreach_lerp_(to, source, tau)


@torch.no_grad()
def hard_update(target: Iterable[Tensor], online: Iterable[Tensor]) -> None:
    """θ⁻ ← θ in place, for parameters or buffers of any dtype. Source: Mnih et al. 2015.

    Raises:
        ValueError: the two have different lengths.
    """
    to, source = _pairs(target, online)
    if to:
        torch._foreach_copy_(to, source)
