"""Looking through a network without teaching it: gradients pass to its inputs and not to its weights."""

from typing import Any

from torch import nn
from torch.func import functional_call


def frozen(network: nn.Module, *arguments: Any) -> Any:
    """What ``network`` computes of ``arguments``, as a function of them alone.

    Its parameters get no gradient, and none is computed: cheaper than switching ``requires_grad`` off and on.
    """
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return functional_call(network, weights, arguments)
