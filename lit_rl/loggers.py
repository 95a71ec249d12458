"""Curves are worth keeping, but no run ends for them."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

METHODS = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")


def curves(directory: str | Path, purge_step: int | None = None) -> Logger:
    """TensorBoard's events in the directory itself, or a table in ``csv/`` of it where TensorBoard is not installed.

    Args:
        directory: of the run.
        purge_step: what events beyond this step say of an earlier run is hidden.
    """
    try:
        return TensorBoardLogger(directory, name="", version="", default_hp_metric=False, purge_step=purge_step)
    except ModuleNotFoundError:
        rank_zero_warn(
            f"curves are written to {Path(directory) / 'csv'}: TensorBoard is missing, pip install tensorboard"
        )
        return CSVLogger(directory, name="csv")


def outlive(logger: Logger) -> None:
    """From now on what the logger raises, such as where its disk is full, is one warning and no end of the run."""
    shared = _Told()
    for name in METHODS:
        method = getattr(logger, name)
        if not isinstance(method, _Shielded):
            setattr(logger, name, _Shielded(method, shared))


class _Told:
    """Whether a logger's failure was reported."""

    value = False


class _Shielded:
    """A method whose exceptions end here."""

    def __init__(self, method: Any, told: _Told) -> None:
        self.method, self.told = method, told

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        try:
            return self.method(*arguments, **named)
        except Exception as error:
            if not self.told.value:
                self.told.value = True
                name = type(getattr(self.method, "__self__", self.method)).__name__
                text = " ".join(str(error.__cause__ or error).split())
                rank_zero_warn(f"{name} failed ({text}): curves have gaps from here on. Training goes on.")
            return None
