"""Finite worlds: FrozenLake, Taxi and all environments whose dynamics are a table."""

from collections.abc import Sequence
from functools import cached_property
from random import Random
from typing import Any

from gymnasium import spaces

from lit_rl.envs.finite_mdp import finite_mdp_of
from lit_rl.envs.recipe import Env
from lit_rl.planning.search import World
from lit_rl.planning.search_model import TabularWorld


class TableWorld(World):
    """States are numbers. The tables are read from an environment when they are needed first.

    Args:
        env: which; with its spaces.
    """

    numbers_per_state = 1

    def __init__(self, env: Env) -> None:
        assert isinstance(env.action_space, spaces.Discrete)
        self.env, self.actions_at_most = env, int(env.action_space.n)
        self._listed: dict[tuple[int, int], Sequence[tuple[float, int, float, bool]]] = {}

    @cached_property
    def table(self) -> TabularWorld:
        """The dynamics; of a time limit they know nothing.

        Raises:
            ValueError: the environment has none.
        """
        opened = self.env.make_one()
        try:
            return TabularWorld(finite_mdp_of(opened).model())
        finally:
            opened.close()

    def actions(self, state: int) -> Sequence[int]:
        """All of them, also where a mask says that some do nothing."""
        return range(self.actions_at_most)

    def step(self, state: int, action: int, rng: Random) -> tuple[int, float, bool]:
        """See :meth:`World.step`; −1 is where an episode ends."""
        return self.table.step(state, action, rng)

    def outcomes(self, state: int, action: int) -> Sequence[tuple[float, int, float, bool]]:
        """See :meth:`World.outcomes`."""
        found = self._listed.get((state, action))
        if found is None:
            found = self._listed[state, action] = self.table.outcomes(state, action)
        return found

    def read(self, obs: Any) -> int:
        """The number."""
        return int(obs["observation"] if isinstance(obs, dict) else obs)

    def write(self, state: int) -> Sequence[float]:
        """The number, below 2²⁴."""
        return (float(state),)

    def state(self, numbers: Sequence[float]) -> int:
        """The number."""
        return int(numbers[0])
