"""Run configs × seeds and write docs/results.md: `python scripts/report.py [configs or task names]`.

Without names, all tasks of scripts/reporting/targets/. Stopping it loses nothing: the same command goes on,
finished runs stay. The exit status is 1 where a run failed or missed its target.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.reporting.runs import Run, Runner  # noqa: E402
from scripts.reporting.tasks import choose, read_tasks  # noqa: E402


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "tasks", nargs="*", metavar="config", help="configs, or names of tasks in scripts/reporting/targets"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of results.md (default: docs)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "report", help="(default: runs/report)")
    parser.add_argument("--only-render", action="store_true", help="run nothing, write the page from what is there")
    options = parser.parse_args(arguments)
    if options.processes < 1:
        parser.error(f"--processes is {options.processes}; it must be at least 1")
    try:
        import matplotlib as _  # noqa: F401
    except ImportError:
        parser.error("the plots need matplotlib: pip install 'lit_rl[report]'")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    runs = options.runs.resolve()
    known = read_tasks()
    try:
        chosen = choose(options.tasks, known)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2

    stopped = False
    if not options.only_render:
        try:
            Runner(options.processes).run_all([Run(task, seed, runs) for task in chosen for seed in options.seeds])
        except KeyboardInterrupt:
            stopped = True

    from scripts.reporting.outcomes import kept_seeds, result_of  # loads torch: not before it is needed
    from scripts.reporting.page import write_page

    # Tasks run earlier, here or elsewhere, stay on the page when only some are named now.
    shown = [*known, *(task for task in chosen if task not in known)]
    seeds = {task: sorted({*options.seeds, *kept_seeds(task, options.output)}) for task in shown}
    there = [
        task for task in shown if task in chosen or kept_seeds(task, options.output) or (runs / task.name).exists()
    ]
    results = [result_of(task, seeds[task], runs, options.output) for task in there]
    page = write_page(results, options.output)
    for result in results:
        print(f"{result.verdict:10}  {result.task.name}  ({len(result.finished)} of {len(result.outcomes)} seeds)")
    print(f"written: {page}")
    if stopped:
        return 130
    bad = any(r.verdict == "FAIL" or any(o.status == "failed" for o in r.outcomes) for r in results)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
