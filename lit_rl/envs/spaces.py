"""Spaces as plain data, so that hyper-parameters and checkpoints hold no code, and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these"


def space_to_plain(space: spaces.Space) -> dict[str, Any]:
    """The space as dicts, lists, numbers and strings only; :func:`space_from_plain` inverts it exactly.

    Raises:
        ValueError: no space of a supported kind; the message says what to do.
    """
    if isinstance(space, spaces.Dict):
        nested = [key for key, leaf in space.spaces.items() if isinstance(leaf, (spaces.Dict, spaces.Tuple))]
        if nested:
            raise ValueError(f"space {_short(space)} is nested at {nested[0]!r}; use the wrapper FlattenObservation")
        return {"kind": "Dict", "spaces": {key: space_to_plain(leaf) for key, leaf in space.spaces.items()}}
    if 0 in (space.shape or ()):
        raise ValueError(f"space {_short(space)} has no elements; drop it with the wrapper FilterObservation")
    if isinstance(space, spaces.Box):
        kind = space.dtype.kind
        if kind not in "fiub":
            raise ValueError(f"space {_short(space)} has dtype {space.dtype}; use float, integer or bool")
        return {
            "kind": "Box",
            "dtype": space.dtype.name,
            "shape": list(space.shape),
            "low": _compact(space.low),
            "high": _compact(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        if space.nvec.ndim != 1 or space.start.any():
            raise ValueError(
                f"space {_short(space)} is supported with one axis and start 0 only; use FlattenObservation"
            )
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    raise ValueError(f"space {_short(space)} is not supported ({SUPPORTED}); use the wrapper FlattenObservation")


def space_from_plain(plain: dict[str, Any]) -> spaces.Space:
    """The space that :func:`space_to_plain` described.

    Raises:
        ValueError: the description is of no supported kind.
    """
    match plain.get("kind"):
        case "Box":
            shape, dtype = tuple(plain["shape"]), np.dtype(plain["dtype"])
            low, high = (np.broadcast_to(np.array(plain[end], dtype), shape).copy() for end in ("low", "high"))
            return spaces.Box(low, high, shape, dtype.type)
        case "Discrete":
            return spaces.Discrete(plain["n"], start=plain["start"])
        case "MultiDiscrete":
            return spaces.MultiDiscrete(plain["nvec"])
        case "MultiBinary":
            shape = plain["shape"]
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case "Dict":
            return spaces.Dict({key: space_from_plain(leaf) for key, leaf in plain["spaces"].items()})
    raise ValueError(f"no space of kind {plain.get('kind')!r}; known are {SUPPORTED}")


def _compact(bound: np.ndarray) -> Any:
    """One number where all elements agree (an image's bounds would fill the file otherwise)."""
    first = bound.flat[0]
    return first.item() if (bound == first).all() else bound.tolist()


def _short(space: spaces.Space) -> str:
    text = " ".join(repr(space).split())
    return text if len(text) <= 100 else text[:97] + "..."


def clipping(space: spaces.Space) -> Callable[[Any], Any]:
    """What makes actions [N, ...] of a policy executable: clipped into a Box, as they are elsewhere."""
    if not isinstance(space, spaces.Box):
        return lambda action: action
    low, high = space.low, space.high
    return lambda action: np.clip(action, low, high)
