"""The page of results: one row per task, then each task with its curves and seeds."""

from pathlib import Path

import numpy as np
import yaml

from lit_rl.functional.statistics import iqm, stratified_bootstrap_interval
from scripts.reporting.curves import crossing
from scripts.reporting.outcomes import Outcome, Result, keep
from scripts.reporting.plots import plot
from scripts.reporting.regret import EPISODES
from scripts.reporting.tasks import LEAST_RUNS, ROOT, Task, environment

HEAD = f"""# Results

Written by `scripts/report.py`, which runs each task below with seeds fixed beforehand; no run is left out. Every
evaluation plays the same greedy episodes (20 unless the config says otherwise) from starts that training never sees.
The score of the protocol is the best of the last three evaluations; the final one stands beside it. IQM is the
interquartile mean over seeds (with three seeds: the mean), in brackets its 95 % stratified bootstrap interval, which
with three seeds spans little more than the seeds themselves. A verdict needs {LEAST_RUNS} finished seeds or more.
Tasks of `scripts/reporting/targets` that are not on this page have not been measured yet.
"""

FOOT = f"""## How to read the columns

- *reached at*: environment steps, and seconds since training began, at the first evaluation at or above the threshold.
- *held from*: environment steps from which on every evaluation was at or above it.
- *CPU min*: processor time of the whole process, evaluations and start-up included; *wall min* the same by the clock.
- *regret*: exact optimum (dynamic programming, `lit_rl/planning/pendulum.py`) minus return: mean over {EPISODES} starts
  of the policy at the end of training.

Seconds depend on the machine and on what else it does; steps and scores depend on the seed and the versions alone.
"""


def write_page(results: list[Result], output: Path) -> Path:
    """Write ``results.md``, and per task a picture and its figures, below ``output``; returns the page."""
    output.mkdir(parents=True, exist_ok=True)
    for result in results:
        keep(result, output / "results")
    parts = [HEAD, _overview(results), *(_section(result, output) for result in results), FOOT, _conditions(results)]
    path = output / "results.md"
    path.write_text("\n".join(parts), "utf-8")
    return path


def _overview(results: list[Result]) -> str:
    header = ("task", "environment", "steps", "target", "best of last 3: IQM", "final: IQM", "seeds", "verdict")
    rows = []
    for result in results:
        task, curves = result.task, [o.curve for o in result.outcomes if len(o.curve.steps)]
        steps = max((int(curve.steps[-1]) for curve in curves), default=None)
        target = "–" if task.threshold is None else f"{task.threshold:g}"
        for requirement in task.require:
            if requirement.score == "regret":
                target += f", regret {'≤' if requirement.at_most is not None else '≥'} {requirement.at_most:g}"
        cells = [f"[{task.name}](#{task.name})", _environment(task), _count(steps), target]
        cells += [_iqm(result, "best_of_last_3"), _iqm(result, "final")]
        rows.append((*cells, f"{len(result.finished)} of {len(result.outcomes)}", _strong(result)))
    return table(header, rows)


def _section(result: Result, output: Path) -> str:
    task = result.task
    command = " ".join(["lit-rl fit --config", task.config, *task.arguments])
    lines = [f"## {task.name}\n", f"`{command}` in {_environment(task)}: {_strong(result)}\n"]
    found = {requirement: (holds, words) for requirement, holds, words in result.found}
    for requirement in task.require:
        holds, words = found.get(requirement, (None, "no finished run"))
        lines.append(f"- {requirement}: {words} {'' if holds is None else '✓' if holds else '✗'}".rstrip())
    if task.source:
        lines.append(f"\nTarget from: {' '.join(task.source.split())}.")
    curves = [outcome.curve for outcome in result.outcomes if len(outcome.curve.steps)]
    if curves:
        plot(output / "results" / f"{task.name}.png", task.name, curves, task.threshold)
        lines.append(f"\n![learning curves of {task.name}](results/{task.name}.png)")
    header = ["seed", "best of last 3", "final", "best", "reached at", "held from", "CPU min", "wall min", "state"]
    if task.regret:
        header.insert(4, "regret")
    return "\n".join([*lines, "", table(tuple(header), [_seed(outcome, task) for outcome in result.outcomes])])


def _seed(outcome: Outcome, task: Task) -> tuple[str, ...]:
    values, record = outcome.scores, outcome.record
    names = ["best_of_last_3", "final", "best", *(["regret"] if task.regret else [])]
    cells = [str(outcome.run.seed), *(f"{values[name]:.1f}" if name in values else "–" for name in names)]
    reached, held = "–", "–"
    if values and task.threshold is not None:
        met = crossing(outcome.curve, task.threshold)
        reached = "never" if met.steps is None else f"{_count(met.steps)} ({met.seconds:.0f} s)"
        held = "not held" if met.held_from is None else _count(met.held_from)
    minutes = [f"{record[name] / 60:.1f}" if name in record else "–" for name in ("cpu_seconds", "seconds")]
    message = f": {outcome.message[:200]}".replace(f"{ROOT}/", "") if outcome.message else ""
    return (*cells, reached, held, *minutes, f"{outcome.status}{message}")


def _conditions(results: list[Result]) -> str:
    found = [o.record["conditions"] for result in results for o in result.outcomes if "conditions" in o.record]
    names = {"machine": "Machine", "versions": "Versions", "commit": "Commit", "date": "Date"}
    lines = ["## Made with\n"]
    for name, title in names.items():
        values = sorted({condition[name] for condition in found})
        shown = f"{values[0]} to {values[-1]}" if name == "date" and len(values) > 1 else "; or ".join(values)
        lines.append(f"- {title}: {shown or '–'}")
    return "\n".join(lines) + "\n"


def _strong(result: Result) -> str:
    return f"**{result.verdict}**" if result.task.require else "no target"


def _iqm(result: Result, score: str) -> str:
    values = np.array([outcome.scores[score] for outcome in result.finished])
    if len(values) == 0:
        return "–"
    if len(values) == 1:
        return f"{iqm(values):.1f}"
    low, high = stratified_bootstrap_interval(values, np.random.default_rng(0))
    return f"{iqm(values):.1f} [{low:.1f}, {high:.1f}]"


def _environment(task: Task) -> str:
    return environment(yaml.safe_load(task.path.read_text("utf-8")) or {}) if task.path.exists() else "–"


def _count(steps: int | None) -> str:
    return "–" if steps is None else f"{steps:,}".replace(",", " ")


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"
