"""What became of runs: read from their directories, and kept beside the page as plain figures.

The directories of runs are large and stay on the machine that made them; ``docs/results/<task>.json`` holds what
the page needs of them, so that a page can be written again, and added to, anywhere.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scripts.reporting.curves import Curve, read_curve, scores
from scripts.reporting.regret import regret_of
from scripts.reporting.runs import Run
from scripts.reporting.tasks import Task, verdict


class Outcome(NamedTuple):
    """What is known of one run."""

    run: Run
    curve: Curve
    scores: dict[str, float]  # empty without an evaluation
    status: str  # finished, failed, interrupted, started, stale, missing
    message: str
    record: dict


class Result(NamedTuple):
    """What is known of one task."""

    task: Task
    outcomes: list[Outcome]
    verdict: str
    found: list  # requirements, whether they hold, and what was found

    @property
    def finished(self) -> list[Outcome]:
        """Runs that count."""
        return [outcome for outcome in self.outcomes if outcome.status == "finished"]


def outcome_of(run: Run) -> Outcome:
    """Read one run's directory."""
    record, curve = run.record, read_curve(run.folder)
    status, message = record.get("status", "missing"), record.get("message", "")
    if not run.task.path.exists():
        status, message = "failed", "the config does not exist"
    elif record and record["digest"] != run.digest():
        status, message = "stale", "the config has changed since"
    values = scores(curve) if len(curve.steps) else {}
    if status == "finished" and not values:
        status, message = "failed", "it finished without an evaluation"
    if status == "finished" and run.task.regret:
        try:
            if "regret" not in record:  # minutes, where a planner acts
                record["regret"] = regret_of(run.checkpoint)
                run.write(record)
            values["regret"] = record["regret"]
        except (OSError, RuntimeError, ValueError) as error:
            status, message = "failed", f"no regret: {error}"
    return Outcome(run, curve, values, status, message, record)


def result_of(task: Task, seeds: list[int], runs: Path, output: Path) -> Result:
    """Read the runs of one task, or where their directories are gone what ``output`` keeps of them."""
    outcomes = [_outcome(Run(task, seed, runs), output / "results") for seed in seeds]
    return Result(task, outcomes, *verdict(task, [o.scores for o in outcomes if o.status == "finished"], len(seeds)))


def keep(result: Result, folder: Path) -> None:
    """Write what is known of the runs of one task into ``folder``, if any has begun."""
    rows = {
        outcome.run.seed: {
            "curve": {name: column.tolist() for name, column in outcome.curve._asdict().items()},
            "scores": outcome.scores,
            "status": outcome.status,
            "message": outcome.message,
            "record": outcome.record,
        }
        for outcome in result.outcomes
        if outcome.record
    }
    if rows:
        folder.mkdir(parents=True, exist_ok=True)
        _file(result.task, folder).write_text(json.dumps(rows), "utf-8")


def kept_seeds(task: Task, output: Path) -> list[int]:
    """The seeds of a task of which figures are kept."""
    path = _file(task, output / "results")
    return sorted(int(seed) for seed in json.loads(path.read_text("utf-8"))) if path.exists() else []


def _outcome(run: Run, folder: Path) -> Outcome:
    path = _file(run.task, folder)
    if run.record or not path.exists():
        return outcome_of(run)
    row = json.loads(path.read_text("utf-8")).get(str(run.seed))
    if row is None:
        return outcome_of(run)
    curve = Curve(*(np.array(row["curve"][name]) for name in Curve._fields))
    status, message = row["status"], row["message"]
    if not run.task.path.exists() or row["record"]["digest"] != run.digest():
        status, message = "stale", "the config has changed since"
    return Outcome(run, curve, row["scores"], status, message, row["record"])


def _file(task: Task, folder: Path) -> Path:
    return folder / f"{task.name}.json"
