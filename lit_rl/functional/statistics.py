"""Numbers for logs and reports: how good a critic is, how far a policy moved, what several runs say."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Array = np.ndarray


@torch.no_grad()
def explained_variance(value: Float[Tensor, "*batch"], returns: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """1 − Var(G − V)/Var(G): 1 for a perfect critic, 0 for a constant one, below 0 for a harmful one.

    NaN where all returns are equal: there is nothing to explain. The R² of Wright 1921.
    """
    variance = returns.var(correction=0)
    return torch.where(variance > 0, 1.0 - (returns - value).var(correction=0) / variance, torch.nan)


@torch.no_grad()
def approx_kl(log_ratio: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """KL(old‖new) from samples of old: the mean of (ρ − 1) − log ρ ≥ 0 with log ρ = log new − log old.

    Unbiased, and of lower variance than −mean(log ρ). Source: Schulman, "Approximating KL divergence", 2020, k3.
    """
    return (log_ratio.expm1() - log_ratio).mean()


def iqm(scores: Array) -> float:
    """Interquartile mean: of the middle half, ⌊n/4⌋ scores dropped on either side. Source: Agarwal et al. 2021.

    Args:
        scores: any shape, one score per run (and task).
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_bootstrap_interval(
    scores: Array,
    rng: np.random.Generator,
    statistic: Callable[[Array], float] = iqm,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile interval of a statistic; runs are drawn with replacement within each task. Agarwal et al. 2021.

    Args:
        scores: [runs], or [runs, tasks].
        level: share of resamples inside the interval.

    Raises:
        ValueError: fewer than two runs say nothing about spread.
    """
    table = np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)
    runs, tasks = table.shape
    if runs < 2:
        raise ValueError(f"stratified_bootstrap_interval: {runs} run; an interval needs 2 or more")
    drawn = [statistic(table[rng.integers(runs, size=table.shape), np.arange(tasks)]) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
