"""Rewards that set an expert apart from other policies: quadratic programmes and projections, in numpy.

Formula sheet: 16.0.2a, 16.0.2b.
"""

from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Margin(NamedTuple):
    """A reward ψ and what it is worth."""

    psi: Array  # [D]
    margin: float  # by which the expert beats the policies found; smaller than 0: it does not
    weight: Array  # [J], of the policies in their mixture


def max_margin(expert: Array, found: Array) -> Margin:
    """max_{m, |ψ| ≤ 1} m with ψ·μ_E ≥ ψ·μ_j + m: the way from the hull of the μ_j [J, D] to μ_E [D].

    Its dual is the nearest point of the hull, min ‖Σ_j λ_j (μ_E − μ_j)‖ over distributions λ. Abbeel & Ng 2004.
    """
    apart = expert - found
    weight = minimise_on_simplex(apart @ apart.T, np.zeros(len(found)), 1.0, equality=True)
    nearest = weight @ apart
    length = float(np.linalg.norm(nearest))
    return Margin(nearest / max(length, 1e-12), length, weight)


def soft_margin(expert: Array, found: Array, distance: Array, cost: float) -> Margin:
    """min ½|ψ|² + C ξ with ψ·μ_E ≥ ψ·μ_j + D_j − ξ, ξ ≥ 0: margins that grow with the difference. Ratliff et al. 2006.

    Its dual is max Σ λ_j D_j − ½‖Σ_j λ_j (μ_E − μ_j)‖² over λ ≥ 0, Σ λ ≤ C; ψ = Σ_j λ_j (μ_E − μ_j).
    """
    apart = expert - found
    weight = minimise_on_simplex(apart @ apart.T, distance, cost, equality=False)
    psi = weight @ apart
    return Margin(psi, float((apart @ psi).min()), weight / max(weight.sum(), 1e-12))


def project(expert: Array, reached: Array, found: Array) -> Array:
    """μ̄ + ((μ − μ̄)·(μ_E − μ̄)/|μ − μ̄|²)(μ − μ̄), the step kept in [0, 1]: closer to μ_E on the way to a new μ."""
    way = found - reached
    length = way @ way
    if length < 1e-24:
        return reached
    return reached + min(max(way @ (expert - reached) / length, 0.0), 1.0) * way


def minimise_on_simplex(gram: Array, linear: Array, total: float, equality: bool, iterations: int = 20_000) -> Array:
    """argmin ½λᵀGλ − bᵀλ over λ ≥ 0 with Σ λ = ``total`` (or ≤, without ``equality``), by FISTA with restarts.

    Beck & Teboulle 2009; O'Donoghue & Candès 2015 for the restart.
    """
    size = len(linear)
    step = 1.0 / max(float(np.linalg.eigvalsh(gram)[-1]), 1e-12)
    point = np.full(size, total / size)
    ahead, momentum = point, 1.0
    for _ in range(iterations):
        moved = _onto_simplex(ahead - step * (gram @ ahead - linear), total, equality)
        change = moved - point
        if np.abs(moved - ahead).max() <= 1e-13 * total:
            return moved
        if (ahead - moved) @ change > 0:
            momentum, ahead = 1.0, moved
        else:
            following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
            ahead, momentum = moved + (momentum - 1.0) / following * change, following
        point = moved
    return point


def _onto_simplex(point: Array, total: float, equality: bool) -> Array:
    """The nearest λ ≥ 0 with that sum: Duchi et al. 2008."""
    positive = np.maximum(point, 0.0)
    if not equality and positive.sum() <= total:
        return positive
    ordered = np.sort(point)[::-1]
    excess = (ordered.cumsum() - total) / np.arange(1, len(point) + 1)
    return np.maximum(point - excess[np.flatnonzero(ordered > excess)[-1]], 0.0)
