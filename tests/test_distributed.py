"""Two CPU processes train alike: equal weights and statistics, own environments, reduced metrics, exact resume."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import Trainer
from lit_rl.checkpoint import CheckpointError
from tests.distributed_run import agent

pytestmark = pytest.mark.medium
ROOT = Path(__file__).parent.parent
ON_POLICY = ("ppo", "trpo")
NAMES = (*ON_POLICY, "dqn", "sac", "fitted_q")


def run(*command: str) -> None:
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    run("torch.distributed.run", "--nproc_per_node", "2", "-m", "tests.distributed_run", str(folder), *NAMES)
    return folder


def ranks(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    else:
        assert a == b or (math.isnan(a) and math.isnan(b)), where


@pytest.mark.parametrize("name", NAMES)
def test_ranks_agree_on_parameters_buffers_and_counters(runs: Path, name: str) -> None:
    first, second = ranks(runs / f"{name}-whole")
    assert_equal(first["state"], second["state"])
    assert_equal(first["optimizer"], second["optimizer"])
    assert first["updates"] == second["updates"] > 0
    # 4 epochs of 64 steps on each of 2 ranks
    assert first["env_steps"] == second["env_steps"] == first["state"]["policy.env_steps"] == 512
    assert first["own"]["batches"] == second["own"]["batches"]
    if name in ON_POLICY:
        assert (
            first["state"]["policy.body.normalizer.count"] == 4 * 2 * 2 * 17 * 2
        )  # T + 1 observations of each rollout
    elif name == "fitted_q":
        assert first["updates"] == 4 * 3 and first["state"]["policy.body.normalizer.count"] == 2 * 64 * (1 + 2 + 3 + 4)
    else:
        assert first["updates"] == (4 * 64 - 32) * 0.25  # per step of one rank, each with a batch of its own


@pytest.mark.parametrize("name", NAMES)
def test_each_rank_has_environments_and_replay_of_its_own(runs: Path, name: str) -> None:
    first, second = (rank["own"] for rank in ranks(runs / f"{name}-whole"))
    assert not torch.isclose(first["standing"][:, None], second["standing"][None]).all(-1).any()
    if name not in ON_POLICY:
        assert not torch.equal(first["replay"][0], second["replay"][0])  # the first observations of all
        assert not torch.equal(first["replay"][:128], second["replay"][:128])


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_those_of_both_ranks(runs: Path, name: str) -> None:
    first, second = ranks(runs / f"{name}-whole")
    assert first["val"] == second["val"] and math.isfinite(first["val"]["val/return"])
    assert first["val"]["step"] == 512
    averaged = first["train"].keys() - {"steps_per_second", "updates_per_second"}
    assert {key: first["train"][key] for key in averaged} == {key: second["train"][key] for key in averaged}


@pytest.mark.parametrize("name", NAMES)
def test_resume_is_exact_on_both_ranks(runs: Path, name: str) -> None:
    for whole, resumed in zip(ranks(runs / f"{name}-whole"), ranks(runs / f"{name}-resumed"), strict=True):
        for part in ("state", "optimizer", "val"):
            assert_equal(whole[part], resumed[part], part)
        assert_equal(whole["own"]["standing"], resumed["own"]["standing"])
        if name not in ON_POLICY:
            assert_equal(whole["own"]["replay"], resumed["own"]["replay"])


def test_another_number_of_processes_is_refused(runs: Path, tmp_path: Path) -> None:
    checkpoint = runs / "dqn-half" / "checkpoints" / "last.ckpt"
    trainer = Trainer(str(tmp_path), max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(CheckpointError, match="written by 2 processes and this run has 1") as refusal:
        trainer.fit(agent("dqn"), ckpt_path=str(checkpoint))
    assert "\n" not in str(refusal.value)


def test_two_devices_are_two_processes_without_further_settings(tmp_path: Path) -> None:
    run("tests.distributed_run", str(tmp_path))
    first, second = ranks(tmp_path / "auto")
    assert first["strategy"] == "DDPStrategy" and first["world_size"] == 2
    assert_equal(first["state"], second["state"])
