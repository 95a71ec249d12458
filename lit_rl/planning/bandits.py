"""Exploration where it is exact: indices, information, and the Bayes-optimal play of bandits, in numpy.

Formula sheet: 12.0a–12.0.3b, G20.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch

Array = np.ndarray
TINY = 1e-12


class Optimum(NamedTuple):
    """What a posterior with independent arms says about the best of them."""

    probability: Array  # [A], p(A* = a)
    mean_given: Array  # [A, A], E[θ_a | A* = b] at [b, a]
    maximum: float  # E[max_a θ_a]


def pseudo_regret(means: Array, counts: Array) -> float:
    """T max_a μ_a − Σ_a N_a μ_a, from the true means [A] and how often each arm was pulled [A]."""
    return float(counts @ (means.max() - means))


def lai_robbins_slope(means: Array) -> float:
    """Σ_{gap > 0} gap_a / KL(ν_a‖ν_*) for Bernoulli arms: no consistent rule's regret grows slower than this · ln T."""
    gaps = means.max() - means
    worse = gaps > 0
    return float((gaps[worse] / _bernoulli_kl(means[worse], np.full(worse.sum(), means.max()))).sum())


def ucb1(mean: Array, counts: Array, pulls: int, width: float = 1.0) -> Array:
    """mean + width √(2 ln t / N) [A]; infinite for an arm never pulled. Auer, Cesa-Bianchi & Fischer 2002.

    Args:
        mean: empirical means [A] of rewards in [0, 1]; scale ``width`` by another range.
        counts: N_a [A].
        pulls: t, so far.
        width: factor of the bonus.
    """
    with np.errstate(divide="ignore"):
        return np.where(
            counts > 0, mean + width * np.sqrt(2.0 * np.log(max(pulls, 1)) / np.maximum(counts, TINY)), np.inf
        )


def ucb1_bound(means: Array, pulls: int) -> float:
    """8 Σ ln T/gap + (1 + π²/3) Σ gap: UCB1's expected regret is below it."""
    gaps = means.max() - means
    gaps = gaps[gaps > 0]
    return float(8.0 * (np.log(pulls) / gaps).sum() + (1.0 + np.pi**2 / 3.0) * gaps.sum())


def bernoulli_entropy(p: Array) -> Array:
    """−p ln p − (1 − p) ln(1 − p)."""
    return -(_xlogy(p, p) + _xlogy(1.0 - p, 1.0 - p))


def beta_information(alpha: Array, beta: Array) -> Array:
    """I(θ_a; Y_a) of one pull of a Beta(α, β) arm [A]: the expected drop of the posterior's entropy."""
    total, mean = alpha + beta, alpha / (alpha + beta)
    won, lost = (
        mean * (_digamma(alpha + 1) - _digamma(total + 1)),
        (1 - mean) * (_digamma(beta + 1) - _digamma(total + 1)),
    )
    return bernoulli_entropy(mean) + won + lost


def gaussian_information(variance: Array, noise: float) -> Array:
    """½ ln(1 + s₀²/s²): of one pull of an arm with posterior variance s₀² and noise variance s² = ``noise``."""
    return 0.5 * np.log1p(variance / noise)


def posterior_optimum(grid: Array, density: Array) -> Optimum:
    """Quadrature for independent arms. Russo & Van Roy 2014, algorithm 2.

    Args:
        grid: [G], equally spaced values of θ.
        density: [A, G], each row's probability at the grid's points, up to a factor.
    """
    mass = density / density.sum(-1, keepdims=True)
    below = mass.cumsum(-1) - 0.5 * mass  # P(θ_c < x), half of a tie
    partial = (mass * grid).cumsum(-1) - 0.5 * mass * grid  # E[θ_a; θ_a < x]
    arms = len(mass)
    probability, given = np.zeros(arms), np.zeros((arms, arms))
    for b in range(arms):
        others = [c for c in range(arms) if c != b]
        weight = mass[b] * below[others].prod(0)
        probability[b] = weight.sum()
        given[b, b] = weight @ grid
        for a in others:
            rest = [c for c in others if c != a]
            given[b, a] = (mass[b] * below[rest].prod(0)) @ partial[a]
    given /= np.maximum(probability, TINY)[:, None]
    probability = probability / probability.sum()
    return Optimum(probability, given, float(probability @ given.diagonal()))


