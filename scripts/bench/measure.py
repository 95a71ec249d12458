"""Contestants take turns; each round gives one ratio, and the median over rounds is what counts.

A machine that others use too is slower or faster from one minute to the next: only what ran side by side is
compared, and the processor time of this process comes before the time on the wall.
"""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Sample(NamedTuple):
    """One turn of one contestant."""

    cpu: float  # seconds of this process
    wall: float  # seconds
    units: int  # environment steps, or calls, in that time
    score: float | None = None  # mean return of its last training episodes


class Spread(NamedTuple):
    """Median and extremes over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of these."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """A contestant beside the reference; ratios above 1 are faster than it."""

    task: str
    name: str
    unit: str
    cpu_us: float  # per unit, median
    wall_us: float
    cpu_ratio: Spread
    wall_ratio: Spread
    score: Spread | None = None
    bar: float | None = None  # the score has to reach it in every round
    goal: float | None = None  # that the processor time's ratio has to reach

    @property
    def learnt(self) -> bool:
        """Whether a speed counts at all."""
        return self.score is None or self.bar is None or self.score.low >= self.bar

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.learnt:
            return "did not learn"
        if self.goal is None:
            return ""
        missing = self.goal - self.cpu_ratio.median
        return "met" if missing <= 0 else f"misses by {missing:.2f}"


class Quantity(NamedTuple):
    """A number that is compared with nothing, or only with its own goal."""

    task: str
    name: str
    value: float
    unit: str
    goal: float | None = None  # it has to stay below

    @property
    def verdict(self) -> str:
        """In words."""
        if self.goal is None:
            return ""
        return "met" if self.value <= self.goal else f"misses by {self.value - self.goal:.2f}"


def timed(function: Callable[[], float | None], units: int) -> Sample:
    """Call once; what it returns is the score."""
    cpu, wall = time.process_time(), time.perf_counter()
    score = function()
    return Sample(time.process_time() - cpu, time.perf_counter() - wall, units, score)


def repeated(function: Callable[[], object], calls: int) -> Callable[[int], Sample]:
    """A contestant that calls ``function`` so often in each round."""

    def loop() -> None:
        for _ in range(calls):
            function()

    return lambda _: timed(loop, calls)


def compare(
    task: str,
    contestants: dict[str, Callable[[int], Sample]],
    reference: str,
    rounds: int,
    goals: dict[str, float],
    unit: str = "env step",
    bar: float | None = None,
) -> list[Row]:
    """A B C A B C …: each contestant gets the round's number as its seed."""
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    for round_ in range(rounds):
        for name, run in contestants.items():
            samples[name].append(run(round_))
    base = samples[reference]
    rows = []
    for name, own in samples.items():
        pairs = list(zip(base, own, strict=True))
        scores = [sample.score for sample in own if sample.score is not None]
        rows.append(
            Row(
                task,
                name,
                unit,
                statistics.median(sample.cpu / sample.units for sample in own) * 1e6,
                statistics.median(sample.wall / sample.units for sample in own) * 1e6,
                Spread.of([(one.cpu / one.units) / (two.cpu / two.units) for one, two in pairs]),
                Spread.of([(one.wall / one.units) / (two.wall / two.units) for one, two in pairs]),
                Spread.of(scores) if scores else None,
                bar,
                goals.get(name),
            )
        )
    return rows


def machine(
    packages: tuple[str, ...] = ("torch", "lightning", "gymnasium", "numpy", "stable-baselines3"),
) -> dict[str, str]:
    """Processor, load, and the versions that matter."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as lines:
            model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "processor": f"{model or platform.machine()}, {os.cpu_count()} cores, 1 thread used",
        "load": f"{os.getloadavg()[0]:.1f} before the first round",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
