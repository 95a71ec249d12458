"""What every training data set has in common: a length, rounds, statistics, and an exact state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lit_rl.batch import to_device
from lit_rl.data.source import Source


class Round(NamedTuple):
    """What is learnt from before anything more is collected."""

    data: Any  # a Rollout [T, N], or Transitions [K, B]: K updates
    env_steps: int  # taken by this process to get it


class Rounds:
    """One batch of a loader: a run of rounds, each collected only when the one before it has been learnt from.

    How many rounds make a batch is bookkeeping (Lightning's cost per batch, how often signals and
    logging get their turn): it has no influence on the result, and there is never any policy lag.
    """

    def __init__(self, experience: "Experience") -> None:
        self._experience = experience
        self._device: torch.device | None = None

    def draw(self, batch_idx: int) -> Iterator[Round]:
        """The rounds of batch ``batch_idx`` of an epoch. A resumed epoch begins its iterator anew: only the
        trainer knows which batch this is."""
        for round_ in self._experience.rounds(batch_idx):
            yield round_ if self._device is None else Round(to_device(round_.data, self._device), round_.env_steps)

    def to(self, device: torch.device, **_: Any) -> "Rounds":
        """Hand out the rounds on ``device`` (called by the trainer)."""
        self._device = None if device.type == "cpu" else device
        return self


class Experience(IterableDataset, ABC):
    """A sized stream of batches of rounds.

    The length matters: without one, the loop would fetch a batch ahead, and on-policy data would
    silently be one update old.
    """

    source: Source

    def __init__(self, rounds_per_epoch: int, rounds_per_batch: int) -> None:
        self._rounds_per_epoch = rounds_per_epoch
        self._rounds_per_batch = min(rounds_per_batch, rounds_per_epoch)

    @abstractmethod
    def next_round(self) -> Round:
        """Collect what the next updates need."""

    def __len__(self) -> int:
        return math.ceil(self._rounds_per_epoch / self._rounds_per_batch)

    def __iter__(self) -> Iterator[Rounds]:
        for _ in range(len(self)):
            yield Rounds(self)

    def rounds_in(self, batch_idx: int) -> int:
        """Rounds of one batch: the last of an epoch may have fewer."""
        return min(self._rounds_per_batch, self._rounds_per_epoch - batch_idx * self._rounds_per_batch)

    def rounds(self, batch_idx: int) -> Iterator[Round]:
        """The rounds of one batch, each collected when it is asked for."""
        for _ in range(self.rounds_in(batch_idx)):
            yield self.next_round()

    def learnt(self, index: Tensor, td_error: Tensor) -> None:
        """Rows [B] have just been learnt from, with these TD errors [B]; a prioritised memory takes note."""

    def statistics(self) -> dict[str, float]:
        """Scalars worth plotting: returns and lengths of episodes, fill of the memory."""
        return self.source.summary()

    def snapshot(self) -> dict[str, Any]:
        """The small part of the state, as tensors and plain Python."""
        return {"source": self.source.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where :meth:`snapshot` was taken."""
        self.source.restore(state["source"])

    def save(self, folder: Path) -> bool:
        """Write the large part of the state into ``folder``; returns whether there is any."""
        return False

    def load(self, folder: Path) -> None:
        """Read back what :meth:`save` wrote."""

    def close(self) -> None:
        """End environments and workers."""
        self.source.close()
