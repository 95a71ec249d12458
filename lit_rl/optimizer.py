"""Recipe of the one optimiser that an agent descends with."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lit_rl.schedules import Scheduled, as_schedule


@dataclass(frozen=True)
class Optimizer:
    """How parameters move.

    Args:
        lr: learning rate, or a schedule of it over env steps.
        name: ``adam`` (fused), ``rmsprop`` or ``sgd``.
        eps: added to the denominator (adam, rmsprop).
        max_grad_norm: gradients are scaled down to this norm; None leaves them alone.
        weight_decay: L2 penalty.
        compile: run the loss through ``torch.compile``.
    """

    lr: Scheduled = 3e-4
    name: Literal["adam", "rmsprop", "sgd"] = "adam"
    eps: float = 1e-8
    max_grad_norm: float | None = None
    weight_decay: float = 0.0
    compile: bool = False

    def __post_init__(self) -> None:
        first = as_schedule(self.lr)(0)
        if not 0 <= first < float("inf"):
            raise ValueError(f"Optimizer.lr starts at {first}; a learning rate is 0 or positive")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"Optimizer.max_grad_norm is {self.max_grad_norm}; it must be positive, or null for none")
        if not self.eps > 0 or not self.weight_decay >= 0:
            raise ValueError(f"Optimizer needs eps > 0 and weight_decay ≥ 0; got {self.eps} and {self.weight_decay}")
        if self.name not in ("adam", "rmsprop", "sgd"):
            raise ValueError(f"Optimizer.name is {self.name!r}; it is adam, rmsprop or sgd")

    def build(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The optimiser of these parameters or parameter groups."""
        lr = as_schedule(self.lr)(0)
        if self.name == "adam":
            return torch.optim.Adam(parameters, lr=lr, eps=self.eps, weight_decay=self.weight_decay, fused=True)
        if self.name == "rmsprop":
            return torch.optim.RMSprop(
                parameters, lr=lr, alpha=0.99, eps=self.eps, weight_decay=self.weight_decay, foreach=True
            )
        return torch.optim.SGD(parameters, lr=lr, weight_decay=self.weight_decay)
