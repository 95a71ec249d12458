"""Checkpoint files: atomic, verified, pickle-free.

A checkpoint is one torch archive whose zip comment is a sealed JSON manifest: versions, env steps, and
the name of the replay folder beside it. ``torch.load`` reads it like any other.
"""

import json
import os
import platform
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import gymnasium
import lightning
import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO

import lit_rl
from lit_rl.checkpoint.plain import check_plain
from lit_rl.checkpoint.sealed import (
    CHUNK,
    SEAL,
    CheckpointError,
    Damaged,
    HashingWriter,
    check_seal,
    hash_file,
    in_place_of,
    reason,
    seal_text,
)

_ZIP_END = 22  # bytes of a zip archive's last record, before its comment
REPLAY = re.compile(r"replay-\d+(-[0-9a-f]{8})?")  # names of the folders that hold replay contents


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's way to the disk, as it has to be: ``Trainer(plugins=[AtomicCheckpointIO()])``.

    A save replaces the old file by one rename after the new one was written, synced and read back; a
    load verifies every byte first, reads onto the CPU, and never runs code from the file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See :func:`save_checkpoint`."""
        save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """See :func:`load_checkpoint`; both options are ignored, the safe ones always hold."""
        return load_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one file."""
        _local(path).unlink(missing_ok=True)


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write ``checkpoint`` as ``path``, or leave what was there.

    ``checkpoint["lit_rl"]`` may hold ``env_steps`` and ``replay`` (a folder name): both go into the manifest.

    Raises:
        CheckpointError: the disk refused; the message names the last good checkpoint.
        TypeError: something in ``checkpoint`` is neither tensor nor plain Python.
    """
    check_plain(checkpoint)
    path = _local(path)
    needs = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_place_of(path) as temporary:
            with open(temporary, "wb") as file:
                writer = HashingWriter(file)
                torch.save(checkpoint, writer)  # type: ignore[arg-type]
                needs = writer.size
                manifest = seal_text(_manifest(checkpoint))
                writer.held = struct.pack("<H", len(manifest) + SEAL)  # in place of the empty comment's length
                writer.finish(manifest)
            _read_back(temporary, writer)
    except OSError as error:
        raise CheckpointError(f"checkpoint not saved: {reason(error, path, needs)}; {_last_good(path)}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Verify ``path`` and load it onto the CPU.

    Raises:
        CheckpointError: missing, remote, damaged, foreign, or not plain data. Names the newest good file.
    """
    path = _local(path)
    try:
        with open(path, "rb") as file:
            _verify(file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except Damaged as damage:
        raise CheckpointError(f"{path} is damaged ({damage}). {_way_out(path)}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. {_way_out(path)}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from None
    except Exception as error:
        what = f"{type(error).__name__}: it holds more than tensors and plain data, or another archive"
        raise CheckpointError(f"{path} is refused ({what}). {_way_out(path)}") from None


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint, without verifying what it belongs to. Reads a few kilobytes.

    Raises:
        CheckpointError: there is none.
    """
    try:
        with open(_local(path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _ZIP_END - 2**16))
            end = file.read().rpartition(b"PK\5\6")[2]
        manifest = json.loads(end[_ZIP_END - 4 :])
        if not isinstance(manifest["env_steps"], int | None) or not isinstance(manifest["replay"], str | None):
            raise TypeError("wrong types")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} has no readable manifest ({error})") from None
    return manifest


def newest_good(directory: str | Path, other_than: Path | None = None) -> tuple[Path, int | None] | None:
    """The verified checkpoint with the most env steps, and those steps; None where there is none."""
    known = []
    for path in Path(directory).glob("*.ckpt"):
        try:
            steps = read_manifest(path)["env_steps"]
            known.append((-1 if steps is None else steps, path.stat().st_mtime, path))
        except (CheckpointError, OSError):
            continue  # not one of ours, or damaged: no candidate
    for steps, _, path in sorted(known, reverse=True):
        if path != other_than and is_good(path):
            return path, None if steps < 0 else steps
    return None


def is_good(path: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written."""
    try:
        with open(path, "rb") as file:
            _verify(file)
    except (Damaged, CheckpointError, OSError):
        return False
    return True


def resolve_last(directory: str | Path) -> Path:
    """The newest ``last.ckpt`` in or below ``directory``, verified.

    Raises:
        CheckpointError: none there, or damaged; then the newest good file beside it is named.
    """
    found = sorted(Path(directory).rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        other = newest_good(directory)
        hint = f"; there is {other[0]}, resume with --ckpt_path {other[0]}" if other else ""
        raise CheckpointError(f"nothing to resume in {directory}: no last.ckpt{hint}")
    if not is_good(found[-1]):
        raise CheckpointError(f"nothing to resume in {directory}: {found[-1]} is damaged. {_way_out(found[-1])}")
    return found[-1]


def copy_checkpoint(source: str | Path, target: str | Path) -> None:
    """Give a checkpoint a second name, as atomically as saving it.

    Raises:
        CheckpointError: the disk refused.
    """
    source, target = _local(source), _local(target)
    try:
        with in_place_of(target) as temporary, open(source, "rb") as original, open(temporary, "wb") as copy:
            shutil.copyfileobj(original, copy, CHUNK)
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        needs = source.stat().st_size if source.exists() else 0
        raise CheckpointError(f"checkpoint not saved: {reason(error, target, needs)}; {_last_good(target)}") from error


def remove_orphans(directory: str | Path) -> None:
    """Remove the folders ``replay-<env steps>-<run>`` but those of ``last.ckpt`` and of the file written last.

    A best checkpoint of long ago keeps its weights and loses its replay: one replay may fill half a disk.

    Raises:
        CheckpointError: a folder cannot be removed.
    """
    directory = Path(directory)
    by_age = sorted(directory.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    kept = {read_manifest(path)["replay"] for path in {*by_age[-1:], *directory.glob("last.ckpt")}}
    for folder in directory.glob("replay-*"):
        if REPLAY.fullmatch(folder.name) and folder.name not in kept:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise CheckpointError(f"{folder} cannot be removed: {error.strerror or error}") from error


def _manifest(checkpoint: dict[str, Any]) -> dict[str, Any]:
    ours = checkpoint.get("lit_rl", {})
    packages = {"lit_rl": lit_rl, "torch": torch, "lightning": lightning, "numpy": np, "gymnasium": gymnasium}
    return {
        "env_steps": ours.get("env_steps"),
        "replay": ours.get("replay"),
        "versions": {"python": platform.python_version()} | {name: str(p.__version__) for name, p in packages.items()},
    }


def _read_back(path: Path, writer: HashingWriter) -> None:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size != writer.size or hash_file(file, writer.size) != writer.sha.hexdigest():
            raise OSError(None, "what was read back differs from what was written")


def _verify(file: Any) -> None:
    """Raises :class:`Damaged`, or :class:`CheckpointError` for a whole archive that is not ours."""
    try:
        check_seal(file)
    except Damaged:
        file.seek(-min(_ZIP_END, os.fstat(file.fileno()).st_size), os.SEEK_END)
        end = file.read()
        if end[:4] == b"PK\5\6" and end[-2:] == b"\0\0":
            raise CheckpointError("carries no manifest: it was not written by lit_rl, and is not loaded") from None
        raise


def _local(path: Any) -> Path:
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise CheckpointError(f"{path}: remote checkpoints are not loaded; download it first")
    return Path(path)


def _way_out(path: Path) -> str:
    good = newest_good(path.parent, other_than=path)
    if good is None:
        return f"No good checkpoint is in {path.parent}."
    steps = "" if good[1] is None else f" (env step {good[1]:,})"
    return f"Newest good: {good[0]}{steps}. Resume with --ckpt_path {good[0]}"


def _last_good(path: Path) -> str:
    good = newest_good(path.parent)
    return f"last good: {good[0]}" if good else "no good checkpoint yet"
