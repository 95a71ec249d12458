"""The run's configuration, readable beside its curves."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger


class ConfigText(Callback):
    """Writes ``config.yaml`` of the log directory, where there is one, into TensorBoard's text page."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Once, at the start."""
        log_dir = trainer.log_dir  # asked on every rank: it is broadcast
        path = Path(log_dir or ".") / "config.yaml"
        if log_dir is None or not trainer.is_global_zero or not path.is_file():
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                indented = "\n".join(f"    {line}" for line in path.read_text().splitlines())  # markdown's code
                logger.experiment.add_text("config", indented, pl_module.env_steps)
