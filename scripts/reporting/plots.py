"""Learning curves as pictures."""

from pathlib import Path

import numpy as np

from scripts.reporting.curves import Curve

BLUE, RED = "#1f5fa8", "#b3403a"


def band(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps [S] of all evaluations, with mean, least and greatest value over the curves that reach so far.

    Between its evaluations a curve is interpolated; outside of them it does not count.
    """
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    rows = [np.interp(steps, c.steps, c.values, left=np.nan, right=np.nan) for c in curves]
    table = np.ma.masked_invalid(np.stack(rows))
    return steps, *(part.filled(np.nan) for part in (table.mean(0), table.min(0), table.max(0)))


def plot(path: Path, title: str, curves: list[Curve], threshold: float | None) -> None:
    """Mean, and least to greatest, over the seeds; the threshold as a line."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    steps, mean, least, greatest = band(curves)
    figure = Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.fill_between(steps, least, greatest, color=BLUE, alpha=0.2, linewidth=0, label="least to greatest")
    for curve in curves:
        axes.plot(curve.steps, curve.values, color=BLUE, alpha=0.35, linewidth=0.8)
    axes.plot(steps, mean, color=BLUE, linewidth=2, label=f"mean over seeds ({len(curves)})")
    if threshold is not None:
        axes.axhline(threshold, color=RED, linestyle="--", linewidth=1.2, label=f"threshold {threshold:g}")
    axes.set(title=title, xlabel="environment steps", ylabel="evaluation return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(frameon=False, loc="best", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
