"""What may stand in a checkpoint: tensors and plain Python, nothing that loading would have to execute."""

from collections import OrderedDict
from typing import Any

import torch

_LEAVES = {
    type(None), bool, int, float, complex, str, bytes,
    torch.Tensor, torch.nn.Parameter, torch.dtype, torch.device, torch.Size,
}  # fmt: skip
_SEQUENCES = {list, tuple, set}
_MAPPINGS = {dict, OrderedDict}


def check_plain(value: Any, where: str = "") -> None:
    """Walk dicts and sequences, and refuse the first thing that is neither tensor nor plain Python.

    Types are compared exactly: ``np.float64`` is a ``float`` and yet not loadable without pickle.

    Raises:
        TypeError: naming the place, as in ``hyper_parameters.env: Env is not plain data``.
    """
    kind = type(value)
    if kind in _LEAVES:
        return
    if kind in _MAPPINGS:
        for key, item in value.items():
            inside = f"{where}.{key}" if where else str(key)
            if type(key) not in _LEAVES and type(key) is not tuple:
                raise TypeError(f"{inside}: a key of type {type(key).__name__} is not plain data")
            check_plain(item, inside)
    elif kind in _SEQUENCES:
        for index, item in enumerate(value):
            check_plain(item, f"{where}[{index}]")
    else:
        raise TypeError(f"{where}: {kind.__name__} is not plain data; store tensors, numbers, strings, lists, dicts")
