"""Finite MDPs, bandits and POMDPs to act in, and the finite MDP behind an environment.

=================================  =======================================================  ==================
id                                 task                                                     episode
=================================  =======================================================  ==================
lit_rl/RandomMDP-v0                Dirichlet transitions, normal rewards                    cut at 100 steps
lit_rl/Chain-v0                    right n − 1 times                                        ends; cut at 100
lit_rl/Grid-v0                     to the opposite corner, slipping                         ends; cut at 100
lit_rl/Maze-v0                     a map drawn as text                                      ends; cut at 100
lit_rl/FourRooms-v0                through doors to the opposite corner                     ends; cut at 200
lit_rl/Cliff-v0                    along the cliff; best −13                                ends; cut at 200
lit_rl/RiverSwim-v0                against the current                                      cut at 200
lit_rl/DeepSea-v0                  right every time; best 0.99                              n steps
lit_rl/Lottery-v0                  leave the ticket: −1 beats −5                            ends
lit_rl/BernoulliBandit-v0          arms that pay 0 or 1                                     cut at 100 pulls
lit_rl/GaussianBandit-v0           arms that pay a mean and noise                           cut at 100 pulls
lit_rl/Tiger-v0                    listen, then open the door without the tiger             cut at 100
=================================  =======================================================  ==================

From a recipe: ``Env("lit_rl.envs.finite_mdp:lit_rl/DeepSea-v0", kwargs={"n": 12})``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.envs.finite_mdp import generators
from lit_rl.envs.finite_mdp.mdp import Array, FiniteMDP, from_outcomes
from lit_rl.envs.finite_mdp.picture import draw_state
from lit_rl.envs.finite_mdp.pomdp import FinitePOMDP, tiger

Info = dict[str, Any]


class FiniteMDPEnv(gymnasium.Env[Any, Any]):
    """A finite MDP to act in; wrap it in Gymnasium's ``TimeLimit`` for episodes that are cut.

    Args:
        mdp: the world.
        render_mode: ``rgb_array`` draws the world with the state marked.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012  gymnasium's own form

    def __init__(self, mdp: FiniteMDP, render_mode: str | None = None) -> None:
        self.mdp, self.render_mode = mdp, render_mode
        self.observation_space: spaces.Space = spaces.Discrete(mdp.states)
        self.action_space = spaces.Discrete(mdp.actions)
        self.state = 0
        successors = mdp.successors()
        self._successor = successors.state
        self._cumulative = successors.probability.cumsum(-1)
        self._initial = mdp.initial.cumsum()

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Draw the first state."""
        super().reset(seed=seed)
        self.state = self._draw(self._initial)
        return self._observe(None), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Pay the reward of (s, a), draw s'."""
        reward = self._pay(self.state, action)
        if not self.mdp.terminal[self.state]:
            self.state = int(self._successor[self.state, action, self._draw(self._cumulative[self.state, action])])
        return self._observe(action), reward, bool(self.mdp.terminal[self.state]), False, {}

    def render(self) -> Any:
        """A picture [height, width, 3] uint8 of the world, or None without a render mode."""
        return draw_state(self.mdp, self.state) if self.render_mode == "rgb_array" else None

    def _observe(self, action: Any) -> Any:
        return self.state

    def _pay(self, state: int, action: Any) -> float:
        """The expected reward: it depends on nothing else."""
        return float(self.mdp.reward[state, action])

    def _draw(self, cumulative: Array) -> int:
        return min(int(cumulative.searchsorted(self.np_random.random(), side="right")), len(cumulative) - 1)


class BernoulliBanditEnv(FiniteMDPEnv):
    """Arm k pays 1 with probability ``means[k]``, else 0."""

    def __init__(self, means: Sequence[float] = (0.2, 0.4, 0.5, 0.6, 0.8), render_mode: str | None = None) -> None:
        if min(means) < 0 or max(means) > 1:
            raise ValueError(f"BernoulliBanditEnv: means are {tuple(means)}; probabilities lie in [0, 1]")
        super().__init__(generators.bandit(means), render_mode)

    def _pay(self, state: int, action: Any) -> float:
        return float(self.np_random.random() < self.mdp.reward[0, action])


class GaussianBanditEnv(FiniteMDPEnv):
    """Arm k pays ``means[k]`` and normal noise of standard deviation ``std``."""

    def __init__(
        self, means: Sequence[float] = (0.0, 0.5, 1.0), std: float = 1.0, render_mode: str | None = None
    ) -> None:
        if not std > 0:
            raise ValueError(f"GaussianBanditEnv: std is {std}; it must be positive")
        super().__init__(generators.bandit(means), render_mode)
        self.std = std

    def _pay(self, state: int, action: Any) -> float:
        return float(self.np_random.normal(self.mdp.reward[0, action], self.std))


