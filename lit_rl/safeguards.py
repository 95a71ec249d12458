"""What a run is kept from, and what it leaves behind in order."""

from collections.abc import Iterable, Mapping
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


def not_finite(agent: Any, terms: Mapping[str, Tensor]) -> FloatingPointError:
    """What to raise instead of an optimiser step that would ruin the weights: it names the first culprit.

    Args:
        agent: whose gradients hold NaN or infinity.
        terms: of the loss that they are of.
    """
    gradients = ((name, p.grad) for name, p in agent.named_parameters() if p.grad is not None)
    named = [
        *(f"loss term {name!r}" for name in _bad(terms.items())),
        *(f"weights {name}" for name in _bad(agent.named_parameters())),
        *(f"gradient of {name}" for name in _bad(gradients)),
    ]
    return FloatingPointError(
        f"{named[0] if named else 'norm of the gradient'} is not finite after {agent.updates:,} updates "
        f"({agent.env_steps:,} env steps); no step was taken: lower lr or look at the rewards"
    )


def check_finite(agent: Any) -> None:
    """Refuse to save what a run cannot go on from.

    Raises:
        FloatingPointError: a parameter holds NaN or infinity, or a buffer NaN (bounds may be infinite).
    """
    unknown = [name for name, value in agent.named_buffers() if value.is_floating_point() and bool(value.isnan().any())]
    for name in [*_bad(agent.named_parameters()), *unknown]:
        raise FloatingPointError(
            f"weights {name} are not finite after {agent.updates:,} updates ({agent.env_steps:,} env steps) and are "
            f"not saved: lower lr or look at the rewards"
        )


def _bad(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    return [name for name, value in tensors if not bool(value.detach().isfinite().all())]


class CloseAfterException(Callback):
    """Ends environments and workers: Lightning calls no hook of the module itself then."""

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Also after Ctrl-C."""
        pl_module.close()
