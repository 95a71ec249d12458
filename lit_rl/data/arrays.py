"""Numpy storage for observations and actions: one array, or a dict of arrays for a Dict space."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch


def parts(space: gymnasium.Space) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """The arrays that one element of a space consists of: name (empty when there is one) → dtype, shape."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _one_array(part) for key, part in space.spaces.items()}
    return {"": _one_array(space)}


def part(tree: Any, name: str) -> Any:
    """The array (or tensor) of a storage by its name in :func:`parts`."""
    return tree[name] if name else tree


def _one_array(space: gymnasium.Space) -> tuple[np.dtype, tuple[int, ...]]:
    if space.dtype is None or space.shape is None:
        raise ValueError(f"{space} is no array: observations are arrays, or a Dict of arrays; flatten it in a wrapper")
    return space.dtype, space.shape


def allocator(space: gymnasium.Space) -> Callable[..., Any]:
    """A function from leading dimensions to uninitialised storage [*leading, ...] for elements of that space."""
    found = parts(space)
    if isinstance(space, gymnasium.spaces.Dict):
        return lambda *leading: {key: np.empty((*leading, *shape), dtype) for key, (dtype, shape) in found.items()}
    dtype, shape = found[""]
    return lambda *leading: np.empty((*leading, *shape), dtype)


def empty(space: gymnasium.Space, *leading: int) -> Any:
    """Uninitialised storage [*leading, ...] for elements of a space."""
    return allocator(space)(*leading)


def assign(storage: Any, index: Any, value: Any) -> None:
    """``storage[index] = value``, entry by entry for a dict."""
    if isinstance(storage, dict):
        for key, array in storage.items():
            array[index] = value[key]
    else:
        storage[index] = value


def take(storage: Any, index: Any) -> Any:
    """``storage[index]``, entry by entry for a dict."""
    if isinstance(storage, dict):
        return {key: array[index] for key, array in storage.items()}
    return storage[index]


def concatenate(pieces: list[Any], axis: int = 0) -> Any:
    """Storages, at least one, one after the other along ``axis``; entry by entry for dicts."""
    if isinstance(pieces[0], dict):
        return {key: np.concatenate([piece[key] for piece in pieces], axis) for key in pieces[0]}
    return np.concatenate(pieces, axis)


def tensors(tree: Any) -> Any:
    """Arrays of a named tuple or dict as tensors over the same memory; everything else as it is."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree)
    if isinstance(tree, dict):
        return {key: tensors(value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(tensors(value) for value in tree))
    return tree
