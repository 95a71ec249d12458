"""Preemption by SLURM: a flag in the handler, one save, one requeue, stop."""

import os
import signal
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment

from lit_rl.callbacks import slurm
from lit_rl.callbacks.saving import SaveCheckpoint
from lit_rl.callbacks.signals import StopOnSignal
from lit_rl.checkpoint import load_checkpoint

from .fake_agent import BATCHES, STEPS, FakeAgent, make_trainer


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of SLURM, and a scontrol that notes what it is asked for in the file returned."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    names = {"JOB_ID": "123", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked, scontrol = tmp_path / "asked", tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    return asked


def run(root: Path, agent: FakeAgent, **options: object) -> StopOnSignal:
    stop = StopOnSignal()
    make_trainer(root, stop, SaveCheckpoint(str(root / "c")), epochs=3, devices=1, **options).fit(agent)
    return stop


def kill(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("batch", [2, BATCHES])
@pytest.mark.parametrize("signals", [(signal.SIGUSR1,), (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM)])
def test_saves_and_requeues_once_and_stops(tmp_path: Path, job: Path, batch: int, signals: tuple[int, ...]) -> None:
    agent = FakeAgent()
    agent.at_batch = lambda now: kill(*signals) if now == batch else None
    stop = run(tmp_path, agent)
    assert agent.seen[-1] == batch and (stop.exit_code, stop.requeued) == (143, True)
    assert job.read_text() == "requeue 123\n"
    assert load_checkpoint(tmp_path / "c" / "last.ckpt")["lit_rl"]["env_steps"] == batch * STEPS
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_sigterm_alone_requeues_nothing(tmp_path: Path, job: Path) -> None:
    agent = FakeAgent()
    agent.at_batch = lambda now: kill(signal.SIGTERM) if now == 2 else None
    stop = run(tmp_path, agent)
    assert (stop.exit_code, stop.requeued) == (143, False) and not job.exists()


def test_a_run_that_is_over_is_not_queued_again(tmp_path: Path, job: Path) -> None:
    agent = FakeAgent()
    agent.at_batch = lambda now: kill(signal.SIGUSR1) if now == 3 * BATCHES else None
    stop = run(tmp_path, agent)
    assert (stop.exit_code, stop.requeued) == (None, False) and not job.exists()
    assert load_checkpoint(tmp_path / "c" / "last.ckpt")["lit_rl"]["env_steps"] == 3 * BATCHES * STEPS


def test_a_refusal_of_scontrol_is_told(tmp_path: Path, job: Path) -> None:
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho Access denied >&2\nexit 1\n")
    agent = FakeAgent()
    agent.at_batch = lambda now: kill(signal.SIGUSR1) if now == 2 else None
    with pytest.warns(UserWarning, match="job 123 is not queued again, scontrol says: Access denied"):
        stop = run(tmp_path, agent)
    assert (stop.exit_code, stop.requeued) == (143, False)


def test_requeueing_can_be_left_to_others(tmp_path: Path, job: Path) -> None:
    agent = FakeAgent()
    agent.at_batch = lambda now: kill(signal.SIGTERM) if now == 2 else None
    before = signal.getsignal(signal.SIGUSR1)
    seen = []
    agent.at_validation = lambda number: seen.append(signal.getsignal(signal.SIGUSR1))
    run(tmp_path, agent, plugins=[SLURMEnvironment(auto_requeue=False)], num_sanity_val_steps=1)
    assert seen == [before]


def test_which_job(monkeypatch: pytest.MonkeyPatch, job: Path) -> None:
    assert slurm.job() == "123" and not slurm.was_requeued()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert slurm.was_requeued()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "99")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    assert slurm.job() == "99_7"
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    monkeypatch.setenv("SLURM_JOB_ID", "1; rm -rf x")
    assert slurm.job() is None and not slurm.requeue()
