"""One step down the loss: backward, a check of the gradients, clipping, and the one optimiser."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import DoublePrecision, MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from lit_rl.optimizer import FusedAdam
from lit_rl.safeguards import not_finite

if TYPE_CHECKING:
    from lit_rl.agent import Agent

HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


class Descent:
    """Descends for one agent, from the start of its training to the end.

    Lightning's own way around a backward and a step asks every callback three times whether it wants to
    do something: a tenth of the cost of a small network's update. Where :func:`nobody_listens`, both are
    called directly, and the trainer's step counter is moved as it would be.

    Numbers below 1e-38 become 0 meanwhile: where a unit has died, Adam's averages sink to such denormals and
    stay there, and a processor takes three times as long for a step with a third of them.

    Args:
        agent: whose parameters move.
        direct: whether to leave Lightning's hooks out.
    """

    def __init__(self, agent: "Agent", direct: bool) -> None:
        optimizer = agent.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self.agent, self.optimizer = agent, optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.direct = direct
        self._flushed_before = _flushes_denormals()
        self._rate: float | None = None
        plain = all(p.is_cpu and p.dtype in (torch.float32, torch.float64) for p in self.parameters)
        self._norm = _norm_by_numpy if plain else _norm_by_torch
        inner = optimizer.optimizer
        self._step_directly: Callable[[], Any] = inner.step_directly if isinstance(inner, FusedAdam) else inner.step

    def step(self, loss: Tensor, terms: Mapping[str, Tensor] | None = None) -> float:
        """Make one step on the scalar ``loss``. Returns the norm of its gradient before clipping.

        Args:
            loss: to descend.
            terms: that it is the sum of, for the message of an error.

        Raises:
            FloatingPointError: a gradient is not finite; the weights are as they were before.
        """
        for parameter in self.parameters:  # what optimizer.zero_grad() does, at a tenth of its cost
            parameter.grad = None
        torch.set_flush_denormal(True)
        try:
            return self._descend(loss, terms or {})
        finally:
            torch.set_flush_denormal(self._flushed_before)

    def _descend(self, loss: Tensor, terms: Mapping[str, Tensor]) -> float:
        if not self.direct:
            self.agent.manual_backward(loss)
            norm = self._check_and_clip(terms)
            self.optimizer.step()
            return norm
        loss.backward()
        norm = self._check_and_clip(terms)
        self.optimizer._on_before_step()
        self._step_directly()
        self.optimizer._on_after_step()
        return norm

    def set_learning_rate(self, rate: float) -> None:
        """Of every parameter group, times its ``lr_scale`` where it has one."""
        if rate == self._rate:
            return
        self._rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def _check_and_clip(self, terms: Mapping[str, Tensor]) -> float:
        """``clip_grad_norm_`` in two calls, and without the second one where nothing is to be clipped."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = self._norm(gradients)
        limit = self.agent.optimizer.max_grad_norm
        if not math.isfinite(norm):
            raise not_finite(self.agent, terms)
        if limit is not None and norm > limit:
            torch._foreach_mul_(gradients, limit / (norm + 1e-6))
        return norm


def _norm_by_numpy(gradients: list[Tensor]) -> float:
    """√Σ g², at half of what torch's calls cost where gradients are small."""
    return math.sqrt(sum([np.vdot(array, array) for array in [gradient.numpy() for gradient in gradients]]))


def _norm_by_torch(gradients: list[Tensor]) -> float:
    """√Σ g², read back once, whatever the device and the precision."""
    return math.hypot(*torch.stack(torch._foreach_norm(gradients)).tolist())


def _flushes_denormals() -> bool:
    return bool(torch.full((), 1e-40) * 1.0 == 0.0)


def nobody_listens(agent: "Agent") -> bool:
    """Whether hooks around an update have nothing to do: one device, no scaled loss, no profiler, none overridden."""
    trainer = agent.trainer
    plain = (
        isinstance(trainer.strategy, SingleDeviceStrategy)
        and type(trainer.precision_plugin) in (Precision, MixedPrecision, DoublePrecision)
        and getattr(trainer.precision_plugin, "scaler", None) is None
        and isinstance(trainer.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
    )
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    heard = any(
        getattr(type(callback), hook) is not getattr(Callback, hook) for callback in callbacks for hook in HOOKS
    )
    own = (*HOOKS, "backward")
    return plain and not heard and all(getattr(type(agent), hook) is getattr(LightningModule, hook) for hook in own)
