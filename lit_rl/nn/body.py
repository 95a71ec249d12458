"""Recipes of networks: what stands between an observation and the heads."""

from abc import ABC, abstractmethod

import gymnasium
from torch import nn


class Body(ABC):
    """A frozen description of a network. ``build`` makes it for one observation space."""

    @abstractmethod
    def build(self, space: gymnasium.Space) -> nn.Module:
        """A module from observations [B, ...] (or a dict) to features [B, D], with ``out_features`` = D."""
