"""Evaluation curves out of TensorBoard's event files, and what they say."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

TAG = "val/return"
LAST = 3  # evaluations that the protocol looks at


class Curve(NamedTuple):
    """Evaluations of one run, in order."""

    steps: np.ndarray  # [E], environment steps
    values: np.ndarray  # [E]
    seconds: np.ndarray  # [E], spent training so far, evaluations included


def read_curve(folder: Path, tag: str = TAG) -> Curve:
    """One scalar of a run; empty where there is none.

    A run that was stopped and resumed has several event files. What an earlier one holds beyond the point
    where a later one goes on was done again, and is left out; pauses between them do not count as time.
    """
    # In here, so that `--help` needs no TensorBoard.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    attempts = []
    for path in folder.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
        scalars = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
        if scalars:
            attempts.append((events.FirstEventTimestamp(), scalars))
    points: list[tuple[int, float, float]] = []
    before = 0.0  # seconds in earlier attempts
    for start, scalars in sorted(attempts, key=lambda attempt: attempt[0]):
        first_step = min(series[0].step for series in scalars.values())
        points = [point for point in points if point[0] < first_step]
        points += [(e.step, e.value, before + e.wall_time - start) for e in scalars.get(tag, [])]
        before += max(series[-1].wall_time for series in scalars.values()) - start
    steps, values, seconds = zip(*points, strict=True) if points else ((), (), ())
    return Curve(np.array(steps, np.int64), np.array(values, float), np.array(seconds, float))


class Crossing(NamedTuple):
    """When a curve met a threshold; None where it never did."""

    steps: int | None  # of the first evaluation at or above it
    seconds: float | None
    held_from: int | None  # steps from which on every evaluation was at or above it


def crossing(curve: Curve, threshold: float) -> Crossing:
    """When it was reached first, and from when on it was held to the end."""
    above = curve.values >= threshold
    if not above.any():
        return Crossing(None, None, None)
    first = int(above.argmax())
    below = np.flatnonzero(~above)
    since = int(below[-1]) + 1 if len(below) else 0
    held_from = int(curve.steps[since]) if since < len(above) else None
    return Crossing(int(curve.steps[first]), float(curve.seconds[first]), held_from)


def scores(curve: Curve) -> dict[str, float]:
    """The scores of the protocol, of a run with at least one evaluation."""
    last = curve.values[-LAST:]
    return {
        "best": float(curve.values.max()),
        "final": float(curve.values[-1]),
        "best_of_last_3": float(last.max()),
        "worst_of_last_3": float(last.min()),
    }