def optimal_action_information(optimum: Optimum, mean: Array) -> Array:
    """I(A*; Y_a) [A] for Bernoulli rewards: Σ_b p(A* = b) KL(E[θ_a|A* = b] ‖ E[θ_a])."""
    return optimum.probability @ _bernoulli_kl(np.clip(optimum.mean_given, 0.0, 1.0), mean[None])


def optimal_action_variance(optimum: Optimum, mean: Array) -> Array:
    """Var_{A*}(E[θ_a|A*]) [A]; twice it bounds I(A*; Y_a) from below for rewards in [0, 1]."""
    return optimum.probability @ np.square(optimum.mean_given - mean[None])


def information_ratio(delta: Array, gain: Array, policy: Array) -> float:
    """(π·Δ)² / (π·g)."""
    return float((policy @ delta) ** 2 / max(policy @ gain, TINY))


def deterministic_ids(delta: Array, gain: Array) -> Array:
    """The action that minimises Δ²/g, as a distribution [A]; an action without regret is always best."""
    ratio = np.where(delta <= 0, 0.0, np.square(delta) / np.maximum(gain, TINY))
    return np.eye(len(delta))[ratio.argmin()]


def randomised_ids(delta: Array, gain: Array) -> Array:
    """The distribution [A] that minimises (π·Δ)²/(π·g): at most two actions. Russo & Van Roy 2014, proposition 6.

    All pairs are tried: x Δ_i + (1 − x) Δ_j = a + b x, x g_i + (1 − x) g_j = c + d x, with the stationary point
    x = (d a − 2 b c)/(b d) where there is one, and both ends.
    """
    if (delta <= 0).any():
        return np.eye(len(delta))[delta.argmin()]
    gain = np.maximum(gain, TINY)
    a, b = delta[None, :], delta[:, None] - delta[None, :]  # [i, j]
    c, d = gain[None, :], gain[:, None] - gain[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.where(b * d != 0, (d * a - 2.0 * b * c) / (b * d), 0.0)
    share = np.stack([np.zeros_like(b), np.ones_like(b), np.clip(middle, 0.0, 1.0)])
    ratio = np.square(a + b * share) / (c + d * share)
    which, i, j = np.unravel_index(ratio.argmin(), ratio.shape)
    policy = np.zeros(len(delta))
    policy[i] += share[which, i, j]
    policy[j] += 1.0 - share[which, i, j]
    return policy


def bayes_optimal_value(alpha: tuple[int, ...], beta: tuple[int, ...], horizon: int) -> float:
    """Expected reward of the best possible play of Bernoulli arms with Beta(α, β) priors over ``horizon`` pulls.

        V_t(α, β) = max_a m_a (1 + V_{t+1}(α_a + 1)) + (1 − m_a) V_{t+1}(β_a + 1),  m_a = α_a/(α_a + β_a)

    States grow as horizon^(2A − 1): meant for two arms and tens of pulls.
    """
    return float(_bayes_optimal(alpha, beta, horizon).max()) if horizon else 0.0


def bayes_optimal_arm(alpha: tuple[int, ...], beta: tuple[int, ...], horizon: int) -> int:
    """What that play pulls first, the lowest among equals."""
    return int(_bayes_optimal(alpha, beta, horizon).argmax())


@cache
def _bayes_optimal(alpha: tuple[int, ...], beta: tuple[int, ...], horizon: int) -> Array:
    values = np.zeros(len(alpha))
    for a, (won, lost) in enumerate(zip(alpha, beta, strict=True)):
        mean = won / (won + lost)
        values[a] = mean
        if horizon > 1:
            better = _bayes_optimal((*alpha[:a], won + 1, *alpha[a + 1 :]), beta, horizon - 1).max()
            worse = _bayes_optimal(alpha, (*beta[:a], lost + 1, *beta[a + 1 :]), horizon - 1).max()
            values[a] += mean * better + (1.0 - mean) * worse
    return values


def _digamma(x: Array) -> Array:
    return torch.digamma(torch.as_tensor(x, dtype=torch.float64)).numpy()


def _xlogy(x: Array, y: Array) -> Array:
    return np.where(x > 0, x * np.log(np.maximum(y, TINY * TINY)), 0.0)


def _bernoulli_kl(p: Array, q: Array) -> Array:
    return _xlogy(p, p) - _xlogy(p, q) + _xlogy(1.0 - p, 1.0 - p) - _xlogy(1.0 - p, 1.0 - q)
