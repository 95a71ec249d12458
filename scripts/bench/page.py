"""Results as a table on the terminal, as JSON, and as a page of the documentation."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Quantity, Row, Spread

COLUMNS = ("task", "contestant", "CPU µs", "wall µs", "speed, CPU time", "speed, wall", "score", "goal", "verdict")

HEAD = """# How fast it is

Written by `python scripts/benchmark.py --json docs/benchmark.json --page docs/benchmark.md`; one task with `--task`.

Contestants take turns in one process, one torch thread; a *speed* is the median over the rounds of the ratio to the
first row of the task, [lowest – highest], and larger is faster. Processor time comes first: the wall clock also
measures whoever else uses the machine. Training is timed whole, from building the agent to its end. lit_rl writes
TensorBoard events and checkpoints in that time; Stable-Baselines3 and the loops written by hand
(`scripts/bench/minimal.py`) write nothing. The *score* is the mean return of the last training episodes; a speed
without learning does not count.
"""


def record(entry: Row | Quantity) -> dict[str, Any]:
    """Plain data, with the verdict."""
    if isinstance(entry, Row):
        return {"kind": "race", **asdict(entry), "verdict": entry.verdict}
    return {"kind": "quantity", **entry._asdict(), "verdict": entry.verdict}


def cells(entry: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    goal = "" if entry["goal"] is None else f"{entry['goal']:g}"
    if entry["kind"] == "quantity":
        return (
            entry["task"],
            entry["name"],
            "",
            "",
            f"{entry['value']:,.2f} {entry['unit']}",
            "",
            "",
            goal,
            entry["verdict"],
        )
    cpu, wall, score = (entry[key] and Spread(*entry[key]) for key in ("cpu_ratio", "wall_ratio", "score"))
    return (
        entry["task"],
        entry["name"],
        f"{entry['cpu_us']:,.1f}",
        f"{entry['wall_us']:,.1f}",
        f"{cpu.median:.2f} [{cpu.low:.2f} – {cpu.high:.2f}]",
        f"{wall.median:.2f} [{wall.low:.2f} – {wall.high:.2f}]",
        "" if not score else f"{score.median:.0f} [{score.low:.0f} – {score.high:.0f}]",
        goal,
        entry["verdict"],
    )


def show(entries: list[dict[str, Any]], title: str) -> None:
    """On the terminal."""
    table = Table(*COLUMNS, title=title)
    for entry in entries:
        table.add_row(*(cell.replace("[", "\\[") for cell in cells(entry)))
    Console(width=None if Console().is_terminal else 190).print(table)


WHY = """## Where the time goes in what misses its goal, or only just meets it

As of 2026-11-26. *Adding one step of 8 environments*: nine writes into columns of the ring take 0.7 to 1 µs
each; a round of several steps shares them. *TD3* with 256 × 256 units and 256 rows, nearly all of which is
matrix products that both sides need, was 1.2 times as fast; neither learns in the 4,000 steps that this race had.

*Prioritised sampling* from 10⁶ entries is 2.9 times uniform, near its goal: beside reading the rows, 19 µs for
both, it takes 13 µs of binary search in the 3,907 blocks of leaves (no branch of it can be foretold), 20 µs in
the two levels below, 3 µs of random numbers and 4 µs of weights. Between updates of a small network, when none of
it is in the caches, it is 2.3 times uniform.

How far Stable-Baselines3's *DQN* is behind changes with the seed: Adam's averages of dead units sink to
denormals, which some processors are slow with. lit_rl makes them zero.
"""


def page(results: dict[str, Any]) -> str:
    """Markdown of all tasks measured so far."""
    lines = [HEAD]
    for result in results.values():
        lines += [f"## {result['title']}", "", "| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        lines += ["| " + " | ".join(cells(entry)) + " |" for entry in result["rows"]]
        facts = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
        lines += ["", f"{result['rounds']} rounds on {result['date']}; {facts}.", ""]
    lines.append(WHY)
    return "\n".join(lines).rstrip() + "\n"
