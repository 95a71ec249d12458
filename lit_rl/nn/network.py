"""What a feed-forward recipe builds."""

from typing import Any

from torch import Tensor, nn

from lit_rl.nn.normalizer import Normalizer


class Network(nn.Sequential):
    """Observations [..., *shape], or a dict of them, → features [..., D].

    Args:
        encoder: observations to one vector; it has ``out_features``.
        layers: that vector to features.
        out_features: D.
        normalize: pass the vector through running statistics, which ``update_statistics`` feeds.
    """

    state_size = 0  # no memory
    normalizer: Normalizer | None

    def __init__(self, encoder: nn.Module, layers: nn.Sequential, out_features: int, normalize: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalizer = Normalizer(int(encoder.out_features)) if normalize else None  # type: ignore[arg-type]
        self.layers = layers
        self.out_features = out_features

    def update_statistics(self, obs: Tensor | dict[str, Any]) -> None:
        """Take observations [..., *shape] into the running statistics, where there are any."""
        if self.normalizer is not None:
            self.normalizer.update(self.encoder(obs))
