"""Small networks in numpy: acting on a few environments costs microseconds, most of which is torch's dispatch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from lit_rl.nn.flatten import Flatten
from lit_rl.nn.layers import Layers
from lit_rl.nn.normalizer import Normalizer

_ZERO = np.zeros((), np.float32)
_ONE = np.ones((), np.float32)
_HALF = np.full((), 0.5, np.float32)


def _tanh(x: np.ndarray) -> None:
    np.tanh(x, x)


def _relu(x: np.ndarray) -> None:
    np.maximum(x, _ZERO, out=x)


def _elu(x: np.ndarray) -> None:
    negative = np.minimum(x, _ZERO)
    np.expm1(negative, negative)
    np.maximum(x, _ZERO, out=x)
    x += negative


def _silu(x: np.ndarray) -> None:
    half = x * _HALF  # x sigmoid(x) = x/2 (1 + tanh(x/2)), which cannot overflow
    np.tanh(half, x)
    x += _ONE
    x *= half


# in place, each on an array that the layer before has made
_ACTIVATIONS: dict[type[nn.Module], Callable[[np.ndarray], None]] = {
    nn.Tanh: _tanh,
    nn.ReLU: _relu,
    nn.ELU: _elu,
    nn.SiLU: _silu,
}


class NumpyForward:
    """Numpy observations [N, ...] (or a dict of them) → float32 [N, D], by views on the parameters of ``modules``.

    In-place optimiser steps are seen at once. Where parameters got new storage (moved, shared, replaced),
    ``stale()`` is true and a new one must be made. Copying or pickling it builds the copy on the copied
    modules. Safe to call from several threads.
    """

    def __init__(self, modules: tuple[nn.Module, ...]) -> None:
        self.modules = modules
        self._read: Callable[[Any], np.ndarray] = _float32
        self._normalize: Callable[[np.ndarray], np.ndarray] | None = None
        self._steps: list[tuple[np.ndarray, np.ndarray | None, list[Callable[[np.ndarray], None]]]] = []
        for layer in _layers(modules):
            if isinstance(layer, nn.Linear):
                bias = None if layer.bias is None else layer.bias.detach().numpy()[None]
                self._steps.append((layer.weight.detach().numpy().T, bias, []))
            elif isinstance(layer, Flatten):
                self._read = layer.numpy
            elif isinstance(layer, Normalizer):
                self._normalize = layer.numpy()
            else:
                self._steps[-1][2].append(_ACTIVATIONS[type(layer)])
        self._homes = [home for layer in _layers(modules) for home in _homes(layer)]
        self._pointers = self._where()

    def __call__(self, obs: Any) -> np.ndarray:
        """Observations [N, ...] → [N, D] in float32."""
        x = self._read(obs)
        if self._normalize is not None:
            x = self._normalize(x)
        for weight, bias, activations in self._steps:
            x = x.dot(weight)
            if bias is not None:
                x += bias
            for activation in activations:
                activation(x)
        return x

    def stale(self) -> bool:
        """Whether some parameter or statistic no longer lives where this function reads it."""
        return self._where() != self._pointers

    def _where(self) -> list[int]:
        return [home[name].data_ptr() for home, name in self._homes]

    def __reduce__(self) -> tuple[Any, ...]:
        return numpy_forward, self.modules


def numpy_forward(*modules: nn.Module) -> NumpyForward | None:
    """A numpy function that equals ``modules`` applied one after the other, or ``None`` where there is none.

    There is one for [Flatten], [Normalizer], then Linear layers each followed by Tanh, ReLU, ELU or SiLU,
    nested in ``nn.Sequential`` as one likes, in float32 on the CPU and without hooks.
    """
    layers = list(_layers(modules))
    chain = [type(layer) for layer in layers]
    for optional in (Flatten, Normalizer):
        if chain and chain[0] is optional:
            chain.pop(0)
    known = bool(chain) and chain[0] is nn.Linear and all(kind is nn.Linear or kind in _ACTIVATIONS for kind in chain)
    hooked = any(m._forward_hooks or m._forward_pre_hooks for top in modules for m in top.modules())
    plain = all(
        name in home and home[name].device.type == "cpu" and home[name].dtype == torch.float32
        for layer in layers
        for home, name in _homes(layer)
    )
    elu = all(layer.alpha == 1.0 for layer in layers if isinstance(layer, nn.ELU))
    return NumpyForward(modules) if known and plain and elu and not hooked else None


def _layers(modules: tuple[nn.Module, ...]) -> Iterator[nn.Module]:
    """The modules in order, with everything that is no more than a sequence taken apart."""
    for module in modules:
        if type(module).forward in (nn.Sequential.forward, Layers.forward):
            yield from _layers(tuple(module.children()))
        else:
            yield module


def _homes(layer: nn.Module) -> list[tuple[Any, str]]:
    """Where a layer keeps what is read here: a module's own dicts, which are read ten times faster than the module."""
    if isinstance(layer, nn.Linear):
        names = ["weight"] if layer.bias is None else ["weight", "bias"]
        return [(layer._parameters, name) for name in names]
    if isinstance(layer, Normalizer):
        return [(layer._buffers, name) for name in ("shift", "scale", "bounds")]
    return []


def _float32(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)
