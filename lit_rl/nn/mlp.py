"""Fully connected layers, and how they begin.

Orthogonal weights and zero biases: gain √2 in hidden layers, 0.01 before a policy's distribution (it starts
near uniform), 1 before a value (Saxe et al. 2014; the gains as in Andrychowicz et al. 2021).
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Literal

from torch import nn

from lit_rl.nn.layers import Layers

Activation = Literal["tanh", "relu", "elu", "silu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}

HIDDEN_GAIN = sqrt(2.0)
POLICY_GAIN = 0.01
VALUE_GAIN = 1.0


def init_orthogonal_(layer: nn.Linear | nn.Conv2d, gain: float) -> nn.Linear | nn.Conv2d:
    """Fill the weight with an orthogonal matrix times ``gain`` and the bias with 0, in place; returns ``layer``."""
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def mlp(
    sizes: Sequence[int], activation: Activation = "tanh", orthogonal: bool = True, layer_norm: bool = False
) -> Layers:
    """Linear, (layer norm,) activation for each pair of neighbours in ``sizes``: [B, sizes[0]] → [B, sizes[-1]].

    The last layer is activated too: outputs are the business of :func:`linear_head`. Without ``orthogonal``
    the layers keep torch's own initialisation.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers.append(linear_head(inputs, outputs, HIDDEN_GAIN if orthogonal else None))
        if layer_norm:
            layers.append(nn.LayerNorm(outputs))
        layers.append(ACTIVATIONS[activation]())
    return Layers(*layers)


def linear_head(inputs: int, outputs: int, gain: float | None = VALUE_GAIN) -> nn.Linear:
    """A linear layer with orthogonal weights of this gain, or torch's own initialisation where it is ``None``."""
    layer = nn.Linear(inputs, outputs)
    if gain is not None:
        init_orthogonal_(layer, gain)
    return layer
