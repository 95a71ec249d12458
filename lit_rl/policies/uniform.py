"""Uniformly random legal actions: how replays are warmed up, and what any agent must beat."""

from typing import Any

import gymnasium
import numpy as np

from lit_rl.policies.network import legal_actions
from lit_rl.policies.policy import Act, Policy


class UniformPolicy(Policy):
    """Every legal action with equal probability (density, for a bounded Box)."""

    def __init__(self, space: gymnasium.Space) -> None:
        super().__init__()
        self.space = space

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        rows = len(state)
        action, log_prob = _draw(self.space, rows, legal_actions(obs), rng)
        return Act(action, np.broadcast_to(np.float32(log_prob), (rows,)), state)


def _draw(space: gymnasium.Space, rows: int, mask: np.ndarray | None, rng: np.random.Generator) -> tuple[Any, Any]:
    if isinstance(space, gymnasium.spaces.Discrete):
        if mask is None:
            return rng.integers(0, int(space.n), rows), -np.log(int(space.n))
        legal = mask.sum(-1)
        rank = (rng.random(rows) * legal).astype(np.int64)
        return (mask.cumsum(-1) > rank[:, None]).argmax(-1), -np.log(legal)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        edges = np.cumsum(space.nvec)[:-1]
        masks = [None] * len(space.nvec) if mask is None else np.split(mask, edges, axis=-1)
        parts = [
            _draw(gymnasium.spaces.Discrete(int(n)), rows, legal, rng)
            for n, legal in zip(space.nvec, masks, strict=True)
        ]
        return np.stack([action for action, _ in parts], axis=-1), sum(log_prob for _, log_prob in parts)
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return rng.integers(0, 2, (rows, *space.shape), dtype=np.int8), -np.log(2) * np.prod(space.shape)
    if isinstance(space, gymnasium.spaces.Box) and space.is_bounded():
        width = space.high - space.low
        action = space.low + rng.random((rows, *space.shape)) * width
        return action.astype(space.dtype), -np.log(width).sum()
    raise ValueError(f"no uniform distribution over {space}; a Box needs finite bounds")
