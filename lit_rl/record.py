"""Scalars of training, gathered without synchronising and written now and then."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from lit_rl.collective import all_values

HELD = 64  # updates whose values are kept as they came


class Record:
    """Collects values per update; :meth:`flush` averages them since the last time, over all ranks.

    Means are taken of many updates at once: one by one they would cost as much as a small network's layers.
    Nothing is read back from an accelerator before that, and the latest values stay at hand for the
    progress bar in ``latest``.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self._pending: dict[str, list[Tensor | float]] = {}
        self._means: dict[str, list[Tensor]] = {}  # [n] each, of n updates before those pending
        self.start(0, 0)

    def start(self, env_steps: int, updates: int) -> None:
        """Begin to measure speed here."""
        self._clock = (time.perf_counter(), env_steps, updates)

    def add(self, values: dict[str, Tensor | float]) -> None:
        """Numbers of one update, or tensors of any shape, of which the mean counts."""
        for name, value in values.items():
            pending = self._pending.setdefault(name, [])
            pending.append(value.detach() if isinstance(value, Tensor) else value)
            if len(pending) == HELD:
                self._condense(name)

    def _condense(self, name: str) -> None:
        self._means.setdefault(name, []).append(_each_mean(self._pending.pop(name)))

    def _all_means(self) -> dict[str, Tensor]:
        """[n] of the n updates since the last flush, by name; nothing is pending afterwards."""
        for name in list(self._pending):
            self._condense(name)
        return {name: torch.cat([part.cpu() for part in means]) for name, means in self._means.items()}

    def flush(self, env_steps: int, updates: int, extra: dict[str, float]) -> dict[str, float]:
        """Means since the last call, ``extra`` and the speed, averaged over the ranks that have them."""
        values = {name: float(means.mean()) for name, means in self._all_means().items()} | extra
        self._means.clear()
        values = _average_over_ranks(values)
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
            "means": {name: means.tolist() for name, means in self._all_means().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on averaging where :meth:`snapshot` was taken."""
        self.latest = dict(state["latest"])
        self._pending = {}
        self._means = {name: [torch.tensor(values)] for name, values in state["means"].items()}


def _each_mean(pending: list[Tensor | float]) -> Tensor:
    """The mean of each [n]."""
    tensors = [value for value in pending if isinstance(value, Tensor)]
    if len(tensors) < len(pending):
        return torch.tensor([float(value) for value in pending])
    if len({value.shape for value in tensors}) == 1:
        return torch.stack(tensors).float().unsqueeze(-1).flatten(1).mean(1)
    return torch.stack([value.float().mean() for value in tensors])


def _average_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """Ranks may lack a scalar, such as a return before their first episode has ended."""
    everyone = all_values(values)
    if len(everyone) == 1:
        return values
    names = dict.fromkeys(name for rank in everyone for name in rank)
    means = {}
    for name in names:
        present = [rank[name] for rank in everyone if name in rank and not math.isnan(rank[name])]
        means[name] = sum(present) / len(present) if present else math.nan
    return means
