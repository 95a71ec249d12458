"""What a run survives: numbers that are not finite, loggers that fail, environments that never end or always break."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import lit_rl
from lit_rl import Env, loggers
from lit_rl.checkpoint import load_checkpoint
from lit_rl.envs import episodic
from lit_rl.envs.vector import EnvError
from tests.envs.scripted import register
from tests.tiny import tiny, trainer

register()


class From(Callback):
    """Does something when an epoch begins."""

    def __init__(self, epoch: int, what: Any) -> None:
        self.epoch, self.what = epoch, what

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            self.what(pl_module)


def ruin_the_loss(agent: Any) -> None:
    loss = agent.loss
    agent.loss = lambda batch: {name: term * torch.nan for name, term in loss(batch).items()}


def ruin_a_target(agent: Any) -> None:
    """Weights that no loss reads: only saving finds them."""
    agent.register_parameter("spare", torch.nn.Parameter(torch.full((2,), torch.inf), requires_grad=False))


@pytest.mark.parametrize(
    ("ruin", "says"),
    [(ruin_the_loss, "loss term 'td_loss' is not finite"), (ruin_a_target, "weights spare are not finite")],
)
def test_the_culprit_is_named_and_the_last_finite_checkpoint_kept(ruin: Any, says: str, tmp_path: Path) -> None:
    run = trainer(tmp_path, 4, enable_checkpointing=True, callbacks=[From(2, ruin)])
    agent = tiny("DQN")
    with pytest.raises(FloatingPointError, match=says):
        run.fit(agent)
    kept = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert kept["lit_rl"]["env_steps"] == 160  # two epochs of 80
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_infinite_bounds_are_no_fault(tmp_path: Path) -> None:
    agent = tiny("PPO", net=lit_rl.ActorCritic(lit_rl.MLP((8,), normalize=True)))
    assert any(value.isinf().any() for value in agent.buffers())
    trainer(tmp_path, enable_checkpointing=True).fit(agent)
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


class Full(CSVLogger):
    """No space left."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        raise OSError(28, "No space left on device")


def test_a_logger_that_fails_is_one_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Full failed .*No space left on device.* Training goes on") as caught:
        trainer(tmp_path, 3, logger=Full(tmp_path), log_every_n_steps=1, limit_val_batches=1).fit(tiny("DQN"))
    assert sum("Full failed" in str(warning.message) for warning in caught) == 1


def test_a_log_directory_that_disappears_is_survived(tmp_path: Path) -> None:
    logs, kept = tmp_path / "logs", tmp_path / "kept"
    events = TensorBoardLogger(logs, name="", version="", max_queue=1, flush_secs=1)
    gone = From(1, lambda agent: shutil.rmtree(logs))
    saving = lit_rl.callbacks.SaveCheckpoint(str(kept))
    agent = tiny("DQN")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(logs, 4, logger=events, log_every_n_steps=1, enable_checkpointing=True,
                callbacks=[gone, saving]).fit(agent)  # fmt: skip
    assert agent.env_steps == 320
    assert load_checkpoint(kept / "last.ckpt")["lit_rl"]["env_steps"] == 320


def test_curves_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

    assert isinstance(loggers.curves(tmp_path), TensorBoardLogger)
    monkeypatch.setattr(loggers, "TensorBoardLogger", missing)
    with pytest.warns(UserWarning, match="TensorBoard is missing, pip install tensorboard"):
        assert isinstance(loggers.curves(tmp_path), CSVLogger)


def test_an_episode_without_end_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodic, "ENDLESS", 50)
    env = Env("Scripted-v0", 2, {"script": ((10**9, True, False),)}).open()
    env.reset()
    with pytest.warns(UserWarning, match=r"env 0 \(Scripted-v0\) has run for 50 steps without an end") as caught:
        for _ in range(200):
            env.step(np.zeros(2, np.int64))
    assert len(caught) == 1


def test_restarts_have_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Env("Scripted-v0", kwargs={"fault": "raise", "fault_step": 1}, on_error="restart", max_restarts=2)
    env = recipe.open()
    env.reset()
    with pytest.warns(UserWarning), pytest.raises(EnvError, match=r"restart 3 .* more than env\.max_restarts=2"):
        for _ in range(3):
            env.step(np.ones(1, np.int64))
    with pytest.raises(ValueError, match=r"env\.max_restarts must be a whole number of at least 0, not -1"):
        recipe.replace(max_restarts=-1)
    with pytest.raises(ValueError, match="does not apply to vectorization 'native'"):
        Env("CartPole-v1", vectorization="native", on_error="restart")


def test_an_action_that_is_not_finite_is_the_policy_s_fault() -> None:
    env = Env("Pendulum-v1", 2, on_error="restart").open()
    env.reset()
    with pytest.raises(EnvError, match=r"env 1 \(Pendulum-v1\) was given the action \[nan\].* at step 1"):
        env.step(np.array([[0.0], [np.nan]], np.float32))


def test_rewards_beyond_float32_are_infinite() -> None:
    guard = Env("CartPole-v1").with_spaces().open(2).guard
    obs = np.zeros((2, 4), np.float32)
    assert guard.faults(obs, [1e38, -1e38], 1001) == {}
    assert guard.faults(obs, [1e39, -1e39], 1001).keys() == {0, 1}
    assert guard.faults(obs, np.array([1.0, np.nan], np.float32), 1001).keys() == {1}
    assert guard.faults(np.full((2, 4), 1e25, np.float32), [0.0, 0.0], 1001) == {}  # its square overflows, it does not
