"""Linear functions of a Discrete observation: a table with one entry for each state, or given features."""

from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from lit_rl.nn.body import Body
from lit_rl.nn.flatten import Flatten, leaves
from lit_rl.nn.layers import Layers
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
        return Network(encoder, Layers(), encoder.out_features)


@dataclass(frozen=True)
class StateFeatures(Body):
    """Features of each state as given; a linear head without bias on them is a linear value function.

    Args:
        rows: S lists of D numbers.
        initial: what every weight of the head begins with.
    """

    rows: Sequence[Sequence[float]] = ((1.0,),)
    initial: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))  # YAML brings lists
        if len({len(row) for row in self.rows}) != 1 or not self.rows[0]:
            raise ValueError("StateFeatures.rows must be lists of one length, from 1: one list for each state")

    def build(self, space: gymnasium.Space) -> Network:
        """Observations [...] of a Discrete space → features [..., D].

        Raises:
            ValueError: another space, or another number of states.
        """
        network = Table().build(space)
        if network.out_features != len(self.rows):
            raise ValueError(
                f"StateFeatures.rows has {len(self.rows)} rows and the space {network.out_features} states"
            )
        return Network(network.encoder, Layers(Rows(torch.tensor(self.rows))), len(self.rows[0]))


class Rows(nn.Module):
    """One-hot [..., S] → the row of each state [..., D]."""

    rows: Tensor  # [S, D]

    def __init__(self, rows: Float[Tensor, "S D"]) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, x: Float[Tensor, "*B S"]) -> Float[Tensor, "*B D"]:
        """A product, so that any leading axes will do."""
        return x @ self.rows
