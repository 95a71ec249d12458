"""Rows of the scorecard: each deals a fault for real, and says of how many cases how many went as they must."""

import importlib
import pkgutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import scripts.faultcard as package

Kind = Literal["fault", "input", "resume"]  # of the sums in the closing line


@dataclass(frozen=True)
class Figure:
    """What a row measured.

    Args:
        good: cases that went as they must.
        cases: all of them; each is one fault, dealt to a real process or file.
        numbers: measured beside the count, by name; the closing line sums those that it knows.
        missed: what went wrong, a line for each case that did.
        note: what a reader of the figure has to know.
        skipped: why the row cannot be measured on this machine, where it cannot.
    """

    good: int
    cases: int
    numbers: dict[str, float] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    note: str = ""
    skipped: str = ""

    @classmethod
    def of(cls, outcomes: Iterable[str | None], note: str = "", **numbers: float) -> "Figure":
        """Of outcomes that are None where a case went as it must, and else say what went wrong."""
        found = list(outcomes)
        missed = [" ".join(text.split())[:400] for text in found if text is not None]
        return cls(len(found) - len(missed), len(found), numbers, missed, note)


@dataclass(frozen=True)
class Row:
    """A line of the scorecard.

    Args:
        number: its place there.
        title: the fault.
        unit: of its figure.
        target: in words, for the page.
        run: measures, in a folder of its own, with so many repetitions.
        section: name of the module that it stands in.
        kind: which sum of the closing line its cases count in.
        limits: numbers of the figure that must stay below these.
        bad: the page counts the cases that went wrong ("0/100 destroyed"), instead of those that went right.
        reported: there is no target, only a figure.
        quick: repetitions with --quick; 0 where only a long run on a quiet machine says anything.
        full: repetitions else.
    """

    number: int
    title: str
    unit: str
    target: str
    run: Callable[[Path, int], Figure]
    section: str
    kind: Kind | None
    limits: dict[str, float]
    bad: bool
    reported: bool
    quick: int
    full: int

    def measure(self, repetitions: int) -> tuple[Figure, float]:
        """The figure, and the seconds that it took; an exception is a miss."""
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"faults-{self.number}-", ignore_cleanup_errors=True) as folder:
            try:
                figure = self.run(Path(folder), repetitions)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                text = " ".join(f"the row itself failed: {type(error).__name__}: {error} ({place})".split())
                figure = Figure(0, 1, missed=[text])
        return figure, time.monotonic() - begun

    def verdict(self, figure: Figure) -> str:
        """``holds``, ``MISSES``, ``reported`` or ``skipped``."""
        if figure.skipped:
            return "skipped"
        over = [name for name, limit in self.limits.items() if not figure.numbers.get(name, float("nan")) < limit]
        if figure.good < figure.cases or over or (figure.cases == 0 and not figure.numbers):
            return "MISSES"
        return "reported" if self.reported else "holds"


_ROWS: dict[int, Row] = {}


def row(
    number: int,
    title: str,
    unit: str,
    target: str = "all",
    *,
    kind: Kind | None = None,
    limits: dict[str, float] | None = None,
    bad: bool = False,
    reported: bool = False,
    quick: int = 1,
    full: int = 1,
) -> Callable[[Callable[[Path, int], Figure]], Callable[[Path, int], Figure]]:
    """Enter a function as row ``number``; the arguments are those of :class:`Row`."""

    def enter(run: Callable[[Path, int], Figure]) -> Callable[[Path, int], Figure]:
        assert number not in _ROWS or _ROWS[number].section == run.__module__.rpartition(".")[2], number
        section = run.__module__.rpartition(".")[2]
        _ROWS[number] = Row(
            number, title, unit, target, run, section, kind, limits or {}, bad, reported, quick, full
        )  # fmt: skip
        return run

    return enter


def all_rows() -> list[Row]:
    """Every row of every module of this package, by number."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return [_ROWS[number] for number in sorted(_ROWS)]


def closing_line(results: list[tuple[Row, Figure]]) -> str:
    """The sums over all rows."""

    def counted(kind: Kind) -> str:
        found = [figure for row_, figure in results if row_.kind == kind and not figure.skipped]
        return f"{sum(figure.good for figure in found)}/{sum(figure.cases for figure in found)}"

    def number(name: str, form: str = "{:g}") -> str:
        found = [figure.numbers[name] for _, figure in results if name in figure.numbers]
        return form.format(sum(found)) if found else "not measured"

    lost = " ".join(f"{name} {number(f'lost {name}')}" for name in ("transitions", "episodes", "checkpoints"))
    leak = f"rss {number('rss MB/100k', '{:+.1f} MB/100k')} fd {number('fd')} proc {number('proc')}"
    return (
        f"FAULTS survived {counted('fault')} | BAD INPUTS refused {counted('input')} | LOST {lost} | "
        f"RESUME bit-exact {counted('resume')} | LEAK {leak}"
    )


def as_data(
    row_: Row, figure: Figure, seconds: float, repetitions: int, date: str, machine: dict[str, str]
) -> dict[str, Any]:
    """What is kept of a measurement, with the verdict."""
    return {
        "title": row_.title,
        "unit": row_.unit,
        "target": row_.target,
        "section": row_.section,
        "figure": figure_text(row_, figure),
        "verdict": row_.verdict(figure),
        "good": figure.good,
        "cases": figure.cases,
        "numbers": figure.numbers,
        "missed": figure.missed,
        "note": figure.skipped or figure.note,
        "skipped": bool(figure.skipped),
        "repetitions": repetitions,
        "full": row_.full,
        "kind": row_.kind,
        "seconds": round(seconds, 1),
        "date": date,
        "machine": machine,
    }


def figure_text(row_: Row, figure: Figure) -> str:
    """As in ``50/50, p50 0.21, p99 0.80``."""
    if figure.skipped:
        return ""
    parts = [f"{figure.cases - figure.good if row_.bad else figure.good}/{figure.cases}"] if figure.cases else []
    parts += [
        f"{name} {value:.3g}" if abs(value) < 1000 else f"{name} {value:,.0f}" for name, value in figure.numbers.items()
    ]
    return ", ".join(parts)
