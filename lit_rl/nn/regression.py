"""Fitting a network to numbers: by descent, or exactly where it is linear in its features."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lit_rl.bounds import refuse_below

Method = Literal["gradient", "least_squares"]


@dataclass(frozen=True)
class Regression:
    """Recipe of one regression.

    Args:
        method: ``gradient`` makes steps of the agent's optimiser on minibatches; ``least_squares`` solves for the
            last layer, the only one that learns, in one update.
        steps: S, optimiser steps of one regression.
        batch_size: rows of a step, in a new order each time all of them have been used; None takes all of them.
    """

    method: Method = "gradient"
    steps: int = 100
    batch_size: int | None = 256

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"Regression.method is {self.method!r}: choose one of {', '.join(get_args(Method))}")
        refuse_below(self, 1, "steps", "batch_size")

    def refuse_hidden_layers(self, body: nn.Module) -> None:
        """Refuse a body with parameters where the last layer alone would learn.

        Raises:
            ValueError: ``body`` has parameters and the method is ``least_squares``.
        """
        if self.method == "least_squares" and any(True for _ in body.parameters()):
            raise ValueError(
                "least_squares fits the last layer and this net has others: use Table, StateFeatures or MLP(())"
            )


@torch.no_grad()
def least_squares_(
    layer: nn.Linear,
    features: Float[Tensor, "B D"],
    target: Float[Tensor, " B"],
    output: Int[Tensor, " B"] | None = None,
) -> None:
    """Fit a linear layer in place: of all minimisers of Σ (layer(x)_o − y)² the one nearest to what it was.

    What no row says anything about stays. Solved in float64 by the singular values of the features.
    Formula sheet: 6.1.4a, 6.1.4b.

    Args:
        layer: D inputs, P outputs, with or without a bias.
        features: x.
        target: y.
        output: o, which output each row is about; the first by default.
    """
    x = features.double().cpu()
    if layer.bias is not None:
        x = torch.cat([x, torch.ones_like(x[:, :1])], -1)
    outputs = torch.zeros(len(x), dtype=torch.int64) if output is None else output.cpu()
    for o in outputs.unique():
        rows = outputs == o
        weights = layer.weight[o].double().cpu()
        if layer.bias is not None:
            weights = torch.cat([weights, layer.bias[o].double().cpu()[None]])
        missing = target.double().cpu()[rows] - x[rows] @ weights
        weights = weights + torch.linalg.lstsq(x[rows], missing[:, None], driver="gelsd").solution[:, 0]
        layer.weight[o] = weights[: layer.in_features].to(layer.weight)
        if layer.bias is not None:
            layer.bias[o] = weights[-1].to(layer.bias)
