"""Checkpoints keyed on environment steps."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_warn

from lit_rl.bounds import refuse_below
from lit_rl.checkpoint import (
    AtomicCheckpointIO,
    CheckpointError,
    check_writable,
    clear_litter,
    copy_checkpoint,
    last_good,
    remove_orphans,
)


class SaveCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``, from which a run goes on exactly, and ``best.ckpt``.

    ``last.ckpt`` is written when an epoch ends, and every ``every_env_steps`` between two batches, but not
    after the last batch of an epoch: Lightning would not resume that exactly, and the epoch's end is near.
    Lightning's ``ModelCheckpoint`` counts optimiser steps and saves nothing while there were none; this
    one saves in warm-up too.

    Args:
        directory: where to; by default ``checkpoints`` in the run's log directory.
        monitor: the larger this metric, the better.
        every_env_steps: environment steps, over all processes, between two writes inside an epoch.
        on_error: when a write fails, ``warn`` and go on (the run still ends in an error if the last write
            failed), or ``stop``. With several processes it always stops: the others would wait for ever.

    Raises:
        CheckpointError: before the first step, when the directory cannot be written.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        monitor: str = "val/return",
        every_env_steps: int | None = None,
        on_error: Literal["warn", "stop"] = "warn",
    ) -> None:
        self.directory, self.monitor = directory, monitor
        self.every_env_steps, self.on_error = every_env_steps, on_error
        refuse_below(self, 1, "every_env_steps")
        self.best_score = float("-inf")
        self.best_model_path = ""
        self.last_model_path = ""
        self.failure: CheckpointError | None = None  # of the newest write
        self._due: int | None = None  # env steps of the next write inside an epoch
        self._improved = False
        self._written_at: tuple[int, int] | None = None  # env steps and updates in last.ckpt

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Refuse a directory that cannot be written; bring the safe way to the disk along."""
        log_dir = trainer.log_dir  # asked on every rank: it is broadcast
        if stage != "fit":
            return
        self.folder = Path(self.directory or Path(log_dir or trainer.default_root_dir) / "checkpoints")
        self._written_at = None
        if trainer.is_global_zero:
            check_writable(self.folder)
            clear_litter(self.folder)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Fix when the first write inside an epoch is due, unless a checkpoint told."""
        if self._due is None:
            self._schedule(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write between batches when it is time."""
        if self._due is not None and not trainer.is_last_batch and pl_module.env_steps >= self._due:
            self.save_last(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Notice a new best; in the middle of an epoch, write it at once."""
        if trainer.sanity_checking or not trainer.fit_loop.epoch_loop.batch_progress.current.ready:
            return
        score = trainer.strategy.broadcast(float(trainer.callback_metrics.get(self.monitor, float("nan"))))
        if score > self.best_score:
            self.best_score, self._improved = score, True
            if not trainer.is_last_batch:
                self._write(trainer, best=True, last=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the epoch's end, as the best too if it is."""
        self.save_last(trainer, pl_module)

    def save_last(self, trainer: Trainer, agent: Any) -> None:
        """Write ``last.ckpt``, unless it holds this very moment. Call it between batches, on every rank.

        An epoch cut short keeps what was written at its last batch: only that resumes exactly.
        """
        moment = (agent.env_steps, agent.updates)
        if moment != self._written_at:
            self._schedule(agent)
            if self._write(trainer, best=self._improved, last=True):
                self._written_at = moment

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """A run whose last checkpoint is missing has not finished."""
        if self.failure is not None:
            raise self.failure

    def state_dict(self) -> dict[str, Any]:
        """Score, paths and schedule."""
        return {
            "best_score": self.best_score,
            "best_model_path": self.best_model_path,
            "last_model_path": self.last_model_path,
            "due": self._due,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.best_score, self.best_model_path = state_dict["best_score"], state_dict["best_model_path"]
        self.last_model_path, self._due = state_dict["last_model_path"], state_dict["due"]

    def _schedule(self, agent: Any) -> None:
        if self.every_env_steps is not None:
            self._due = (agent.env_steps // self.every_env_steps + 1) * self.every_env_steps

    def _write(self, trainer: Trainer, best: bool, last: bool) -> bool:
        """Write the best first: a kill in between then leaves an older ``last.ckpt``, which will find it again."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return True
        paths = [self.folder / f"{name}.ckpt" for name, wanted in (("best", best), ("last", last)) if wanted]
        before = (self.best_model_path, self.last_model_path)
        self.best_model_path = str(self.folder / "best.ckpt") if best else self.best_model_path
        self.last_model_path = str(self.folder / "last.ckpt") if last else self.last_model_path
        try:
            trainer.save_checkpoint(paths[0])
            if trainer.is_global_zero:
                for path in paths[1:]:
                    copy_checkpoint(paths[0], path)
                remove_orphans(self.folder)
            self.failure = None
            self._improved = self._improved and not best
            return True
        except CheckpointError as error:
            self.best_model_path, self.last_model_path = before
            if "good" not in str(error):  # the replay's own words
                error = CheckpointError(f"checkpoint not saved: {error}; {last_good(paths[0])}")
            if trainer.is_global_zero:
                with suppress(CheckpointError):
                    remove_orphans(self.folder)  # a replay that no file names would fill the disk for the next try
            if self.on_error == "stop" or trainer.world_size > 1:
                raise error from None
            self.failure = error
            rank_zero_warn(f"{error}. Training goes on.")
            return False
