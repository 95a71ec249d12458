"""Scalars of training, gathered without synchronising and written now and then."""

import math
import time
from typing import Any

import torch
from torch import Tensor


class Record:
    """Collects scalars per update; :meth:`flush` averages them since the last time, over all ranks.

    Nothing is read back from an accelerator before that, and the latest values stay at hand for the
    progress bar in ``latest``.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self._pending: dict[str, list[Tensor | float]] = {}
        self.start(0, 0)

    def start(self, env_steps: int, updates: int) -> None:
        """Begin to measure speed here."""
        self._clock = (time.perf_counter(), env_steps, updates)

    @torch.compiler.disable
    def add(self, values: dict[str, Tensor | float]) -> None:
        """Scalars of one update."""
        for name, value in values.items():
            self._pending.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def flush(self, env_steps: int, updates: int, extra: dict[str, float], strategy: Any) -> dict[str, float]:
        """Means since the last call, ``extra`` and the speed, averaged over the ranks that have them."""
        values = {name: _mean(pending) for name, pending in self._pending.items()} | extra
        self._pending.clear()
        values = _average_over_ranks(values, strategy)
        now, (then, steps_then, updates_then) = time.perf_counter(), self._clock
        elapsed = max(now - then, 1e-9)
        values["steps_per_second"] = (env_steps - steps_then) / elapsed
        values["updates_per_second"] = (updates - updates_then) / elapsed
        self._clock = (now, env_steps, updates)
        values["updates"] = float(updates)
        self.latest.update(values)
        return values

    def snapshot(self) -> dict[str, Any]:
        """See :meth:`restore`."""
        return {
            "latest": dict(self.latest),
            "pending": {name: [float(v) for v in values] for name, values in self._pending.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on averaging where :meth:`snapshot` was taken."""
        self.latest = dict(state["latest"])
        self._pending = {name: list(values) for name, values in state["pending"].items()}


def _mean(pending: list[Tensor | float]) -> float:
    tensors = [value for value in pending if isinstance(value, Tensor)]
    if len(tensors) == len(pending):
        return float(torch.stack(tensors).float().mean())
    return sum(float(value) for value in pending) / len(pending)


def _average_over_ranks(values: dict[str, float], strategy: Any) -> dict[str, float]:
    """Ranks may lack a scalar, such as a return before their first episode has ended."""
    if getattr(strategy, "world_size", 1) == 1:
        return values
    everyone: list[Any] = [None] * strategy.world_size
    torch.distributed.all_gather_object(everyone, values)
    names = dict.fromkeys(name for rank in everyone for name in rank)
    means = {}
    for name in names:
        present = [rank[name] for rank in everyone if name in rank and not math.isnan(rank[name])]
        means[name] = sum(present) / len(present) if present else math.nan
    return means
