"""Observations of any supported space as vectors, in torch and in numpy."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from lit_rl.nn.layers import run

Path = tuple[str, ...]  # keys that lead to one entry of a (nested) Dict observation; () for any other space


def leaves(space: gymnasium.Space, path: Path = ()) -> Iterator[tuple[Path, gymnasium.Space]]:
    """The spaces inside a (nested) Dict with the keys that lead to them, legal actions left out.

    Raises:
        ValueError: a space that no network here takes.
    """
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            if key != "action_mask":
                yield from leaves(inner, (*path, key))
    elif isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        yield path, space
    else:
        where = ".".join(path) or "the observation"
        raise ValueError(f"{where} is a {type(space).__name__} space: flatten it with an environment wrapper first")


def entry(obs: Any, path: Path) -> Any:
    """What stands at ``path`` of an observation."""
    for key in path:
        obs = obs[key]
    return obs


def is_image(space: gymnasium.Space) -> bool:
    """Whether this is a picture [C, H, W]: a Box of three dimensions in uint8 or bool.

    Raises:
        ValueError: it looks like [H, W, C].
    """
    if not isinstance(space, spaces.Box) or space.dtype not in (np.uint8, np.bool_) or len(space.shape) != 3:
        return False
    if space.shape[2] <= 4 < space.shape[0]:
        raise ValueError(f"image space {space.shape} looks like [H, W, C]: wrap the environment in ChannelFirst")
    return True


class Numbers(nn.Module):
    """Box or MultiBinary [..., *shape] → [..., D], scaled to [0, 1] where it is an image."""

    one: Tensor

    def __init__(self, space: spaces.Box | spaces.MultiBinary) -> None:
        super().__init__()
        self.dims = len(space.shape)
        self.size = int(np.prod(space.shape, dtype=np.int64))
        self.scale = float(space.high.max()) if isinstance(space, spaces.Box) and is_image(space) else 1.0
        self.register_buffer("one", torch.ones(()), persistent=False)  # knows the dtype that the layers want

    def forward(self, x: Tensor) -> Tensor:
        """[..., *shape] → [..., D]."""
        dtype = self.one.dtype
        if x.dtype != dtype:
            x = x.to(dtype)
        if self.dims != 1:
            x = x.reshape(*x.shape[: x.dim() - self.dims], self.size)
        return x if self.scale == 1.0 else x / self.scale

    def numpy(self, x: np.ndarray) -> np.ndarray:
        """The same on arrays, in float32."""
        if x.dtype != np.float32:
            x = x.astype(np.float32)
        if self.dims != 1:
            x = x.reshape(*x.shape[: x.ndim - self.dims], self.size)
        return x if self.scale == 1.0 else x / np.float32(self.scale)


class OneHot(nn.Module):
    """Discrete [...] or MultiDiscrete [..., *shape] → [..., D], the one-hot codes side by side."""

    column: Tensor
    value: Tensor
    one: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        choices = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec).ravel().astype(np.int64)
        start = np.broadcast_to(np.asarray(space.start), np.shape(space.start) or (1,)).ravel()
        self.dims = len(space.shape or ())
        self.size = int(choices.sum())
        # output d is 1 where input column[d] equals value[d]
        self._column = np.repeat(np.arange(len(choices)), choices)
        self._value = np.concatenate([first + np.arange(n) for first, n in zip(start, choices, strict=True)])
        self.register_buffer("column", torch.from_numpy(self._column), persistent=False)
        self.register_buffer("value", torch.from_numpy(self._value), persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., *shape] → [..., D]."""
        x = x.reshape(*x.shape[: x.dim() - self.dims], -1)
        return (x.index_select(-1, self.column) == self.value).to(self.one.dtype)

    def numpy(self, x: np.ndarray) -> np.ndarray:
        """The same on arrays, in float32."""
        x = x.reshape(*x.shape[: x.ndim - self.dims], -1)
        return (x[..., self._column] == self._value).astype(np.float32)


def _leaf(space: gymnasium.Space) -> Numbers | OneHot:
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return OneHot(space)
    assert isinstance(space, (spaces.Box, spaces.MultiBinary))  # nothing else comes out of leaves()
    return Numbers(space)


class Flatten(nn.Module):
    """An observation [..., *shape], or a dict of them, → [..., D] in the dtype of the layers.

    Box: flattened, images over their upper bound. Discrete, MultiDiscrete: one-hot. MultiBinary: 0 and 1.
    Dict: the entries in the order of the space, side by side, without ``"action_mask"``.

    Args:
        space: of one observation.
        images: whether images are flattened with the rest, or left out (a convolution reads them).
    """

    def __init__(self, space: gymnasium.Space, images: bool = True) -> None:
        super().__init__()
        kept = [(path, leaf) for path, leaf in leaves(space) if images or not is_image(leaf)]
        self.paths = [path for path, _ in kept]
        parts = [_leaf(leaf) for _, leaf in kept]
        self.leaves = nn.ModuleList(parts)
        self.out_features = sum(part.size for part in parts)
        self._parts = list(zip(self.paths, parts, strict=True))
        self._numpy = [(path, part.numpy) for path, part in zip(self.paths, parts, strict=True)]

    def forward(self, obs: Tensor | dict[str, Any]) -> Tensor:
        """Observations [..., *shape] → [..., D]."""
        if len(self._parts) == 1:
            path, leaf = self._parts[0]
            return run(leaf, entry(obs, path) if path else obs)
        return torch.cat([run(leaf, entry(obs, path)) for path, leaf in self._parts], -1)

    def numpy(self, obs: Any) -> np.ndarray:
        """The same on arrays, in float32. May return the observation itself: do not write into it."""
        if len(self._numpy) == 1:
            path, leaf = self._numpy[0]
            return leaf(entry(obs, path) if path else obs)
        return np.concatenate([leaf(entry(obs, path)) for path, leaf in self._numpy], -1)
