"""The archive that a checkpoint is: a zip whose comment is a sealed manifest."""

import json
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

from lit_rl.checkpoint.sealed import CheckpointError, Damaged, check_seal

ZIP_END = 22  # bytes of a zip archive's last record, before its comment


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint, without verifying what it belongs to. Reads a few kilobytes.

    Raises:
        CheckpointError: there is none.
    """
    try:
        with open(local(path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - ZIP_END - 2**16))
            end = file.read().rpartition(b"PK\5\6")[2]
        manifest = json.loads(end[ZIP_END - 4 :])
        if not isinstance(manifest["env_steps"], int | None) or not isinstance(manifest["replay"], str | None):
            raise TypeError("wrong types")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} has no readable manifest ({error})") from None
    return manifest


def verify(file: BinaryIO) -> None:
    """Read every byte of an open file, and compare with its seal.

    Raises:
        Damaged: another checksum, or no seal.
        CheckpointError: a whole archive that is not ours.
    """
    try:
        check_seal(file)
    except Damaged:
        file.seek(-min(ZIP_END, os.fstat(file.fileno()).st_size), os.SEEK_END)
        end = file.read()
        if end[:4] == b"PK\5\6" and end[-2:] == b"\0\0":
            raise CheckpointError("carries no manifest: it was not written by lit_rl, and is not loaded") from None
        raise


def local(path: Any) -> Path:
    """``path``, which must not be a URL.

    Raises:
        CheckpointError: it is one.
    """
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise CheckpointError(f"{path}: remote checkpoints are not loaded; download it first")
    return Path(path)
