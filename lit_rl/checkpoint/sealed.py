"""Files that are whole or not there at all, and that show the smallest damage.

A *sealed* file ends with ``<64 hex digits>"}``: the sha256 of every byte before those digits. Data and
checksum are one file, put in place by one rename, so no kill can part them.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 2**24  # bytes read or written at once
SEAL = 66  # bytes: the digits, and the end of the JSON text that they close
DAY = 86400.0


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read: the message names the file, the reason and the way out."""


class Damaged(Exception):
    """The reason why a file is not what was written; callers add the file's name."""


class HashingWriter:
    """A file that hashes what passes, and counts on after the first failure, so that the whole need is known.

    The two newest bytes wait in ``held``: a zip archive ends with the length of its comment, and the
    comment is written, and that length set, after torch believes the archive closed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sha = hashlib.sha256()
        self.size = 0
        self.held = b""
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Take any bytes-like object. Never raises: an exception could not cross torch's C++ writer."""
        view = memoryview(data).cast("B")
        if len(view) < 2:
            joined = self.held + bytes(view)
            self._pass_on(joined[:-2])
            self.held = joined[-2:]
        else:
            self._pass_on(self.held)
            self._pass_on(view[:-2])
            self.held = bytes(view[-2:])
        return len(view)

    def flush(self) -> None:
        """Nothing to do before :meth:`finish`."""

    def finish(self, text: bytes | None = None) -> None:
        """Bring everything to the disk; with ``text``, from :func:`seal_text`, seal it first.

        Raises:
            OSError: the first that occurred.
        """
        self._pass_on(self.held)
        self.held = b""
        if text is not None:
            self._pass_on(text)
            self._pass_on(self.sha.hexdigest().encode() + b'"}')
        if self.error is not None:
            raise self.error
        self.file.flush()
        os.fsync(self.file.fileno())

    def _pass_on(self, data: Any) -> None:
        self.size += len(data)
        if self.error is None:
            try:
                for start in range(0, len(data), CHUNK):
                    piece = data[start : start + CHUNK]
                    self.file.write(piece)
                    self.sha.update(piece)
            except OSError as error:
                self.error = error


def seal_text(content: dict[str, Any]) -> bytes:
    """The JSON of ``content`` up to where the digits of its seal belong."""
    return (json.dumps(content)[:-1] + ', "sha256": "').encode()


def check_seal(file: BinaryIO) -> str:
    """Read a sealed file from its start to its end. Returns the digits.

    Raises:
        Damaged: no seal, or another checksum.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - SEAL))
    end = file.read()
    if not re.fullmatch(rb'[0-9a-f]{64}"\}', end):
        raise Damaged(f"{size:,} bytes, its end is missing" if size else "empty")
    digits = end[:-2].decode()
    if hash_file(file, size - SEAL) != digits:
        raise Damaged("checksum differs")
    return digits


def hash_file(file: BinaryIO, size: int) -> str:
    """The sha256 of the first ``size`` bytes, in hex digits."""
    sha = hashlib.sha256()
    file.seek(0)
    while size > 0 and (piece := file.read(min(CHUNK, size))):
        sha.update(piece)
        size -= len(piece)
    return sha.hexdigest()


@contextmanager
def in_place_of(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends, and leaves nothing if it fails.

    The caller brings the contents to the disk; the name is brought there here. Temporaries of dead
    processes are cleared first.
    """
    remove_stale(path.parent)
    temporary = path.parent / f".tmp.{_host()}.{os.getpid()}.{path.name}"
    _remove(temporary)  # of an earlier process with our number
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(directory: Path) -> None:
    """Remove the temporaries of processes that died here, and, of other hosts, those a day old."""
    for path in directory.glob(".tmp.*"):
        _, _, host, pid, *_ = [*path.name.split(".", 4), "", "", ""]
        dead = host == _host() and pid.isdigit() and not _alive(int(pid))
        try:
            if dead or time.time() - path.stat().st_mtime > DAY:
                _remove(path)
        except FileNotFoundError:
            continue  # another process was quicker


def check_writable(directory: str | Path) -> None:
    """Make the directory, and write and remove a file in it, before a run relies on that.

    Raises:
        CheckpointError: it cannot be done.
    """
    directory = Path(directory)
    probe = directory / f".tmp.probe.{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"checkpoints cannot be written: {reason(error, probe, 0)}") from error


def reason(error: OSError, path: Path, needs: int) -> str:
    """Why a write failed, in words, with what would have been needed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        needed = f"needs {megabytes(needs)}, " if needs else ""
        kind = {errno.EDQUOT: "quota used up", errno.EFBIG: "file size limit reached"}.get(error.errno, "no space left")
        return f"{kind} ({needed}free {megabytes(shutil.disk_usage(path.parent).free)})"
    return f"{path.parent}: {error.strerror or error}"


def megabytes(size: float) -> str:
    """A size as a person reads it."""
    return f"{size / 1e6:,.1f} MB" if size < 1e8 else f"{size / 1e6:,.0f} MB"


def _host() -> str:
    return re.sub(r"\W", "-", socket.gethostname()) or "host"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
