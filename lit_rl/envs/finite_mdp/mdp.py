"""Finite Markov decision processes given by their tables: the world behind exact values.

Shapes: S states, A actions, K successors. ``reward[s, a]``, ``policy[s, a]`` = π(a|s). Formula sheet: 3.1, 3.2, 3.4a.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Union

import numpy as np

if TYPE_CHECKING:
    from lit_rl.planning.model import Model

Array = np.ndarray


class Successors(NamedTuple):
    """A sparse transition table: where each (s, a) may lead, filled up with probability 0."""

    state: Array  # [S, A, K] int64
    probability: Array  # [S, A, K]


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """Tables in float64. A terminal state is worth 0 and left by no action.

    Args:
        transition: [S, A, S] of p(s'|s, a), rows sum to 1; or the :class:`Successors` of a large world.
        reward: [S, A], expected reward of a step.
        initial: [S], distribution of the first state.
        terminal: [S] bool; none by default.
        layout: rows and columns, where the states are the cells of a picture (row by row, further states after them).

    Raises:
        ValueError: shapes disagree, or rows are no distributions.
    """

    transition: Union[Array, Successors]
    reward: Array
    initial: Array
    terminal: Array = field(default=None)  # type: ignore[arg-type]
    layout: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.terminal is None:
            object.__setattr__(self, "terminal", np.zeros(len(self.initial), dtype=bool))
        states, actions = self.reward.shape
        if self.sparse:
            successor, probability = self.transition
            shapes = (successor.shape[:2], probability.shape[:2], self.initial.shape, self.terminal.shape)
            fits = shapes == ((states, actions), (states, actions), (states,), (states,))
            fits &= successor.shape == probability.shape
            if fits and (successor.min() < 0 or successor.max() >= states):
                raise ValueError(f"FiniteMDP: successors must be states 0 … {states - 1}")
        else:
            probability = np.asarray(self.transition)
            shapes = (probability.shape, self.initial.shape, self.terminal.shape)  # type: ignore[assignment]
            fits = shapes == ((states, actions, states), (states,), (states,))
        if not fits:
            raise ValueError(
                f"FiniteMDP: reward {self.reward.shape} does not fit transition, initial, terminal {shapes}"
            )
        for name, rows in (("transition", probability), ("initial", self.initial)):
            if (rows < 0).any() or not np.allclose(rows.sum(-1), 1.0):
                raise ValueError(f"FiniteMDP: rows of {name} must be distributions")

    @property
    def sparse(self) -> bool:
        """Whether the transitions are :class:`Successors`."""
        return isinstance(self.transition, Successors)

    @property
    def states(self) -> int:
        """S."""
        return self.reward.shape[0]

    @property
    def actions(self) -> int:
        """A."""
        return self.reward.shape[1]

    def backup(self, value: Array, gamma: float) -> Array:
        """Q[s, a] = R + γ Σ_s' P V(s'), [S, A]; 0 in terminal states, which are also worth 0 as successors."""
        alive = ~self.terminal
        value = value * alive
        if isinstance(self.transition, Successors):
            expected = (self.transition.probability * value[self.transition.state]).sum(-1)
        else:
            expected = self.transition @ value
        return alive[:, None] * (self.reward + gamma * expected)

    def policy_value(self, policy: Array, gamma: float) -> Array:
        """V^π [S] = (I − γ P_π)⁻¹ r_π. Needs γ < 1, or a policy that surely terminates."""
        from lit_rl.planning.evaluation import policy_value

        return policy_value(self.model(), _tensor(policy), gamma).numpy()

    def optimal_q(self, gamma: float, tolerance: float = 1e-10) -> Array:
        """Q* [S, A] by value iteration, to ‖Q − Q*‖∞ ≤ ``tolerance``.

        Raises:
            ValueError: γ ≥ 1, where the sweeps contract nothing.
        """
        from lit_rl.planning.dynamic_programming import value_iteration

        return value_iteration(self.model(), gamma, tolerance).q.numpy()

    def greedy(self, q: Array) -> Array:
        """π [S, A] that takes the best action, the lowest among equals."""
        return np.eye(self.actions)[q.argmax(-1)]

    def model(self) -> "Model":
        """These tables as float64 tensors for the functions of :mod:`lit_rl.planning`.

        There what leads to a terminal state is left out of the transitions, which then sum to less than 1.
        """
        from lit_rl.planning import model as planning

        alive = ~self.terminal
        transition: planning.Kernel
        if isinstance(self.transition, Successors):
            probability = self.transition.probability * alive[:, None, None] * alive[self.transition.state]
            first = (2, 0, 1)  # K, S, A
            state = _tensor(self.transition.state.transpose(first))
            transition = planning.Successors(state, _tensor(probability.transpose(first)))
        else:
            transition = _tensor(self.transition * alive[:, None, None] * alive)
        return planning.Model(transition, _tensor(self.reward * alive[:, None]), _tensor(self.initial * alive))

    def successors(self) -> Successors:
        """The sparse form of the transitions, with as many successors per pair as the most branching one has."""
        if isinstance(self.transition, Successors):
            return self.transition
        width = max(1, int((self.transition > 0).sum(-1).max()))
        state = np.argsort(self.transition <= 0, axis=-1, kind="stable")[..., :width]
        return Successors(state, np.take_along_axis(self.transition, state, -1))

    def as_sparse(self) -> "FiniteMDP":
        """The same world with sparse transitions."""
        return FiniteMDP(self.successors(), self.reward, self.initial, self.terminal, self.layout)

    def as_dense(self) -> "FiniteMDP":
        """The same world with a full table [S, A, S]."""
        if not isinstance(self.transition, Successors):
            return self
        dense = np.zeros((self.states, self.actions, self.states))
        pairs = np.ogrid[: self.states, : self.actions]
        np.add.at(dense, (pairs[0][..., None], pairs[1][..., None], self.transition.state), self.transition.probability)
        return FiniteMDP(dense, self.reward, self.initial, self.terminal, self.layout)


def from_outcomes(
    outcomes: Sequence[Sequence[Sequence[tuple[float, int, float]]]],
    initial: Array,
    terminal: Array | None = None,
    layout: tuple[int, int] | None = None,
    sparse: bool = False,
) -> FiniteMDP:
    """From lists ``outcomes[s][a]`` of (probability, s', reward); the expected reward is kept.

    Args:
        outcomes: S lists of A lists.
        initial: see :class:`FiniteMDP`, as ``terminal`` and ``layout``.
        sparse: keep the lists' form instead of a full table.
    """
    states, actions = len(outcomes), len(outcomes[0])
    width = max(len(listed) for row in outcomes for listed in row)
    state, probability = np.zeros((states, actions, width), np.int64), np.zeros((states, actions, width))
    reward = np.zeros((states, actions))
    for s, row in enumerate(outcomes):
        for a, listed in enumerate(row):
            for k, (chance, successor, pay) in enumerate(listed):
                state[s, a, k], probability[s, a, k] = successor, chance
                reward[s, a] += chance * pay
    mdp = FiniteMDP(Successors(state, probability), reward, initial, terminal, layout)  # type: ignore[arg-type]
    return mdp if sparse else mdp.as_dense()


def _tensor(array: Array):  # type: ignore[no-untyped-def]
    import torch

    return torch.as_tensor(np.ascontiguousarray(array), dtype=None if array.dtype.kind == "i" else torch.float64)
