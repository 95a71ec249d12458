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


class SumTree:
    """Numbers at the leaves, sums above: draw a leaf in proportion to its number in log₂ steps, many at once."""

    def __init__(self, leaves: int) -> None:
        self.leaves = 1 << max(0, (leaves - 1).bit_length())
        self.nodes = np.zeros(2 * self.leaves)  # node i has children 2i and 2i + 1; the root is 1

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return float(self.nodes[1])

    def set(self, index: np.ndarray, value: np.ndarray | float) -> None:
        """Write leaves ``index`` [B] (the last of equal ones wins) and refresh the sums above them."""
        node = index + self.leaves
        self.nodes[node] = value
        while node[0] > 1:
            node = node >> 1  # equal ones stay: writing a sum twice costs less than finding them
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """The leaves [B] under which the running sums ``mass`` [B] in [0, total) fall."""
        node = np.ones(len(mass), np.int64)
        mass = mass.copy()
        while node[0] < self.leaves:
            node *= 2
            left = self.nodes[node]
            # Rounding may leave a mass at the very edge of an empty right half: stay on the left then.
            right = (mass >= left) & (self.nodes[node + 1] > 0)
            mass -= left * right
            node += right
        return node - self.leaves


class Priorities:
    """The priorities of a memory's rows; new rows get the largest seen so far."""

    def __init__(self, recipe: Prioritized, memory: ReplayMemory) -> None:
        self.recipe = recipe
        self.memory = memory
        self.beta = as_schedule(recipe.beta)
        self.tree = SumTree(memory.length * memory.num_envs)
        self.largest = 1.0

    def add(self, rows: np.ndarray) -> None:
        """Newly written flat rows [B]."""
        self.tree.set(rows, self.largest)

    def sample(self, rng: np.random.Generator, count: int, env_steps: int) -> tuple[np.ndarray, Tensor]:
        """Flat rows [count] with P(i) = pᵢ / Σ p, and weights (n P(i))^−β / max [count]."""
        index = self.tree.find(rng.random(count) * self.tree.total)
        probability = self.tree.nodes[index + self.tree.leaves] / self.tree.total
        weight = (len(self.memory) * probability) ** -self.beta(env_steps)
        return index, torch.from_numpy((weight / weight.max()).astype(np.float32))

    @torch.compiler.disable
    def update(self, index: Tensor, td_error: Tensor) -> None:
        """pᵢ = (|δᵢ| + ε)^α for the rows [B] just learnt from, δ [B]."""
        error = td_error.detach().abs().double().cpu().numpy() + self.recipe.epsilon
        priority = error**self.recipe.alpha
        self.largest = max(self.largest, float(priority.max()))
        self.tree.set(index.cpu().numpy(), priority)

    def snapshot(self) -> dict[str, Any]:
        """See :meth:`restore`."""
        leaves = self.tree.nodes[self.tree.leaves :]
        return {"largest": self.largest, "leaves": torch.from_numpy(leaves.copy())}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`snapshot` was taken."""
        self.largest = state["largest"]
        self.tree.set(np.arange(self.tree.leaves), state["leaves"].numpy())
