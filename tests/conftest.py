"""One thread, and every shape annotation of the package executed (JAXTYPING_DISABLE=1 turns that off)."""

import os
from collections.abc import Iterator

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; child processes inherit it

import jaxtyping
import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)

if os.environ.get("JAXTYPING_DISABLE", "0") != "1":
    # The numeric tower: an int is a float, as everywhere in Python.
    install_import_hook("lit_rl", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the run-time check of annotations, as users run."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
