"""Checkpoint files: atomic, verified, pickle-free.

A checkpoint is one torch archive whose zip comment is a sealed JSON manifest: versions, env steps, and
the name of the replay folder beside it. ``torch.load`` reads it like any other.
"""

import os
import platform
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
from lit_rl.checkpoint.archive import local, verify
from lit_rl.checkpoint.folder import last_good, way_out
from lit_rl.checkpoint.plain import check_plain
from lit_rl.checkpoint.sealed import (
    CHUNK,
    SEAL,
    CheckpointError,
    Damaged,
    HashingWriter,
    hash_file,
    in_place_of,
    reason,
    seal_text,
)

SECTIONS = ("pytorch-lightning_version", "state_dict")  # of every checkpoint of a run


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's way to the disk, as it has to be: ``Trainer(plugins=[AtomicCheckpointIO()])``.

    A save replaces the old file by one rename after the new one was written, synced and read back; a
    load verifies every byte first, reads onto the CPU, and never runs code from the file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See :func:`save_checkpoint`."""
        save_checkpoint(checkpoint, path)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """See :func:`load_checkpoint`; both options are ignored, the safe ones always hold.

        Raises:
            CheckpointError: also where a part is missing that Lightning would look up without asking.
        """
        loaded = load_checkpoint(path)
        if missing := [part for part in SECTIONS if part not in loaded]:
            raise CheckpointError(
                f"{path} is no run's checkpoint: {', '.join(missing)} missing. {way_out(local(path))}"
            )
        return loaded

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one file."""
        local(path).unlink(missing_ok=True)


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write ``checkpoint`` as ``path``, or leave what was there.

    ``checkpoint["lit_rl"]`` may hold ``env_steps`` and ``replay`` (a folder name): both go into the manifest.

    Raises:
        CheckpointError: the disk refused; the message names the last good checkpoint.
        TypeError: something in ``checkpoint`` is neither tensor nor plain Python.
    """
    check_plain(checkpoint)
    path = local(path)
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
        raise CheckpointError(f"checkpoint not saved: {reason(error, path, needs)}; {last_good(path)}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Verify ``path`` and load it onto the CPU.

    Raises:
        CheckpointError: missing, remote, damaged, foreign, or not plain data. Names the newest good file.
    """
    path = local(path)
    try:
        with open(path, "rb") as file:
            verify(file)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except Damaged as damage:
        raise CheckpointError(f"{path} is damaged ({damage}). {way_out(path)}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. {way_out(path)}") from None
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}. {way_out(path)}") from None
    except Exception as error:
        what = f"{type(error).__name__}: it holds more than tensors and plain data, or another archive"
        raise CheckpointError(f"{path} is refused ({what}). {way_out(path)}") from None


def copy_checkpoint(source: str | Path, target: str | Path) -> None:
    """Give a checkpoint a second name, as atomically as saving it.

    Raises:
        CheckpointError: the disk refused.
    """
    source, target = local(source), local(target)
    try:
        with in_place_of(target) as temporary, open(source, "rb") as original, open(temporary, "wb") as copy:
            shutil.copyfileobj(original, copy, CHUNK)
            copy.flush()
            os.fsync(copy.fileno())
            _read_back_sealed(temporary)
    except OSError as error:
        needs = source.stat().st_size if source.exists() else 0
        raise CheckpointError(f"checkpoint not saved: {reason(error, target, needs)}; {last_good(target)}") from error


def _manifest(checkpoint: dict[str, Any]) -> dict[str, Any]:
    ours = checkpoint.get("lit_rl", {})
    packages = {"lit_rl": lit_rl, "torch": torch, "lightning": lightning, "numpy": np, "gymnasium": gymnasium}
    return {
        "env_steps": ours.get("env_steps"),
        "replay": ours.get("replay"),
        "versions": {"python": platform.python_version()} | {name: str(p.__version__) for name, p in packages.items()},
    }


def _read_back_sealed(path: Path) -> None:
    with open(path, "rb") as file:
        try:
            verify(file)
        except Damaged as damage:
            raise OSError(None, f"what was read back is damaged ({damage})") from None


def _read_back(path: Path, writer: HashingWriter) -> None:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size != writer.size or hash_file(file, writer.size) != writer.sha.hexdigest():
            raise OSError(None, "what was read back differs from what was written")
