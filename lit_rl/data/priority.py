"""Prioritised replay: rows with a large TD error come up more often, and count less when they do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.data.memory import ReplayMemory
from lit_rl.schedules import Scheduled, as_schedule


@dataclass(frozen=True)
class Prioritized:
    """Recipe of proportional prioritisation (Schaul et al. 2016; formula sheet H2).

    All K minibatches of a round are drawn at once: for the last of them, priorities are K − 1 updates old.

    Args:
        alpha: 0 samples uniformly, 1 in proportion to the TD error.
        beta: how far importance weights undo the bias; anneal it to 1.
        epsilon: added to every |TD error|, so that nothing is forgotten.
    """

    alpha: float = 0.6
    beta: Scheduled = 0.4
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or self.epsilon <= 0:
            raise ValueError(f"Prioritized needs 0 ≤ alpha ≤ 1 and epsilon > 0; got {self}")


WIDTH = 16  # children of a node, as many as the bits of a word
_BEFORE = np.triu(np.ones((WIDTH, WIDTH), np.float32), 1)  # rows.dot(this) are sums of all before: cheaper than cumsum
_ALL = np.ones(WIDTH, np.float32)
_ZERO = np.float32(0)
_LAST_CHILD = WIDTH - 1 - np.bitwise_count(np.arange(2**WIDTH, dtype=np.uint16)).astype(np.int64)


class SumTree:
    """Numbers at the leaves, sums of 16 and of 256 above: draw many leaves at once in proportion to their numbers.

    Two narrow levels in single precision, and one wide one in double that all draws share: few array operations for any
    size that fits a memory. The last bits of the sums depend on how many were written at once, so they are all state.
    """

    def __init__(self, leaves: int) -> None:
        blocks = -(-leaves // WIDTH**2)
        # torch's memory begins with a cache line, so that the children of a node fill one
        self.leaves = torch.zeros(blocks * WIDTH**2).numpy()
        self.sums = torch.zeros(blocks * WIDTH).numpy()
        self.before = torch.zeros(blocks * WIDTH).numpy()  # sums of ``sums`` before each in its block
        self.top = np.zeros(blocks)
        self._running = np.zeros(blocks + 1)  # sums of ``top`` before each place, and the total
        self._ends = self._running[1:-1]  # of all blocks but the last
        self._stale = False
        # the same numbers in other shapes
        self._leaves_of = self.leaves.reshape(-1, WIDTH)
        self._sums_of, self._before_of = self.sums.reshape(-1, WIDTH), self.before.reshape(-1, WIDTH)
        self._top, self._after = torch.from_numpy(self.top), torch.from_numpy(self._running)[1:]

    @property
    def running(self) -> np.ndarray:
        """Sums [blocks + 1] of all blocks before each, last the total."""
        if self._stale:
            torch.cumsum(self._top, 0, out=self._after)  # at a third of numpy's cost
            self._stale = False
        return self._running

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return float(self.running[-1])

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The numbers of leaves ``index`` [B]."""
        return self.leaves.take(index)

    def set(self, index: np.ndarray, value: np.ndarray | float) -> None:
        """Write leaves ``index`` [B] (the last of equal ones wins) and refresh the sums above them."""
        self.leaves[index] = value
        row = index // WIDTH  # equal ones stay: writing a sum twice costs less than finding them
        self.sums[row] = self._leaves_of.take(row, 0).dot(_ALL)
        block = row // WIDTH
        sums = self._sums_of.take(block, 0)
        self._before_of[block] = sums.dot(_BEFORE)
        self.top[block] = sums.dot(_ALL)
        self._stale = True

    def find(self, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.floating]:
        """Leaves [B] under which the sums ``mass`` [B] in [0, total) fall, their numbers, and the least: never 0."""
        running = self.running
        block = self._ends.searchsorted(mass, side="right")
        mass = (mass - running.take(block)).astype(np.float32)
        before = self._before_of.take(block, 0).reshape(-1)
        row = block * WIDTH
        row += _last_child(before > mass.repeat(WIDTH))  # repeated: cheaper than broadcast
        mass -= self.before.take(row)
        leaves = self._leaves_of.take(row, 0)
        first = leaves[:, 0]
        first -= mass  # it is part of all sums but the first, which is 0
        place = row * WIDTH
        place += _last_child(leaves.dot(_BEFORE) > _ZERO)
        number = self.leaves.take(place)
        least = number[number.argmin()]  # quicker than min()
        if least == 0.0:  # rounding has led beyond the last number of a block, or of all
            for at in np.flatnonzero(number == 0):
                place[at] = np.flatnonzero(self.leaves[: place[at] + 1])[-1]
            number = self.leaves.take(place)
            least = number[number.argmin()]
        return place, number, least

    def snapshot(self) -> dict[str, Tensor]:
        """See :meth:`restore`."""
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in ("leaves", "sums", "before", "top")}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on where :meth:`snapshot` was taken."""
        for name, saved in state.items():
            getattr(self, name)[...] = saved.numpy()
        self._stale = True


def _last_child(beyond: np.ndarray) -> np.ndarray:
    """The last child [B] before those ``beyond`` [B, 16], flat or not, which are all that follow it: by their bits."""
    return _LAST_CHILD.take(np.packbits(beyond).view(np.uint16))


class Priorities:
    """The priorities of a memory's rows; new rows get the largest seen so far."""

    def __init__(self, recipe: Prioritized, memory: ReplayMemory) -> None:
        self.recipe = recipe
        self.memory = memory
        self.beta = as_schedule(recipe.beta)
        self.tree = SumTree(memory.length * memory.num_envs)
        self.largest = 1.0
        self._slices = np.empty(0)  # 0 … B − 1

    def add(self, rows: np.ndarray) -> None:
        """Newly written flat rows [B]."""
        self.tree.set(rows, self.largest)
        if self.memory.frames > 1:
            self.tree.set(self.memory.unserved(), 0.0)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...], env_steps: int) -> tuple[np.ndarray, Tensor]:
        """Flat rows [*K, B] with P(i) = pᵢ / Σ p, and weights wᵢ = (n P(i))^−β / max w [*K, B].

        The B rows of a minibatch are drawn one from each of B equal slices of Σ p (appendix B.2.1 of the paper): the
        same P with less variance, and quicker, since they lie in the memory's order.
        """
        rows = shape[-1]
        if len(self._slices) != rows:
            self._slices = np.arange(rows, dtype=np.float64)
        place = rng.random(shape)
        place += self._slices
        place *= self.tree.total / rows
        index, priority, least = self.tree.find(place.ravel())
        weight = torch.from_numpy((least / priority) ** self.beta(env_steps))
        return (index, weight) if len(shape) == 1 else (index.reshape(shape), weight.view(shape))

    @torch.compiler.disable
    def update(self, index: Tensor, td_error: Tensor) -> None:
        """pᵢ = (|δᵢ| + ε)^α for the rows [B] just learnt from, δ [B]."""
        error = td_error.detach().abs().float().cpu().numpy() + self.recipe.epsilon
        priority = error**self.recipe.alpha
        self.largest = max(self.largest, float(priority.max()))
        self.tree.set(index.cpu().numpy(), priority)

    def snapshot(self) -> dict[str, Any]:
        """See :meth:`restore`."""
        return {"largest": self.largest, "tree": self.tree.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`snapshot` was taken."""
        self.largest = state["largest"]
        self.tree.restore(state["tree"])
