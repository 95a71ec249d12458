"""Finite Markov decision processes given by their tables, with exact values: the oracle behind tabular tests.

Shapes: S states, A actions. ``transition[s, a, s']`` = p(s'|s, a), ``reward[s, a]``, ``policy[s, a]`` = π(a|s).
Formula sheet: 3.4a, 6.1a, 6.1.1a, 6.1.3a.
"""

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class FiniteMDP:
    """Tables in float64. A terminal state is worth 0 and left by no action.

    Args:
        transition: [S, A, S], rows sum to 1.
        reward: [S, A], expected reward of a step.
        initial: [S], distribution of the first state.
        terminal: [S] bool; none by default.

    Raises:
        ValueError: shapes disagree, or rows are no distributions.
    """

    transition: Array
    reward: Array
    initial: Array
    terminal: Array = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.terminal is None:
            object.__setattr__(self, "terminal", np.zeros(len(self.initial), dtype=bool))
        states, actions = self.reward.shape
        shapes = (self.transition.shape, self.initial.shape, self.terminal.shape)
        if shapes != ((states, actions, states), (states,), (states,)):
            raise ValueError(
                f"FiniteMDP: reward {self.reward.shape} does not fit transition, initial, terminal {shapes}"
            )
        for name, rows in (("transition", self.transition), ("initial", self.initial)):
            if (rows < 0).any() or not np.allclose(rows.sum(-1), 1.0):
                raise ValueError(f"FiniteMDP: rows of {name} must be distributions")

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
        return alive[:, None] * (self.reward + gamma * self.transition @ (value * alive))

    def policy_value(self, policy: Array, gamma: float) -> Array:
        """V^π [S] = (I − γ P_π)⁻¹ r_π. Needs γ < 1, or a policy that surely terminates."""
        alive = ~self.terminal
        step = alive[:, None] * np.einsum("sa,sat->st", policy, self.transition) * alive
        return np.linalg.solve(np.eye(self.states) - gamma * step, alive * (policy * self.reward).sum(-1))

    def optimal_q(self, gamma: float, tolerance: float = 1e-10) -> Array:
        """Q* [S, A] by value iteration, to ‖Q − Q*‖∞ ≤ ``tolerance``.

        Raises:
            ValueError: γ ≥ 1, where the sweeps contract nothing.
        """
        if gamma >= 1:
            raise ValueError(f"FiniteMDP.optimal_q: gamma is {gamma}; value iteration needs gamma < 1")
        q = np.zeros_like(self.reward)
        while True:
            previous, q = q, self.backup(q.max(-1), gamma)
            if gamma * np.abs(q - previous).max() <= tolerance * (1.0 - gamma):
                return q

    def greedy(self, q: Array) -> Array:
        """π [S, A] that takes the best action, the lowest among equals."""
        return np.eye(self.actions)[q.argmax(-1)]


def random_mdp(rng: np.random.Generator, states: int, actions: int) -> FiniteMDP:
    """Dirichlet(1) transitions and start, standard normal rewards."""
    transition = rng.dirichlet(np.ones(states), size=(states, actions))
    return FiniteMDP(transition, rng.normal(size=(states, actions)), rng.dirichlet(np.ones(states)))


def chain(n: int) -> FiniteMDP:
    """States 0 … n−1 in a row, start at 0; 0 goes left, 1 right; stepping into the terminal state n−1 pays 1.

    V*(s) = γ^(n−2−s) for s < n−1.
    """
    transition, reward = np.zeros((n, 2, n)), np.zeros((n, 2))
    for s in range(n):
        transition[s, 0, max(s - 1, 0)] = transition[s, 1, min(s + 1, n - 1)] = 1.0
    reward[n - 2, 1] = 1.0
    return FiniteMDP(transition, reward, np.eye(n)[0], np.arange(n) == n - 1)


def grid(size: int = 4, slip: float = 0.1) -> FiniteMDP:
    """size × size cells, start in the first, 1 for entering the last, which is terminal.

    Actions up, right, down, left; with probability ``slip`` the step goes to one of the two sides instead,
    half each; walls hold.
    """
    cells, moves = size * size, ((-1, 0), (0, 1), (1, 0), (0, -1))
    transition = np.zeros((cells, 4, cells))
    for s in range(cells):
        for a in range(4):
            for turn, probability in ((0, 1.0 - slip), (1, slip / 2), (3, slip / 2)):
                down, right = moves[(a + turn) % 4]
                row, column = np.clip((s // size + down, s % size + right), 0, size - 1)
                transition[s, a, row * size + column] += probability
    return FiniteMDP(transition, transition[:, :, -1].copy(), np.eye(cells)[0], np.arange(cells) == cells - 1)


class FiniteMDPEnv(gymnasium.Env[Any, Any]):
    """A finite MDP to act in; wrap it in Gymnasium's ``TimeLimit`` for episodes that are cut."""

    def __init__(self, mdp: FiniteMDP) -> None:
        self.mdp = mdp
        self.observation_space = spaces.Discrete(mdp.states)
        self.action_space = spaces.Discrete(mdp.actions)
        self.state = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Draw the first state."""
        super().reset(seed=seed)
        self.state = self._draw(self.mdp.initial)
        return self.state, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Pay the expected reward of (s, a), draw s'."""
        reward = float(self.mdp.reward[self.state, action])
        self.state = self._draw(self.mdp.transition[self.state, action])
        return self.state, reward, bool(self.mdp.terminal[self.state]), False, {}

    def _draw(self, probabilities: Array) -> int:
        return int(self.np_random.choice(self.mdp.states, p=probabilities))
