"""A copy of the learner's policy that acts on another device."""

import copy
from typing import Any

import numpy as np

from lit_rl.policies.policy import Act, Policy


class MirrorPolicy(Policy):
    """Acts with a copy on ``device``, brought up to date before each round of collecting."""

    def __init__(self, source: Policy, device: str) -> None:
        super().__init__()
        self._source = [source]  # in a list: the source is no sub-module of its mirror
        self.copy = copy.deepcopy(source).to(device)
        self.state_size = source.state_size

    def refresh(self) -> None:
        """Copy weights, counters and statistics."""
        self.copy.load_state_dict(self._source[0].state_dict())
        self.env_steps.copy_(self.copy.env_steps)
        self.version.copy_(self.copy.version)
        self.copy.refresh()

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        return self.copy.act(obs, state, rng, explore)
