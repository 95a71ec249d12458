"""Covariance matrix adaptation by pycma, for many problems side by side. Formula sheet: 9.0.2b.

Hansen & Ostermeier 2001; Hansen 2016. The populations of all problems are valued together, but pycma adapts one
covariance at a time, about a millisecond each. A problem of a single dimension gets a second one without influence,
since pycma wants two.

Shapes: B problems, N candidates, D dimensions of a candidate.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.cem import Maximum, Value, better_of
from lit_rl.planning.trajectory import centre_of, half_width_of

_WORST = 1e300


def require_pycma(what: str) -> None:
    """Refuse ``what`` where pycma is missing.

    Raises:
        ImportError: pycma is not installed.
    """
    if find_spec("cma") is None:
        raise ImportError(f"{what} needs pycma, which is not installed: pip install 'lit_rl[cma]'")


def population_size(dimensions: int) -> int:
    """pycma's own choice, 4 + ⌊3 log D⌋."""
    return 4 + math.floor(3 * math.log(max(2, dimensions)))


@torch.no_grad()
def cma_es(
    value: Value,
    low: Float[Tensor, " D"],
    high: Float[Tensor, " D"],
    normals: Tensor,
    mean: Float[Tensor, "B D"],
    sigma: float,
    enough: Callable[[Maximum], bool] | None = None,
) -> Maximum:
    """max ``value`` over the box, one generation for each of ``normals`` [G, B, N, D], D at least 2.

    Args:
        value: of candidates [B, N, D].
        low: of the box; −∞ where it has no end, and then ``high`` is +∞.
        high: of the box.
        normals: all the randomness that is used.
        mean: where to begin.
        sigma: first standard deviation, in halves of the box's width (1 where there is no box).
        enough: stops before the last generation.
    """
    bounded = low.isfinite() & high.isfinite()
    centre, half = centre_of(low, high), half_width_of(low, high)
    limits = None
    if bounded.any():
        idle = [True] * (normals.shape[-1] - len(low))
        limits = [[side if finite else None for finite in bounded.tolist() + idle] for side in (-1.0, 1.0)]
    drawn = normals.expand(-1, len(mean), -1, -1).double().cpu().numpy()
    starts = ((mean - centre) / half).double().cpu().numpy()
    searches = [_search(drawn[:, row], start, sigma, limits) for row, start in enumerate(starts)]
    best: Maximum | None = None
    for _ in range(len(normals)):
        asked = [search.ask() for search in searches]
        points = torch.as_tensor(np.array(asked), dtype=low.dtype, device=low.device)
        action = centre + half * points[..., : len(low)]
        found = value(action)
        best = better_of(action, found, best)
        cost = -found.double().clamp(min=-_WORST).cpu().numpy()  # pycma wants numbers
        for search, of_search, costs in zip(searches, asked, cost, strict=True):
            search.tell(of_search, costs.tolist())
        if enough is not None and enough(best):
            break
    assert best is not None
    return best


def _search(normals: np.ndarray, start: np.ndarray, sigma: float, bounds: list[list[float | None]] | None) -> Any:
    """One search that uses these normals [G, N, D], and no other randomness."""
    import cma

    place = count()

    def stored(*shape: int) -> np.ndarray:  # pycma asks for fewer than N where it adds points of its own
        wanted = [next(place) for _ in range(math.prod(shape))]
        return normals.take(wanted, mode="wrap").reshape(shape)

    options = {
        "bounds": bounds,
        "popsize": normals.shape[1],
        "randn": stored,
        "seed": np.nan,  # leave numpy's own stream alone
        "verbose": -9,
    }
    full = np.zeros(normals.shape[-1])
    full[: len(start)] = start
    return cma.CMAEvolutionStrategy(full, sigma, {key: value for key, value in options.items() if value is not None})
