"""One thread, and every shape annotation of the package executed (JAXTYPING_DISABLE=1 turns that off)."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; child processes inherit it

import pytest
import torch
from jaxtyping import install_import_hook

from tests.checks import without_checks

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent

if os.environ.get("JAXTYPING_DISABLE", "0") != "1":
    # The modules that have any, and no others: a checked call costs some 20 µs, and runs make millions of them.
    files = [path for path in (ROOT / "lit_rl").rglob("*.py") if "jaxtyping" in path.read_text()]
    shaped = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    # The numeric tower: an int is a float, as everywhere in Python.
    install_import_hook(shaped, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the run-time check of annotations, as users run."""
    with without_checks():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The scorecard first: it takes minutes, and two processes are done soonest where long tests do not come last."""
    items.sort(key=lambda item: item.path.name != "test_reliability.py")
