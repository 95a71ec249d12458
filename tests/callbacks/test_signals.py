"""Signals at every kind of moment: saved once, exactly resumable, in order."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lit_rl.callbacks.saving import SaveCheckpoint
from lit_rl.callbacks.signals import StopOnSignal
from lit_rl.checkpoint import load_checkpoint

from .fake_agent import BATCHES, STEPS, FakeAgent, make_trainer

EPOCHS = 3


def run(root: Path, agent: FakeAgent, ckpt_path: Path | None = None, **options: int) -> StopOnSignal:
    stop = StopOnSignal()
    make_trainer(root, stop, SaveCheckpoint(str(root)), epochs=EPOCHS, **options).fit(agent, ckpt_path=ckpt_path)
    return stop


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("batch", [1, 3, BATCHES, BATCHES + 1, EPOCHS * BATCHES - 1])
def test_a_signal_stops_after_the_batch_and_resume_is_exact(tmp_path: Path, number: int, batch: int) -> None:
    whole = FakeAgent()
    run(tmp_path, whole)
    before = [signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)]

    first = FakeAgent()
    first.at_batch = lambda now: kill(number) if now == batch else None
    stop = run(tmp_path, first, min_epochs=EPOCHS)
    assert first.seen[-1] == batch and stop.exit_code == 128 + number
    assert load_checkpoint(tmp_path / "last.ckpt")["lit_rl"]["env_steps"] == batch * STEPS
    assert first.validations == batch // BATCHES  # none was added on the way out
    assert [signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)] == before

    second = FakeAgent()
    stop = run(tmp_path, second, tmp_path / "last.ckpt")
    assert stop.exit_code is None and first.seen + second.seen == whole.seen
    assert torch.equal(second.weight, whole.weight) and torch.equal(second.rng.get_state(), whole.rng.get_state())


def test_a_signal_in_validation_stops_at_the_end_of_the_epoch(tmp_path: Path) -> None:
    agent = FakeAgent()
    agent.at_validation = lambda number: kill(signal.SIGTERM)
    stop = run(tmp_path, agent)
    assert len(agent.seen) == BATCHES and stop.exit_code == 143
    assert load_checkpoint(tmp_path / "last.ckpt")["lit_rl"]["env_steps"] == BATCHES * STEPS


def test_a_signal_in_the_sanity_check_stops_after_the_first_batch(tmp_path: Path) -> None:
    agent = FakeAgent()
    agent.at_validation = lambda number: kill(signal.SIGTERM)
    stop = run(tmp_path, agent, num_sanity_val_steps=1)
    assert agent.seen == [1] and stop.exit_code == 143


def test_a_signal_while_saving_waits(tmp_path: Path) -> None:
    agent = FakeAgent()
    save = agent.on_save_checkpoint
    agent.on_save_checkpoint = lambda checkpoint: (save(checkpoint), kill(signal.SIGTERM))
    stop = run(tmp_path, agent)
    assert len(agent.seen) == BATCHES + 1 and stop.exit_code == 143
    assert load_checkpoint(tmp_path / "last.ckpt")["lit_rl"]["env_steps"] == (BATCHES + 1) * STEPS


def in_child(body: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        try:
            body()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    def interrupt(batch: int) -> None:
        if batch == BATCHES + 2:
            kill(signal.SIGINT)
            kill(signal.SIGINT)
            time.sleep(10)

    agent = FakeAgent()
    agent.at_batch = interrupt
    start = time.perf_counter()
    assert in_child(lambda: run(tmp_path, agent)) == 130
    assert time.perf_counter() - start < 8
    assert load_checkpoint(tmp_path / "last.ckpt")["lit_rl"]["env_steps"] == BATCHES * STEPS


def test_one_signal_to_one_of_two_processes_stops_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a torch with CUDA refuses a fork of a fork once another test has asked for GPUs; both processes run on the CPU
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    agent = FakeAgent()

    def batch(number: int) -> None:
        rank = agent.trainer.global_rank
        with open(tmp_path / f"rank{rank}", "a") as file:
            file.write(f"{number}\n")
        if rank == 1 and number == BATCHES + 2:
            kill(signal.SIGTERM)

    agent.at_batch = batch

    def both() -> None:
        saver = SaveCheckpoint(str(tmp_path))
        options = {"strategy": "ddp_fork", "devices": 2}
        make_trainer(tmp_path, StopOnSignal(), saver, epochs=EPOCHS, **options).fit(agent)

    assert in_child(both) == 0
    for rank in (0, 1):
        assert (tmp_path / f"rank{rank}").read_text().split()[-1] == str(BATCHES + 2)
    assert load_checkpoint(tmp_path / "last.ckpt")["lit_rl"]["env_steps"] == (BATCHES + 2) * STEPS
