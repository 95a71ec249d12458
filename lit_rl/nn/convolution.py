"""Pictures as vectors, alone or beside other entries of an observation."""

from typing import Any, Literal

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn

from lit_rl.nn.flatten import Flatten, entry, is_image, leaves
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import HIDDEN_GAIN, init_orthogonal_

Kind = Literal["nature", "small"]

# (channels, kernel, stride) of each layer, and the smallest picture they take
LAYERS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),  # Mnih et al. 2015, Methods
    "small": ((16, 3, 1),),  # Young & Tian 2019, for MinAtar
}
SMALLEST = {"nature": 36, "small": 3}


class Convolution(nn.Module):
    """A picture [..., C, H, W] in uint8 or bool → [..., D], rectified.

    Args:
        space: of one picture.
        kind: which layers.
        scale: divide by the upper bound of the space (255 for pixels, 1 for planes of bits).
        orthogonal: initialisation, else torch's own.

    Raises:
        ValueError: the picture is smaller than the layers take.
    """

    one: Tensor

    def __init__(self, space: spaces.Box, kind: Kind, scale: bool = True, orthogonal: bool = True) -> None:
        super().__init__()
        channels, height, width = space.shape
        if min(height, width) < SMALLEST[kind]:
            raise ValueError(f"CNN {kind!r} takes images from {SMALLEST[kind]} pixels a side, not {space.shape}")
        self.scale = float(space.high.max()) if scale else 1.0
        self.register_buffer("one", torch.ones(()), persistent=False)  # knows the dtype that the layers want
        layers: list[nn.Module] = []
        for outputs, kernel, stride in LAYERS[kind]:
            layer = nn.Conv2d(channels, outputs, kernel, stride)
            layers += [init_orthogonal_(layer, HIDDEN_GAIN) if orthogonal else layer, nn.ReLU()]
            channels, height, width = outputs, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.layers = Layers(*layers)
        self.out_features = channels * height * width

    def forward(self, x: Tensor) -> Tensor:
        """[..., C, H, W] → [..., D]."""
        batch = x.shape[:-3]
        x = x.to(self.one.dtype)
        if self.scale != 1.0:
            x = x / self.scale
        return self.layers(x.reshape(-1, *x.shape[-3:])).reshape(*batch, self.out_features)


class Mixed(nn.Module):
    """A (nested) dict with pictures in it, or one picture: the flat entries beside each picture's convolution.

    Args:
        space: of one observation; it holds a picture.
        kind: of the convolutions; ``None`` takes for each picture the largest that fits.
        scale: as in :class:`Convolution`.
        orthogonal: as in :class:`Convolution`.
    """

    def __init__(self, space: gymnasium.Space, kind: Kind | None, scale: bool = True, orthogonal: bool = True) -> None:
        super().__init__()
        pictures = [(path, leaf) for path, leaf in leaves(space) if isinstance(leaf, spaces.Box) and is_image(leaf)]
        self.paths = [path for path, _ in pictures]
        convolutions = [Convolution(leaf, kind or largest(leaf), scale, orthogonal) for _, leaf in pictures]
        self.pictures = nn.ModuleList(convolutions)
        rest = len(pictures) < sum(1 for _ in leaves(space))
        self.flatten = Flatten(space, images=False) if rest else None
        self.out_features = sum(picture.out_features for picture in convolutions)
        if self.flatten is not None:
            self.out_features += self.flatten.out_features

    def forward(self, obs: Tensor | dict[str, Any]) -> Tensor:
        """An observation [..., *shape] → [..., D]."""
        parts = [] if self.flatten is None else [self.flatten(obs)]
        parts += [picture(entry(obs, path)) for path, picture in zip(self.paths, self.pictures, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def largest(space: spaces.Box) -> Kind:
    """The largest convolution that fits a picture [C, H, W]."""
    return "nature" if min(space.shape[1:]) >= SMALLEST["nature"] else "small"
