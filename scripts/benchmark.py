"""Measure lit_rl beside Stable-Baselines3 and loops written by hand: `python scripts/benchmark.py --task ppo`.

Needs the extra `bench`. With `--json FILE` the results are kept, and those of other tasks in the file stay;
`--page FILE` writes all of them as a page.
"""

import argparse
import datetime
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
warnings.filterwarnings("ignore", category=UserWarning)

import torch  # noqa: E402

from bench.measure import machine  # noqa: E402
from bench.micro import PARTS  # noqa: E402
from bench.page import page, record, show  # noqa: E402
from bench.planners import PLANNERS  # noqa: E402
from bench.settings import SETTINGS  # noqa: E402
from bench.training import TASKS  # noqa: E402
from bench.worlds import WORLDS  # noqa: E402

OTHERS = PARTS | SETTINGS | WORLDS | PLANNERS
NAMES = [*TASKS, *OTHERS]


def main(arguments: list[str] | None = None) -> None:
    """Run the tasks asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--task", choices=[*NAMES, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every contestant")
    parser.add_argument("--steps", type=int, help="env steps of a turn (calls, for the parts); fewer prove no learning")
    parser.add_argument("--json", type=Path, help="file in which to keep the results")
    parser.add_argument("--page", type=Path, help="Markdown file to write from them")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name in NAMES if options.task == "all" else [options.task]:
        about = machine()
        if name in TASKS:
            title, entries = TASKS[name].title, TASKS[name].run(name, options.steps, options.rounds)
        else:
            title, entries = OTHERS[name].__doc__.rstrip("."), OTHERS[name](options.steps, options.rounds)  # type: ignore[union-attr]
        rows = [record(entry) for entry in entries]
        show(rows, title)
        today = datetime.date.today().isoformat()
        results[name] = {"title": title, "date": today, "rounds": options.rounds, "machine": about, "rows": rows}
        results = {known: results[known] for known in NAMES if known in results}
        if options.json:
            options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        if options.page:
            options.page.write_text(page(results))


if __name__ == "__main__":
    main()
