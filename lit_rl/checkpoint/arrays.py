"""Large arrays beside a checkpoint: raw C-order bytes, one file each, and a sealed JSON header. Never pickle."""

import ast
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lit_rl.checkpoint.sealed import (
    CHUNK,
    CheckpointError,
    Damaged,
    HashingWriter,
    check_seal,
    hash_file,
    in_place_of,
    reason,
    seal_text,
    sync_directory,
)

_HEADER = "header.json"


def write_arrays(folder: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    """Write arrays of any layout, memory maps and structured ones too, as a folder that appears whole or not at all.

    Streams: the extra memory is one chunk of 16 MiB, however large the arrays are.

    Args:
        folder: must not exist yet; its parents are made.
        arrays: by name; a name is letters, digits, ``_ - .``, and becomes a file.
        header: plain JSON that :func:`read_arrays` gives back.

    Raises:
        CheckpointError: the folder exists, the disk refused, a name or dtype cannot be stored.
    """
    folder = Path(folder)
    for name, array in arrays.items():
        if not _is_name(name):
            raise CheckpointError(f"{folder}: {name!r} is no name of an array; use letters, digits, _ - .")
        if array.dtype.hasobject:
            raise CheckpointError(f"{folder}: {name} holds Python objects ({array.dtype}); store numbers")
    if folder.exists():
        raise CheckpointError(f"{folder} exists already")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with in_place_of(folder) as temporary:
            temporary.mkdir()
            described = {name: _write(temporary / f"{name}.bin", array) for name, array in arrays.items()}
            with open(temporary / _HEADER, "wb") as file:
                HashingWriter(file).finish(seal_text({"header": header, "arrays": described}))
            sync_directory(temporary)
    except OSError as error:
        needs = sum(array.nbytes for array in arrays.values())
        raise CheckpointError(f"arrays not saved: {reason(error, folder, needs)}") from error


def read_header(folder: str | Path) -> dict[str, Any]:
    """The plain JSON that :func:`write_arrays` was given.

    Raises:
        CheckpointError: missing or damaged.
    """
    with _named(Path(folder)):
        return _read_header(Path(folder))[0]


def check_arrays(folder: str | Path) -> None:
    """Compare every byte with its checksum.

    Raises:
        CheckpointError: missing or damaged.
    """
    folder = Path(folder)
    with _named(folder):
        _check_bytes(folder, _read_header(folder)[1])


def read_arrays(
    folder: str | Path, into: dict[str, np.ndarray] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a folder of :func:`write_arrays`, every checksum verified before the first element is placed.

    Args:
        folder: the folder.
        into: C-contiguous arrays to fill (memory maps are fine); what it does not name is read into new ones.

    Returns:
        The arrays, those of ``into`` among them, and the header.

    Raises:
        CheckpointError: missing, damaged, or of other names, shapes or dtypes than ``into``.
    """
    folder, into = Path(folder), into or {}
    with _named(folder):
        header, described = _read_header(folder)
        _check_match(folder, into, described)
        _check_bytes(folder, described)
        new = {name: np.empty(entry["shape"], _dtype(entry)) for name, entry in described.items() if name not in into}
        arrays = {**into, **new}
        for name, array in arrays.items():
            _read(folder / f"{name}.bin", array)
    return arrays, header


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """What goes wrong inside, with the folder's name."""
    try:
        yield
    except Damaged as damage:
        raise CheckpointError(f"{folder} is damaged ({damage}); resume from another checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror or error} ({error.filename})") from None


def _check_bytes(folder: Path, described: dict[str, Any]) -> None:
    for name, entry in described.items():
        with open(folder / f"{name}.bin", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry["size"]:
                raise Damaged(f"{name}.bin: size {size:,}, expected {entry['size']:,}")
            if hash_file(file, size) != entry["sha256"]:
                raise Damaged(f"{name}.bin: checksum differs")


def _write(path: Path, array: np.ndarray) -> dict[str, Any]:
    with open(path, "wb") as file:
        writer = HashingWriter(file)
        for chunk in _chunks(array):
            writer.write(chunk)
        writer.finish()
    return {
        "dtype": repr(np.lib.format.dtype_to_descr(array.dtype)),
        "shape": list(array.shape),
        "size": writer.size,
        "sha256": writer.sha.hexdigest(),
    }


def _read(path: Path, array: np.ndarray) -> None:
    view = memoryview(_bytes(array))  # type: ignore[arg-type]
    with open(path, "rb", buffering=0) as file:
        position = 0
        while position < len(view):
            count = file.readinto(view[position : position + CHUNK])
            if not count:
                raise Damaged(f"{path.name}: shortened while it was read")
            position += count


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The bytes of ``array`` in C order, in pieces of at most about ``CHUNK``."""
    if array.size == 0:
        return
    if array.flags.c_contiguous:
        view = _bytes(array)
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]
    elif array.ndim > 1 and array[0].nbytes > CHUNK:
        for row in array:
            yield from _chunks(row)
    else:
        rows = max(1, CHUNK // max(1, array[0].nbytes))
        for start in range(0, len(array), rows):
            yield _bytes(np.ascontiguousarray(array[start : start + rows]))


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)


def _read_header(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with open(folder / _HEADER, "rb") as file:
        try:
            check_seal(file)
        except Damaged as damage:
            raise Damaged(f"{_HEADER}: {damage}") from None
        file.seek(0)
        content = json.loads(file.read())
    for name in content["arrays"]:
        if not _is_name(name):
            raise Damaged(f"{_HEADER}: {name!r} is no name of an array")
    return content["header"], content["arrays"]


def _check_match(folder: Path, into: dict[str, np.ndarray], described: dict[str, Any]) -> None:
    if not set(into) <= set(described):
        raise CheckpointError(f"{folder} holds {sorted(described)}; this run needs {sorted(into)}")
    for name, array in into.items():
        there = (tuple(described[name]["shape"]), _dtype(described[name]))
        if there != (array.shape, array.dtype):
            raise CheckpointError(f"{folder}: {name} is {there[1]}{there[0]}; this run has {array.dtype}{array.shape}")
        if not array.flags.c_contiguous:
            raise CheckpointError(f"{folder}: {name} cannot be filled, it is not C-contiguous")


def _dtype(entry: dict[str, Any]) -> np.dtype:
    return np.lib.format.descr_to_dtype(ast.literal_eval(entry["dtype"]))


def _is_name(name: str) -> bool:
    return re.fullmatch(r"\w[\w.-]*", name) is not None
