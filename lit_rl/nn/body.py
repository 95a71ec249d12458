"""Recipes of networks: what stands between an observation and the heads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import gymnasium
from gymnasium import spaces
from torch import nn

from lit_rl.nn.convolution import LAYERS, Kind, Mixed
from lit_rl.nn.flatten import Flatten, is_image, leaves
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import ACTIVATIONS, HIDDEN_GAIN, Activation, linear_head, mlp
from lit_rl.nn.network import BuiltBody, Network
from lit_rl.nn.recurrent import Cell, RecurrentNetwork


class Body(ABC):
    """A frozen description of a network. ``build`` makes it for one observation space."""

    @abstractmethod
    def build(self, space: gymnasium.Space) -> BuiltBody:
        """A module from observations [B, ...] (or a dict) to features [B, D].

        Raises:
            ValueError: this recipe does not fit the space.
        """

    @property
    def head_is_orthogonal(self) -> bool:
        """Whether heads on this body begin orthogonal too, or as torch has it."""
        return True


def _check_width(name: str, width: int) -> None:
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise ValueError(f"{name} holds {width!r}: a width is a whole number from 1")


@dataclass(frozen=True)
class MLP(Body):
    """Fully connected layers on the flattened observation; pictures in a ``Dict`` pass a convolution first.

    Args:
        hidden: width of each layer.
        activation: after each layer.
        orthogonal: initialise so, with gain √2; else as torch does.
        layer_norm: normalise each layer before its activation.
        normalize: normalise vector observations by running statistics.
    """

    hidden: Sequence[int] = (64, 64)
    activation: Activation = "tanh"
    orthogonal: bool = True
    layer_norm: bool = False
    normalize: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # YAML brings a list
        for width in self.hidden:
            _check_width("MLP.hidden", width)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"MLP.activation is {self.activation!r}: choose one of {', '.join(ACTIVATIONS)}")

    def build(self, space: gymnasium.Space) -> Network:
        """Observations [..., *shape] → [..., hidden[-1]]."""
        pictures = any(is_image(leaf) for _, leaf in leaves(space))
        if pictures and self.normalize:
            raise ValueError("MLP.normalize is for vector observations, and this space holds images: leave it off")
        if pictures and isinstance(space, spaces.Dict):
            encoder: Flatten | Mixed = Mixed(space, None, orthogonal=self.orthogonal)
        else:
            encoder = Flatten(space)
        sizes = (encoder.out_features, *self.hidden)
        layers = mlp(sizes, self.activation, self.orthogonal, self.layer_norm)
        return Network(encoder, layers, sizes[-1], self.normalize)

    @property
    def head_is_orthogonal(self) -> bool:
        """As the hidden layers."""
        return self.orthogonal


@dataclass(frozen=True)
class CNN(Body):
    """A convolution, then one fully connected layer; other entries of a ``Dict`` join before that layer.

    Args:
        kind: ``nature`` for pictures from 36 pixels a side (Mnih et al. 2015), ``small`` for MinAtar's
            (Young & Tian 2019).
        hidden: width of the last layer; ``None`` is the papers' 512 or 128.
        scale: divide pixels by their upper bound.
        orthogonal: initialise so, with gain √2; else as torch does.
    """

    kind: Kind = "nature"
    hidden: int | None = None
    scale: bool = True
    orthogonal: bool = True

    def __post_init__(self) -> None:
        if self.kind not in LAYERS:
            raise ValueError(f"CNN.kind is {self.kind!r}: choose one of {', '.join(get_args(Kind))}")
        if self.hidden is not None:
            _check_width("CNN.hidden", self.hidden)

    def build(self, space: gymnasium.Space) -> Network:
        """Observations [..., C, H, W], or a dict with such, → [..., hidden]."""
        if not any(is_image(leaf) for _, leaf in leaves(space)):
            raise ValueError(f"CNN wants images [C, H, W] in uint8 or bool, not {space}: use MLP")
        encoder = Mixed(space, self.kind, self.scale, self.orthogonal)
        width = self.hidden or (512 if self.kind == "nature" else 128)
        layer = linear_head(encoder.out_features, width, HIDDEN_GAIN if self.orthogonal else None)
        return Network(encoder, Layers(layer, nn.ReLU()), width)

    @property
    def head_is_orthogonal(self) -> bool:
        """As the layers before."""
        return self.orthogonal


@dataclass(frozen=True)
class Recurrent(Body):
    """A memory on top of another body (Hausknecht & Stone 2015).

    Args:
        body: what each observation passes first.
        hidden: width of the memory.
        cell: of the memory.
        after: widths of the layers, with ReLU, from the memory to the features.
    """

    body: Body = MLP()
    hidden: int = 64
    cell: Cell = "lstm"
    after: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", tuple(self.after))  # YAML brings a list
        for field, width in [("hidden", self.hidden), *(("after", width) for width in self.after)]:
            _check_width(f"Recurrent.{field}", width)
        if self.cell not in get_args(Cell):
            raise ValueError(f"Recurrent.cell is {self.cell!r}: choose one of {', '.join(get_args(Cell))}")
        if isinstance(self.body, Recurrent):
            raise ValueError("Recurrent.body is recurrent too: put the one memory on an MLP or CNN")

    def build(self, space: gymnasium.Space) -> RecurrentNetwork:
        """Observations [T, N, ...] with a state [N, S] → features [T, N, F]; see RecurrentNetwork."""
        return RecurrentNetwork(self.body.build(space), self.hidden, self.cell, self.head_is_orthogonal, self.after)

    @property
    def head_is_orthogonal(self) -> bool:
        """As the body below."""
        return self.body.head_is_orthogonal
