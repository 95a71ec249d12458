"""The quick part of the scorecard, in two processes; and what the scorecard itself promises."""

import fcntl
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from scripts.faultcard.harness import Figure, Row, all_rows, closing_line, figure_text
from scripts.faultcard.page import page
from scripts.faultcard.system import audited

ROOT = Path(__file__).resolve().parent.parent
ROWS = [row for row in all_rows() if row.quick]
HALVES = (("stopping", "environments", "writing", "soak"), ("reading", "training", "configs", "system"))


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows of a section's half by number, measured once, in whichever process of the tests comes first."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    @cache
    def half(number: int) -> dict[str, Any]:
        kept = shared / f"scorecard-{number}.json"
        with open(shared / f"scorecard-{number}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                command = [sys.executable, str(ROOT / "scripts/faults.py"), "--quick", "--section", *HALVES[number]]
                done = subprocess.run([*command, "--json", str(kept)], cwd=ROOT, capture_output=True, text=True)
                assert kept.exists(), done.stderr
        return json.loads(kept.read_text())

    return lambda section: half(next(number for number, half in enumerate(HALVES) if section in half))


@pytest.mark.medium
@pytest.mark.timeout(900)  # the first row of a half waits for all of them, on machines that do other things too
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.number}-{row.title.replace(' ', '-')}")
def test_row(row: Row, measured: Any) -> None:
    kept = measured(row.section)[str(row.number)]
    if kept["verdict"] == "skipped":
        pytest.skip(kept["note"])
    assert kept["verdict"] in ("holds", "reported"), f"{kept['figure']} ({kept['target']}): {kept['missed']}"


def a_row(**changes: Any) -> Row:
    settings = {
        "number": 1, "title": "a fault", "unit": "n/n", "target": "all", "run": lambda folder, count: Figure(0, 0),
        "section": "x", "kind": "fault", "limits": {}, "bad": False, "reported": False, "quick": 1, "full": 1,
    }  # fmt: skip
    return Row(**settings | changes)


def test_a_miss_is_a_miss() -> None:
    assert a_row().verdict(Figure.of([None, None])) == "holds"
    assert a_row().verdict(Figure.of([None, "lost"])) == "MISSES"
    assert a_row().verdict(Figure(0, 0)) == "MISSES", "nothing measured"
    assert a_row(limits={"p50": 1.0}).verdict(Figure(0, 0, {"p50": 1.0})) == "MISSES"
    assert a_row(limits={"p50": 1.0}).verdict(Figure(0, 0, {"p99": 0.5})) == "MISSES", "another number"
    assert a_row(limits={"p50": 1.0}).verdict(Figure(0, 0, {"p50": 0.5})) == "holds"
    assert a_row(reported=True).verdict(Figure(0, 0, {"MB/s": 3.0})) == "reported"
    assert a_row(reported=True).verdict(Figure.of(["lost"])) == "MISSES"
    assert a_row().verdict(Figure(0, 0, skipped="no second disk")) == "skipped"


def test_a_row_that_fails_itself_is_a_miss(tmp_path: Path) -> None:
    def broken(folder: Path, count: int) -> Figure:
        raise OSError("no\ndisk")

    row = a_row(run=broken)
    figure, _ = row.measure(1)
    assert row.verdict(figure) == "MISSES" and "OSError: no disk" in figure.missed[0]


def test_the_closing_line_sums() -> None:
    results = [
        (a_row(), Figure.of([None] * 9 + ["x"], **{"lost checkpoints": 1})),
        (a_row(), Figure.of([None] * 5, **{"lost checkpoints": 0, "fd": 0})),
        (a_row(kind="input"), Figure.of([None] * 3)),
        (a_row(kind="resume"), Figure(0, 0, skipped="no")),
    ]
    line = closing_line(results)
    assert line.startswith("FAULTS survived 14/15 | BAD INPUTS refused 3/3 | LOST transitions not measured")
    assert "checkpoints 1 | RESUME bit-exact 0/0 | LEAK rss not measured fd 0 proc not measured" in line
    assert figure_text(a_row(bad=True), results[0][1]) == "1/10, lost checkpoints 1"


def test_the_page_shows_misses() -> None:
    kept = {
        "figure": "1/2", "title": "a | b", "unit": "n/n", "target": "all", "verdict": "MISSES", "repetitions": 2,
        "full": 10, "seconds": 1.0, "date": "2026-01-01", "missed": ["it was lost"], "note": "",
        "machine": {"cpu": "x"},
    }  # fmt: skip
    text = page({"7": kept}, "FAULTS")
    assert "| 7 | a \\| b | n/n | 1/2 | all | **misses** | 2 of 10 | 1 | 2026-01-01 |" in text
    assert "- row 7: it was lost" in text and "- rows 7: cpu x" in text


def test_rows_are_distinct_and_import_nothing_heavy() -> None:
    code = "import sys; from scripts.faultcard.harness import all_rows; all_rows(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
    assert len({row.title for row in ROWS}) == len(ROWS)


def test_packages_that_nobody_looked_up_are_not_clean() -> None:
    clean, faulty = ({"name": "a", "version": "1", "vulns": [{"id": i} for i in ids]} for ids in ([], ["CVE-1"]))
    assert audited([clean, clean]).numbers == {"vulnerabilities": 0}
    assert audited([clean, faulty]).missed == ["a 1: CVE-1"]
    assert "1 of 2 packages" in audited([clean, {"name": "b", "skip_reason": "not found"}]).skipped


def test_an_unknown_row_is_refused() -> None:
    command = [sys.executable, "scripts/faults.py", "--quick", "--rows", "999"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "there is no row 999" in result.stderr
