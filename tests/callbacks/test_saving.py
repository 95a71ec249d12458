"""Saving: train 2N equals train N, stop, resume, N; and the best is the best."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_rl.callbacks.saving import SaveCheckpoint
from lit_rl.checkpoint import AtomicCheckpointIO, CheckpointError, load_checkpoint, read_manifest

from .fake_agent import BATCHES, STEPS, FakeAgent, make_trainer


class Keep(Callback):
    """Copies last.ckpt whenever it is new, so that a test can resume from any moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        last = Path(trainer.checkpoint_callback.folder) / "last.ckpt"
        if last.exists():
            steps = read_manifest(last)["env_steps"]
            shutil.copy(last, self.folder / f"{steps}.ckpt")


def outcome(agent: FakeAgent, saver: SaveCheckpoint) -> dict[str, Any]:
    optimizer = agent.trainer.optimizers[0].state_dict()["state"][0]
    return {
        "weight": agent.weight.tolist(),
        "optimizer": [optimizer[key].tolist() for key in ("step", "exp_avg", "exp_avg_sq")],
        "counters": (agent.env_steps, agent.updates, agent.validations, agent.trainer.global_step),
        "epoch": agent.trainer.current_epoch,
        "rng": agent.rng.get_state().tolist(),
        "saver": (saver.best_score, saver._due),
    }


def test_train_2n_equals_train_n_resume_n(tmp_path: Path) -> None:
    """From every moment that was written: the ends of epochs (50, 100), and inside them (20, 40, 60, 80, 120)."""
    returns = (3.0, 1.0, 7.0)
    saver, agent = SaveCheckpoint(str(tmp_path / "whole"), every_env_steps=20), FakeAgent(returns)
    make_trainer(tmp_path, saver, Keep(tmp_path), epochs=3).fit(agent)
    whole = outcome(agent, saver)
    assert agent.seen == list(range(1, 3 * BATCHES + 1))
    moments = sorted(int(path.stem) for path in tmp_path.glob("*.ckpt"))
    assert moments == [20, 40, 50, 60, 80, 100, 120, 140]
    for moment in moments:
        saver, agent = SaveCheckpoint(str(tmp_path / "resumed"), every_env_steps=20), FakeAgent(returns)
        make_trainer(tmp_path, saver, epochs=3).fit(agent, ckpt_path=tmp_path / f"{moment}.ckpt")
        assert agent.seen == list(range(moment // STEPS + 1, 3 * BATCHES + 1)), moment
        assert outcome(agent, saver) == whole, moment


def test_best_and_last(tmp_path: Path) -> None:
    saver, agent = SaveCheckpoint(str(tmp_path)), FakeAgent(returns=(1.0, 5.0, float("nan"), 5.0, 2.0))
    trainer = make_trainer(tmp_path, saver, epochs=5)
    trainer.fit(agent)
    assert read_manifest(tmp_path / "best.ckpt")["env_steps"] == 2 * BATCHES * STEPS  # 5.0 the first time
    assert read_manifest(tmp_path / "last.ckpt")["env_steps"] == 5 * BATCHES * STEPS
    assert saver.best_score == 5.0 and trainer.checkpoint_callback is saver
    assert (saver.best_model_path, saver.last_model_path) == (str(tmp_path / "best.ckpt"), str(tmp_path / "last.ckpt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    inside = load_checkpoint(tmp_path / "best.ckpt")["callbacks"]["SaveCheckpoint"]
    assert inside["best_score"] == 5.0 and inside["best_model_path"] == str(tmp_path / "best.ckpt")


def test_the_best_in_the_middle_of_an_epoch_holds_the_weights_that_scored(tmp_path: Path) -> None:
    saver, agent = SaveCheckpoint(str(tmp_path)), FakeAgent(returns=(9.0,))
    make_trainer(tmp_path, saver, epochs=1, val_check_interval=2).fit(agent)
    assert read_manifest(tmp_path / "best.ckpt")["env_steps"] == 2 * STEPS
    assert read_manifest(tmp_path / "last.ckpt")["env_steps"] == BATCHES * STEPS


def test_warm_up_is_saved(tmp_path: Path) -> None:
    saver, agent = SaveCheckpoint(str(tmp_path), every_env_steps=20), FakeAgent(warm_up=10**6)
    trainer = make_trainer(tmp_path, saver, epochs=1)
    trainer.fit(agent)
    assert trainer.global_step == 0
    assert load_checkpoint(tmp_path / "last.ckpt")["lit_rl"]["env_steps"] == BATCHES * STEPS


def test_lightning_adds_no_callback_of_its_own_and_gets_the_safe_plugin(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SaveCheckpoint(), epochs=1)
    assert not any(isinstance(callback, ModelCheckpoint) for callback in trainer.callbacks)
    trainer.fit(FakeAgent())
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_directory_that_cannot_be_written_is_refused_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    agent = FakeAgent()
    with pytest.raises(CheckpointError, match="checkpoints cannot be written"):
        make_trainer(tmp_path, SaveCheckpoint(str(tmp_path / "file" / "checkpoints"))).fit(agent)
    assert agent.seen == []


def test_a_failed_write_does_not_end_training_but_the_run_has_not_finished(tmp_path: Path) -> None:
    agent, folder = FakeAgent(), tmp_path / "checkpoints"

    def put_a_file_in_the_way(batch: int) -> None:
        if batch == BATCHES + 1:
            shutil.rmtree(folder)
            folder.write_text("")

    agent.at_batch = put_a_file_in_the_way
    with pytest.warns(UserWarning, match="checkpoint not saved"), pytest.raises(CheckpointError, match="not saved"):
        make_trainer(tmp_path, SaveCheckpoint(str(folder)), epochs=3).fit(agent)
    assert len(agent.seen) == 3 * BATCHES

    agent = FakeAgent()
    folder.unlink()
    folder.mkdir()
    agent.at_batch = put_a_file_in_the_way
    with pytest.raises(CheckpointError, match="not saved"):
        make_trainer(tmp_path, SaveCheckpoint(str(folder), on_error="stop"), epochs=3).fit(agent)
    assert len(agent.seen) == 2 * BATCHES


def test_a_deleted_directory_is_made_again(tmp_path: Path) -> None:
    agent = FakeAgent()
    agent.at_batch = lambda batch: shutil.rmtree(tmp_path / "c") if batch == BATCHES + 1 else None
    make_trainer(tmp_path, SaveCheckpoint(str(tmp_path / "c"))).fit(agent)
    assert load_checkpoint(tmp_path / "c" / "last.ckpt")["lit_rl"]["env_steps"] == 2 * BATCHES * STEPS


def test_objects_in_a_checkpoint_are_a_mistake_that_stops(tmp_path: Path) -> None:
    agent = FakeAgent()
    agent.on_save_checkpoint = lambda checkpoint: checkpoint.update(policy=torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="policy: Linear is not plain data"):
        make_trainer(tmp_path, SaveCheckpoint(str(tmp_path))).fit(agent)
