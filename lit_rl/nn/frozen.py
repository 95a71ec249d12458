"""Looking through a network without teaching it: gradients pass to its inputs and not to its weights."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call


class Frozen:
    """What ``network`` computes, as a function of its inputs alone.

    Its parameters get no gradient, and none is computed. They are the network's own, whatever happens to them.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._learning: list[nn.Parameter] | None = None  # walking the modules costs as much as a layer

    def __call__(self, *arguments: Any) -> Any:
        """The network's output."""
        if torch.compiler.is_compiling():  # a compiled loss cannot switch gradients off and on
            weights = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
            return functional_call(self.network, weights, arguments)
        if self._learning is None:
            self._learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        for parameter in self._learning:
            parameter.requires_grad_(False)
        try:
            return self.network(*arguments)
        finally:
            for parameter in self._learning:
                parameter.requires_grad_(True)
