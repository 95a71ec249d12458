"""Nodes of a search tree, and the rules by which a simulation chooses among their actions. Formula sheet: 9.0.3a, H13.

    UCT     argmax_a  Q(a) + c √(ln N / N(a)),  untried actions first                 (1)
    PUCT    argmax_a  Q(a) + c P(a) √N / (1 + N(a))                                   (2)

N = Σ_a N(a). The second term is a bonus of the node, by N, times a weight of the action, which changes only when the
action was taken. Kocsis & Szepesvári 2006; Silver et al. 2017; Couëtoux et al. 2011 (widening).

Nodes are plain Python: with fewer than some twenty actions, lists are several times faster here than arrays.
"""

from abc import ABC, abstractmethod
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log, sqrt
from typing import Any


class Node:
    """A state of the tree (open loop: a sequence of actions), and what its actions have brought."""

    __slots__ = (
        "actions", "arrivals", "child", "count", "ended", "mean", "prior", "reward", "state", "value", "visits",
        "weight",
    )  # fmt: skip

    def __init__(self, state: Any, ended: bool = False, reward: float = 0.0) -> None:
        self.state = state
        self.ended = ended
        self.reward = reward  # of the step to here, as it was first taken
        self.arrivals = 0  # how often chance led here
        self.visits = 0  # N
        self.value = 0.0  # what it was given as a leaf
        self.actions: Sequence[Any] | None = None  # None: a leaf
        self.prior: Sequence[float] | None = None
        self.count: list[int] = []  # N(a)
        self.mean: list[float] = []  # Q(a); of an untried action the node's value
        self.weight: list[float] = []
        self.child: list[Any] = []  # None, a Node, or what chance leads to, {state: Node}

    def expand(self, actions: Sequence[Any], value: float, prior: Sequence[float] | None, rule: "Rule") -> None:
        """Make a leaf an inner node."""
        size = len(actions)
        self.actions, self.value, self.prior = actions, value, prior
        self.count, self.mean, self.child = [0] * size, [value] * size, [None] * size
        self.weight = [rule.weight(0, 0.0)] * size if prior is None else [rule.weight(0, p) for p in prior]

    def add(self, action: Any, rule: "Rule") -> None:
        """One more action to try."""
        assert isinstance(self.actions, MutableSequence)
        self.actions.append(action)
        self.count.append(0)
        self.mean.append(self.value)
        self.weight.append(rule.weight(0, 0.0))
        self.child.append(None)


class Rule(ABC):
    """How much a choice is drawn to what is little known."""

    needs_prior = False

    @abstractmethod
    def bonus(self, visits: int) -> float:
        """The part that all actions of a node share, from N."""

    def bonuses(self, visits: int) -> Sequence[float]:
        """:meth:`bonus` of 0 … ``visits``, at least."""
        return _bonuses(self, (visits | 1023) + 1)

    def weights(self, count: int) -> Sequence[float]:
        """:meth:`weight` of 0 … ``count`` without a prior, at least."""
        return _weights(self, (count | 1023) + 1)

    @abstractmethod
    def weight(self, count: int, prior: float) -> float:
        """The part of one action, from N(a) and P(a)."""


@dataclass(frozen=True)
class UCT(Rule):
    """(1).

    Args:
        exploration: c; √2 is UCB1's for rewards in [0, 1].
    """

    exploration: float = sqrt(2.0)

    def bonus(self, visits: int) -> float:
        """c √ln N; anything positive where the only action tried was tried once."""
        return self.exploration * sqrt(log(visits)) if visits > 1 else 1.0

    def weight(self, count: int, prior: float) -> float:
        """1/√N(a)."""
        return 1.0 / sqrt(count) if count else inf


@dataclass(frozen=True)
class PUCT(Rule):
    """(2), with N ≥ 1, so that the first choice is the most probable action; an untried one has the node's own value.

    Args:
        exploration: c.
    """

    exploration: float = 1.25
    needs_prior = True

    def bonus(self, visits: int) -> float:
        """c √N."""
        return self.exploration * sqrt(visits or 1)

    def weight(self, count: int, prior: float) -> float:
        """P(a)/(1 + N(a))."""
        return prior / (1 + count)


@dataclass(frozen=True)
class Widening:
    """Progressive widening: ⌈k Nᵅ⌉ children after N visits.

    Args:
        factor: k.
        exponent: α.
    """

    factor: float = 1.0
    exponent: float = 0.5

    def allowed(self, visits: int) -> int:
        """How many."""
        return ceil(self.factor * max(visits, 1) ** self.exponent)


@lru_cache(maxsize=64)
def _bonuses(rule: Rule, count: int) -> list[float]:
    """Looked up in every step of every simulation."""
    return [rule.bonus(visits) for visits in range(count)]


@lru_cache(maxsize=64)
def _weights(rule: Rule, count: int) -> list[float]:
    return [rule.weight(number, 0.0) for number in range(count)]
