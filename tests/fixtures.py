"""Small problems with exact answers, shared by tests: formula sheet 0.5."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from lit_rl.envs.finite_mdp import FiniteMDP, chain, grid, random_mdp

Array = np.ndarray
HORIZON = 3


class Path(NamedTuple):
    """One trajectory of M2: three states, three actions, and what it is worth."""

    probability: float
    states: tuple[int, ...]
    actions: tuple[int, ...]
    rewards: tuple[float, ...]


class M2(NamedTuple):
    """Two states, two actions, three steps: expectations are sums over 64 trajectories."""

    mdp: FiniteMDP
    logits: Array  # [S, A] of a policy θ
    other_logits: Array  # [S, A] of another, θ'


def softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def m2(seed: int = 0) -> M2:
    rng = np.random.default_rng(seed)
    return M2(random_mdp(rng, 2, 2), rng.normal(size=(2, 2)), rng.normal(size=(2, 2)))


def enumerate_paths(mdp: FiniteMDP, policy: Array, horizon: int = HORIZON) -> Iterator[Path]:
    """Every trajectory of ``horizon`` steps of an MDP without terminal states, with its probability."""
    for states in product(range(mdp.states), repeat=horizon):
        for actions in product(range(mdp.actions), repeat=horizon):
            probability = mdp.initial[states[0]]
            for t in range(horizon):
                probability *= policy[states[t], actions[t]]
                if t + 1 < horizon:
                    probability *= mdp.transition[states[t], actions[t], states[t + 1]]
            rewards = tuple(mdp.reward[s, a] for s, a in zip(states, actions, strict=True))
            yield Path(float(probability), states, actions, rewards)


def finite_horizon_values(mdp: FiniteMDP, policy: Array, gamma: float, horizon: int = HORIZON) -> tuple[Array, Array]:
    """(V [T+1, S], Q [T, S, A]) of a policy by backward induction; V_T = 0."""
    value, q = np.zeros((horizon + 1, mdp.states)), np.zeros((horizon, mdp.states, mdp.actions))
    for t in range(horizon - 1, -1, -1):
        q[t] = mdp.backup(value[t + 1], gamma)
        value[t] = (policy * q[t]).sum(-1)
    return value, q


__all__ = ["HORIZON", "M2", "Path", "chain", "enumerate_paths", "finite_horizon_values", "grid", "m2", "softmax"]
