"""What is run, and what is required of it: the table of targets, and verdicts."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("targets")
LEAST_RUNS = 3  # fewer seeds prove nothing, either way

Score = Literal["best", "final", "best_of_last_3", "worst_of_last_3", "regret"]
SCORES: dict[str, str] = {
    "best": "best evaluation of the run",
    "final": "final evaluation",
    "best_of_last_3": "best of the last 3 evaluations",
    "worst_of_last_3": "worst of the last 3 evaluations",
    "regret": "regret of the final policy",
}


@dataclass(frozen=True)
class Requirement:
    """A bound on one score, for the mean over the seeds, for all of them, or for at least so many."""

    score: Score
    at_least: float | None = None
    at_most: float | None = None
    seeds: Literal["mean", "all"] | int = "mean"

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"a requirement on {self.score} needs at_least or at_most, one of them")
        bound = self.at_most if self.at_least is None else self.at_least
        if not isinstance(bound, int | float):
            raise ValueError(f"the bound {bound!r} is no number; in YAML a power of ten is written 1.0e-8")
        if self.score not in SCORES:
            raise ValueError(f"{self.score!r} is no score; there are {', '.join(SCORES)}")
        counts = isinstance(self.seeds, int) and self.seeds >= 1
        if not counts and self.seeds not in ("mean", "all"):
            raise ValueError(f"seeds: {self.seeds!r}; it is mean, all, or a number from 1")

    def __str__(self) -> str:
        bound = f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"
        where = {"mean": "in the mean over seeds", "all": "on all seeds"}
        return f"{SCORES[self.score]} {bound} {where.get(str(self.seeds), f'on at least {self.seeds} seeds')}"

    def within(self, value: float) -> bool:
        """Whether one number keeps the bound; NaN keeps none."""
        if self.at_least is not None:
            return bool(value >= self.at_least)
        return self.at_most is not None and bool(value <= self.at_most)

    def check(self, values: list[float]) -> tuple[bool, str]:
        """Whether these scores, one per seed, fulfil it, and what was found in words."""
        if self.seeds == "mean":
            mean = float(np.mean(values))
            return self.within(mean), f"{mean:.1f}"
        count = sum(self.within(value) for value in values)
        return count >= (len(values) if self.seeds == "all" else self.seeds), f"{count} of {len(values)} seeds"


@dataclass(frozen=True)
class Task:
    """A config, perhaps with arguments, and what its runs must reach; without requirements there is no verdict."""

    name: str
    config: str
    arguments: tuple[str, ...] = ()
    threshold: float | None = None
    require: tuple[Requirement, ...] = ()
    regret: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if not self.regret and any(requirement.score == "regret" for requirement in self.require):
            raise ValueError(f"{self.name} requires a regret, so it needs regret: true")

    @property
    def path(self) -> Path:
        """Of the config; a relative one counts from the repository."""
        return ROOT / self.config


def read_tasks(path: Path = TABLE) -> list[Task]:
    """The tables of targets in a folder, or one of them.

    Raises:
        ValueError: an entry is wrong, or two have the same name.
    """
    tasks = []
    for table in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        for number, entry in enumerate(yaml.safe_load(table.read_text("utf-8")), 1):
            try:
                require = tuple(Requirement(**requirement) for requirement in entry.pop("require", []))
                arguments = tuple(str(argument) for argument in entry.pop("arguments", []))
                tasks.append(Task(**entry, arguments=arguments, require=require))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{table.name}, entry {number}: {error}") from error
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ValueError(f"{path.name}: names must differ; there are {', '.join(names)}")
    return tasks


def choose(words: list[str], known: list[Task]) -> list[Task]:
    """Tasks by name or by config file; a config that the table does not name becomes a task without a target."""
    if not words:
        return known
    chosen: list[Task] = []
    for word in words:
        path = Path(word).resolve()
        matches = [task for task in known if word in (task.name, task.config) or path == task.path.resolve()]
        if not matches:
            if not path.is_file():
                close = get_close_matches(word, [task.name for task in known])
                hint = f"; did you mean {', '.join(close)}?" if close else ""
                raise ValueError(f"{word!r} is neither a config file nor a task of scripts/reporting/targets{hint}")
            config = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
            matches = [Task(f"{path.parent.name}-{path.stem}", str(config))]
            if matches[0].name in {task.name for task in known}:
                raise ValueError(f"{word} would be named {matches[0].name}, as a task of the table is; rename it")
        chosen += matches
    return list(dict.fromkeys(chosen))


def verdict(task: Task, scores: list[dict[str, float]], asked: int) -> tuple[str, list[tuple[Requirement, bool, str]]]:
    """PASS, FAIL, INCOMPLETE while runs are missing, or – without a target; and each requirement with what was found.

    Args:
        scores: of the finished runs.
        asked: how many runs there should be.
    """
    if not task.require:
        return "–", []
    if not scores:
        return "INCOMPLETE", []
    found = [(requirement, *requirement.check([s[requirement.score] for s in scores])) for requirement in task.require]
    if len(scores) < max(asked, LEAST_RUNS):
        return "INCOMPLETE", found
    return "PASS" if all(holds for _, holds, _ in found) else "FAIL", found


def environment(config: dict[str, Any]) -> str:
    """The id of the environment that a config names, wherever it stands under ``model``; – where it names none."""
    model = config.get("model")
    while isinstance(model, dict) and "env" not in model and "init_args" in model:
        model = model["init_args"]
    env = model.get("env", "–") if isinstance(model, dict) else "–"
    while isinstance(env, dict):
        env = env.get("id", env.get("init_args", "–"))
    return str(env)
