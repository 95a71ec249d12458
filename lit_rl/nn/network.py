"""What recipes of networks build."""

from typing import Any

from torch import Tensor, nn

from lit_rl.nn.convolution import Mixed
from lit_rl.nn.flatten import Flatten
from lit_rl.nn.layers import Layers
from lit_rl.nn.normalizer import Normalizer


class BuiltBody(nn.Module):
    """Observations [B, ...], or a dict of them, → features [B, D]."""

    out_features: int
    """D."""

    state_size: int = 0
    """S, of the memory [N, S]; 0 without one."""

    def step(self, obs: Tensor | dict[str, Any], state: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, D] of one step and the memory [N, S] after it."""
        return self(obs), state

    def update_statistics(self, obs: Tensor | dict[str, Any]) -> None:
        """Take observations [..., *shape] into the running statistics, where there are any."""


class Network(BuiltBody, Layers):
    """Observations [..., *shape], or a dict of them, → features [..., D], without a memory.

    Args:
        encoder: observations to one vector.
        layers: that vector to features.
        out_features: D.
        normalize: pass the vector through running statistics, which ``update_statistics`` feeds.
    """

    normalizer: Normalizer | None

    def __init__(self, encoder: Flatten | Mixed, layers: Layers, out_features: int, normalize: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalizer = Normalizer(encoder.out_features) if normalize else None
        self.layers = layers
        self.out_features = out_features

    def update_statistics(self, obs: Tensor | dict[str, Any]) -> None:
        """See :meth:`BuiltBody.update_statistics`."""
        if self.normalizer is not None:
            self.normalizer.update(self.encoder(obs))
