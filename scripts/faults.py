"""Measure what lit_rl survives: `python scripts/faults.py [--quick] [--rows 1 2]`, and write docs/reliability.md.

Without --quick the figures are kept in docs/reliability.json, and those of rows not asked for stay; with it nothing is
kept unless --json or --page say where. The exit status is 1 where a row misses its target.
"""

import argparse
import datetime
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
warnings.filterwarnings("ignore", category=UserWarning)

from scripts.bench.measure import machine  # noqa: E402
from scripts.faultcard.harness import Figure, Row, all_rows, as_data, closing_line, figure_text  # noqa: E402
from scripts.faultcard.page import page  # noqa: E402

PACKAGES = ("torch", "lightning", "gymnasium", "numpy")


def parse(arguments: list[str] | None, sections: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows (default: all)")
    parser.add_argument("--section", choices=sections, nargs="+", help="rows of these sections only")
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions, nothing kept, no rows of speed and growth"
    )
    parser.add_argument("--repetitions", type=int, help="of each row, instead of its own number")
    parser.add_argument("--list", action="store_true", help="measure nothing, say which rows there are")
    parser.add_argument("--only-render", action="store_true", help="measure nothing, write the page from what is kept")
    parser.add_argument("--json", type=Path, help="where figures are kept (default: docs/reliability.json)")
    parser.add_argument("--page", type=Path, help="the page (default: docs/reliability.md)")
    options = parser.parse_args(arguments)
    if not options.quick:
        options.json = options.json or ROOT / "docs" / "reliability.json"
        options.page = options.page or ROOT / "docs" / "reliability.md"
    return options


def main(arguments: list[str] | None = None) -> int:
    rows = all_rows()
    options = parse(arguments, sorted({row.section for row in rows}))
    if unknown := set(options.rows or []) - {row.number for row in rows}:
        print(f"there is no row {min(unknown)}; --list shows all", file=sys.stderr)
        return 2
    chosen = [
        row
        for row in rows
        if (not options.rows or row.number in options.rows)
        and (not options.section or row.section in options.section)
        and (row.quick or not options.quick or options.repetitions)
    ]
    if options.list:
        for row in chosen:
            print(f"{row.number:3}  {row.section:12}  {row.title}  [{row.target}]")
        return 0
    kept: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    results: list[tuple[Row, Figure]] = []
    about = machine(PACKAGES)
    for row in [] if options.only_render else chosen:
        repetitions = options.repetitions or (row.quick if options.quick else row.full)
        before = sum(os.times()[:4])
        figure, seconds = row.measure(repetitions)
        cpu = sum(os.times()[:4]) - before
        results.append((row, figure))
        print(
            f"{row.number:3}  {row.verdict(figure):8}  {row.title}: {figure_text(row, figure)}  "
            f"({seconds:.1f} s, {cpu:.1f} s of processor)"
        )
        for text in figure.missed[:5]:
            print(f"       {text}")
        sys.stdout.flush()
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        kept[str(row.number)] = as_data(row, figure, seconds, repetitions, today, about)
        _write(kept, rows, options)
    if options.only_render:
        _write(kept, rows, options)
        results = _results(kept, rows)
    print(closing_line(results))
    return int(any(row.verdict(figure) == "MISSES" for row, figure in results))


def _write(kept: dict[str, Any], rows: list[Row], options: argparse.Namespace) -> None:
    ordered = {str(row.number): kept[str(row.number)] for row in rows if str(row.number) in kept}
    if options.json:
        options.json.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
    if options.page:
        options.page.write_text(page(ordered, closing_line(_results(ordered, rows))))


def _results(kept: dict[str, Any], rows: list[Row]) -> list[tuple[Row, Figure]]:
    found = [(row, kept[str(row.number)]) for row in rows if str(row.number) in kept]
    return [
        (row, Figure(k["good"], k["cases"], k["numbers"], k["missed"], k["note"], k["note"] if k["skipped"] else ""))
        for row, k in found
    ]


if __name__ == "__main__":
    sys.exit(main())
