"""What a run is kept from, and what it leaves behind in order."""

from typing import Any

from lightning.pytorch import Callback, Trainer
from torch import Tensor

PRECISIONS = ("32-true", "bf16-mixed", "64-true")


def check_precision(precision: str) -> None:
    """Refuse a precision that cannot learn.

    Raises:
        ValueError: the weights would have 16 bits, or the loss would be scaled, which clipping does not know.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"trainer.precision is {precision}: weights, and the small numbers of a loss, need more digits; "
            f"use one of {', '.join(PRECISIONS)}"
        )


def mean_over_ranks(value: Tensor, trainer: Any) -> float:
    """For decisions that all ranks must take alike, such as leaving a loop of updates: else they wait for ever."""
    return float(trainer.strategy.reduce(value.clone(), reduce_op="mean"))


class CloseAfterException(Callback):
    """Ends environments and workers: Lightning calls no hook of the module itself then."""

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Also after Ctrl-C."""
        pl_module.close()
