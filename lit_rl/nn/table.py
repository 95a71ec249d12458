"""A table as a network: one entry for each state of a Discrete observation."""

from dataclasses import dataclass

import gymnasium
from gymnasium import spaces
from torch import nn

from lit_rl.nn.body import Body
from lit_rl.nn.flatten import Flatten, leaves
from lit_rl.nn.network import Network


@dataclass(frozen=True)
class Table(Body):
    """One-hot features; a linear head without bias on them is a table, and SGD on it the tabular update.

    A step of rate α on ½(y − q)² moves the entry visited by α (y − q) and no other.

    Args:
        initial: what every entry begins with; above all returns, it is optimism.
    """

    initial: float = 0.0

    def build(self, space: gymnasium.Space) -> Network:
        """Observations [...] of a Discrete space, perhaps with legal actions beside them, → one-hot [..., S].

        Raises:
            ValueError: another space.
        """
        if [type(leaf) for _, leaf in leaves(space)] != [spaces.Discrete]:
            raise ValueError(f"Table wants a Discrete observation, not {space}: use MLP")
        encoder = Flatten(space)
        return Network(encoder, nn.Sequential(), encoder.out_features)
