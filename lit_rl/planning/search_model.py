"""What a tree search asks of a world, worlds given by tables, and playing on at random. Formula sheet: 9.0.3a.

States are hashable and know everything: a step from the same state and action is the same draw, whatever came before.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from random import Random
from typing import Any, Protocol

import torch

from lit_rl.planning.model import Model, Successors

State = Hashable
Action = Any


class SearchModel(Protocol):
    """A world with finitely many actions in each state."""

    def actions(self, state: Any) -> Sequence[Action]:
        """What may be done in ``state``, always in the same order; at least one where the episode goes on."""

    def step(self, state: Any, action: Action, rng: Random) -> tuple[State, float, bool]:
        """The next state, the reward as the one who moved sees it, and whether the episode is over."""


class ContinuousModel(Protocol):
    """A world with more actions than can be tried: the search widens what :meth:`propose` offers."""

    def propose(self, state: Any, rng: Random) -> Action:
        """A fresh action to try in ``state``."""

    def step(self, state: Any, action: Action, rng: Random) -> tuple[State, float, bool]:
        """As of :class:`SearchModel`."""


Evaluate = Callable[[Any, Random], float]  # the value of a state for whoever moves there


class TabularWorld:
    """A finite MDP (:class:`~lit_rl.planning.model.Model`) to search in; states are numbers.

    Args:
        model: without a batch; what its transitions lack of 1 ends the episode.
        horizon: steps after which the episode is over; a state is then s + S t, t being the steps made.
    """

    def __init__(self, model: Model, horizon: int | None = None) -> None:
        self.states, count = model.reward.shape
        self.horizon = horizon
        self._actions = range(count)
        self._reward: list[list[float]] = model.reward.tolist()
        if isinstance(model.transition, Successors):
            where = model.transition.state.movedim(0, -1)
            weight = model.transition.probability.movedim(0, -1)
        else:
            weight = model.transition
            where = torch.arange(self.states).expand(weight.shape)
        self._outcomes = [
            [_outcomes(s, p) for s, p in zip(*row, strict=True)]
            for row in zip(where.tolist(), weight.tolist(), strict=True)
        ]

    def actions(self, state: int) -> Sequence[int]:
        """All of them."""
        return self._actions

    def step(self, state: int, action: int, rng: Random) -> tuple[int, float, bool]:
        """Draw a successor; −1 is where an episode ends."""
        time, here = divmod(state, self.states)
        successors, cumulative = self._outcomes[here][action]
        reward = self._reward[here][action]
        if self.horizon is not None and time + 1 >= self.horizon:
            return -1, reward, True
        if len(cumulative) == 1 and cumulative[0] >= 1.0:
            following = successors[0]
        else:
            place = bisect_right(cumulative, rng.random())
            if place == len(successors):
                return -1, reward, True
            following = successors[place]
        return (following if self.horizon is None else following + self.states * (time + 1)), reward, False

    def outcomes(self, state: int, action: int) -> list[tuple[float, int, float, bool]]:
        """All that a step may lead to: probability, next state, reward, whether the episode is over."""
        time, here = divmod(state, self.states)
        successors, cumulative = self._outcomes[here][action]
        reward = self._reward[here][action]
        if self.horizon is not None and time + 1 >= self.horizon:
            return [(1.0, -1, reward, True)]
        shift = 0 if self.horizon is None else self.states * (time + 1)
        shares = [now - before for now, before in zip(cumulative, [0.0, *cumulative], strict=False)]
        found = [(p, s + shift, reward, False) for p, s in zip(shares, successors, strict=True)]
        rest = 1.0 - (cumulative[-1] if cumulative else 0.0)
        return [*found, (rest, -1, reward, True)] if rest > 0 else found


def _outcomes(states: list[int], probabilities: list[float]) -> tuple[list[int], list[float]]:
    """Those that can happen, and their cumulative probabilities, 1 in the end but for what ends the episode."""
    possible = [(s, p) for s, p in zip(states, probabilities, strict=True) if p > 0]
    cumulative = list(accumulate(p for _, p in possible))
    if cumulative and abs(cumulative[-1] - 1.0) < 1e-9:
        cumulative[-1] = 1.0
    return [s for s, _ in possible], cumulative


def random_rollout(model: SearchModel, depth: int, gamma: float = 1.0, two_players: bool = False) -> Evaluate:
    """The default policy of UCT: the discounted return of uniformly random actions, for at most ``depth`` steps.

    Args:
        model: to play in.
        depth: steps after which the rest counts as 0.
        gamma: discount.
        two_players: they move in turn, and what one gains the other loses.
    """
    sign = -gamma if two_players else gamma
    actions, step = model.actions, model.step

    def evaluate(state: Any, rng: Random) -> float:
        value, discount, draw = 0.0, 1.0, rng.random
        for _ in range(depth):
            legal = actions(state)
            state, reward, ended = step(state, legal[int(draw() * len(legal))], rng)
            value += discount * reward
            if ended:
                break
            discount *= sign
        return value

    return evaluate
