import io
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from rich.console import Console

from lit_rl.callbacks.progress import EnvStepProgress, clock
from lit_rl.callbacks.saving import SaveCheckpoint

from .fake_agent import BATCHES, STEPS, FakeAgent, make_trainer


def run(root: Path, terminal: bool, agent: FakeAgent, *, ckpt_path: Path | None = None, epochs: int = 2) -> str:
    bar, out = EnvStepProgress(), io.StringIO()
    bar.console = Console(file=out, force_terminal=terminal, width=200)
    agent.total_env_steps = epochs * BATCHES * STEPS
    saver = SaveCheckpoint(str(root))
    make_trainer(root, bar, saver, epochs=epochs, enable_progress_bar=True).fit(agent, ckpt_path=ckpt_path)
    return out.getvalue()


def test_plain_lines_one_per_epoch(tmp_path: Path) -> None:
    lines = run(tmp_path, False, FakeAgent(returns=(1.5, 20.0))).splitlines()
    assert [line.split("  ")[:4] for line in lines] == [
        ["epoch 1", "50 of 100 env steps", "val/return 1.5", "train/episode_return 50.0"],
        ["epoch 2", "100 of 100 env steps", "val/return 20.0", "train/episode_return 100.0"],
    ]
    assert all("steps/s" in line and "elapsed 0:00:0" in line and "eta 0:00:0" in line for line in lines)


def test_a_live_line_on_a_terminal(tmp_path: Path) -> None:
    text = run(tmp_path, True, FakeAgent(returns=(1.5, 20.0)))
    assert "FakeAgent" in text and "100 of 100 env steps" in text and "val/return 20.0" in text
    assert "epoch" not in text


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    run(tmp_path, False, FakeAgent(), epochs=1)
    agent = FakeAgent()
    lines = run(tmp_path, False, agent, ckpt_path=tmp_path / "last.ckpt").splitlines()
    assert len(lines) == 1 and lines[0].startswith("epoch 2  100 of 100 env steps")


def test_speed_counts_only_this_run() -> None:
    """1000 steps were there at the start; 500 more in 10 s are 50 steps/s, and 500 to go take 10 s."""
    bar, agent, trainer = EnvStepProgress(), FakeAgent(), make_trainer(Path("."))
    agent.env_steps, agent.total_env_steps = 1000, 2000
    bar._enabled = False
    bar.on_train_start(trainer, agent)
    bar._past[0] = (time.monotonic() - 10, 1000)
    bar._start -= 75
    agent.env_steps = 1500
    text = bar._text(trainer, agent)
    assert "1,500 of 2,000 env steps  50 steps/s  elapsed 0:01:15  eta 0:00:10" in text
    agent.total_env_steps = None
    assert "eta" not in bar._text(trainer, agent)


def test_a_batch_costs_next_to_nothing() -> None:
    bar = EnvStepProgress()
    bar._progress, bar._next = SimpleNamespace(), time.monotonic() + 1e6
    trainer, costs = make_trainer(Path(".")), []
    for _ in range(5):
        start = time.perf_counter()
        for index in range(1000):
            bar.on_train_batch_end(trainer, None, None, None, index)
        costs.append((time.perf_counter() - start) / 1000)
    assert min(costs) < 150e-6  # 30 µs on a quiet machine; a batch takes milliseconds


def test_other_ranks_are_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    for terminal in (False, True):
        assert run(tmp_path, terminal, FakeAgent()) == ""


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 3661, -1)] == ["0:00:00", "0:01:00", "1:01:01", "0:00:00"]