class FinitePOMDPEnv(FiniteMDPEnv):
    """Shows an observation of the state, or all that can be known of it: the belief, in which the world is Markov.

    Args:
        pomdp: the world.
        belief: observe the belief [S] instead of the last observation.
    """

    def __init__(self, pomdp: FinitePOMDP, belief: bool = False, render_mode: str | None = None) -> None:
        super().__init__(pomdp.mdp, render_mode)
        self.pomdp, self.shows_belief = pomdp, belief
        self._emission = pomdp.emission.cumsum(-1)
        self._belief = pomdp.mdp.initial
        if belief:
            self.observation_space = spaces.Box(0.0, 1.0, (pomdp.mdp.states,), np.float32)
        else:
            self.observation_space = spaces.Discrete(pomdp.observations)

    def _observe(self, action: Any) -> Any:
        seen = self._draw(self._emission[self.state])
        if action is None:
            self._belief = self.pomdp.first_belief(seen)
        else:
            self._belief = self.pomdp.next_belief(self._belief, int(action), seen)
        return self._belief.astype(np.float32) if self.shows_belief else seen


def finite_mdp_of(env: gymnasium.Env) -> FiniteMDP:
    """The tables of an environment: of a :class:`FiniteMDPEnv`, or of gymnasium's toy text (``unwrapped.P``).

    Time limits are no part of it: an episode that they cut goes on in the tables.

    Raises:
        ValueError: its dynamics are no table, or a state sometimes ends an episode and sometimes not.
    """
    inner: Any = env.unwrapped
    if isinstance(inner, FiniteMDPEnv):
        return inner.mdp
    if not hasattr(inner, "P") or not hasattr(inner, "initial_state_distrib"):
        raise ValueError(f"{env} has no table of its dynamics: use a finite MDP, or FrozenLake, Taxi, CliffWalking")
    states, actions = len(inner.P), len(inner.P[0])
    outcomes: list[list[list[tuple[float, int, float]]]] = [
        [[(float(p), int(to), float(reward)) for p, to, reward, _ in inner.P[s][a]] for a in range(actions)]
        for s in range(states)
    ]
    ends, goes_on = np.zeros(states, bool), np.zeros(states, bool)
    met = set(np.flatnonzero(inner.initial_state_distrib).tolist())
    goes_on[list(met)] = True
    frontier = list(met)
    while frontier:  # only states that an episode can be in: Taxi has others, beyond its end
        s = frontier.pop()
        for a in range(actions):
            for chance, to, _, terminated in inner.P[s][a]:
                (ends if terminated else goes_on)[to] |= chance > 0
                if chance > 0 and not terminated and to not in met:
                    met.add(int(to))
                    frontier.append(int(to))
    if (ends & goes_on).any():
        state = int(np.flatnonzero(ends & goes_on)[0])
        raise ValueError(f"{env}: state {state} sometimes ends an episode and sometimes not; a table cannot say so")
    initial = np.asarray(inner.initial_state_distrib, np.float64)
    shape = getattr(inner, "desc", None)
    layout = tuple(shape.shape) if shape is not None else tuple(getattr(inner, "shape", ())) or None
    if layout is not None and int(np.prod(layout)) != states:
        layout = None
    return from_outcomes(outcomes, initial / initial.sum(), ends, layout)  # type: ignore[arg-type]


_WORLDS: dict[str, tuple[Callable[..., FiniteMDP], int]] = {
    "RandomMDP": (generators.seeded_random_mdp, 100),
    "Chain": (generators.chain, 100),
    "Grid": (generators.grid, 100),
    "Maze": (generators.maze, 100),
    "FourRooms": (generators.four_rooms, 200),
    "Cliff": (generators.cliff, 200),
    "RiverSwim": (generators.river_swim, 200),
    "DeepSea": (generators.deep_sea, 1000),
    "Lottery": (generators.lottery, 10),
}


def _world(generator: Callable[..., FiniteMDP], render_mode: str | None = None, **arguments: Any) -> FiniteMDPEnv:
    return FiniteMDPEnv(generator(**arguments), render_mode)


def _tiger(accuracy: float = 0.85, belief: bool = False, render_mode: str | None = None) -> FinitePOMDPEnv:
    return FinitePOMDPEnv(tiger(accuracy), belief, render_mode)


def register() -> None:
    """Make every world known to Gymnasium as ``lit_rl/<name>-v0``; harmless when repeated."""
    makers: dict[str, tuple[Callable[..., gymnasium.Env], int]] = {
        name: (partial(_world, generator), limit) for name, (generator, limit) in _WORLDS.items()
    }
    makers |= {
        "BernoulliBandit": (BernoulliBanditEnv, 100),
        "GaussianBandit": (GaussianBanditEnv, 100),
        "Tiger": (_tiger, 100),
    }
    for name, (maker, limit) in makers.items():
        if f"lit_rl/{name}-v0" not in gymnasium.registry:
            gymnasium.register(f"lit_rl/{name}-v0", entry_point=maker, max_episode_steps=limit)


register()
