"""Lightning's Trainer with the defaults that reinforcement learning wants."""

from pathlib import Path
from typing import Any, Union

from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.plugins import CheckpointIO, ClusterEnvironment, Precision

from lit_rl.callbacks.config_text import ConfigText
from lit_rl.callbacks.progress import EnvStepProgress
from lit_rl.callbacks.ranks import WatchRanks
from lit_rl.callbacks.saving import SaveCheckpoint
from lit_rl.callbacks.signals import StopOnSignal
from lit_rl.checkpoint import AtomicCheckpointIO
from lit_rl.loggers import curves, outlive

Plugin = Union[Precision, ClusterEnvironment, CheckpointIO]


class Trainer(LightningTrainer):
    """A run in one fixed directory: checkpoints, TensorBoard events and the resolved config, side by side.

    All of Lightning's arguments hold; what differs are defaults. Checkpoints are written atomically and
    verified, ``last.ckpt`` and ``best.ckpt`` are kept, signals stop between batches, the progress bar
    counts environment steps, and no sanity validation runs before training. A logger that fails does
    not end the run; of several processes none waits for one that is lost.

    Args:
        directory: of this run; ``default_root_dir`` of Lightning.
        max_epochs: length of the run; an epoch is ``data.steps_per_epoch`` environment steps.
        accelerator: ``cpu`` by default, which small networks prefer.
        log_every_n_steps: batches between two points of the training curves.
        callbacks: beside those for saving, progress, signals and lost processes; one that saves, shows progress or
            watches processes replaces the default.
        plugins: beside the checkpoints'.
        num_sanity_val_steps: validation batches before training.
        enable_model_summary: print a table of the modules.
        inference_mode: of torch, in validation and tests; off, since some policies follow a gradient to act.
        arguments: any other argument of :class:`lightning.pytorch.Trainer`.
    """

    callbacks: list[Callback]

    def __init__(
        self,
        directory: str = "runs/default",
        max_epochs: int = 10,
        accelerator: str = "cpu",
        log_every_n_steps: int = 10,
        *,
        callbacks: list[Callback] | Callback | None = None,
        plugins: Plugin | list[Plugin] | None = None,
        num_sanity_val_steps: int = 0,
        enable_model_summary: bool = False,
        inference_mode: bool = False,
        **arguments: Any,
    ) -> None:
        self.saving_to: Path | None = None
        self.directory = Path(directory)
        callbacks = _as_list(callbacks)
        if arguments.get("enable_checkpointing", True) and not any(isinstance(c, Checkpoint) for c in callbacks):
            callbacks.append(SaveCheckpoint(str(self.directory / "checkpoints")))
        if arguments.get("enable_progress_bar", True) and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(EnvStepProgress())
        if not any(isinstance(c, WatchRanks) for c in callbacks):
            callbacks.append(WatchRanks())
        callbacks += [StopOnSignal(), ConfigText()]
        if arguments.get("logger") is None:
            arguments["logger"] = curves(self.directory)
        super().__init__(
            max_epochs=max_epochs,
            accelerator=accelerator,
            log_every_n_steps=log_every_n_steps,
            default_root_dir=directory,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), *_as_list(plugins)],
            num_sanity_val_steps=num_sanity_val_steps,
            enable_model_summary=enable_model_summary,
            inference_mode=inference_mode,
            **arguments,
        )
        for logger in self.loggers:
            outlive(logger)

    def save_checkpoint(self, filepath: Any, weights_only: bool | None = None, storage_options: Any = None) -> None:
        """Save, and let the agent know where: a replay is written beside its checkpoint."""
        self.saving_to = Path(filepath).parent
        super().save_checkpoint(filepath, weights_only, storage_options)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
