"""The directory of a run: one run at a time, an older run moved aside, never overwritten."""

import fcntl
import os
import shutil
import socket
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from lit_rl.callbacks.slurm import job, was_requeued
from lit_rl.checkpoint import CheckpointError, newest_good, resolve_last
from lit_rl.cli.refusal import Refusal

CHECKPOINTS = "checkpoints"


class RunDirectory:
    """Holds a directory for this process, from construction to :meth:`release`.

    A run that begins anew moves what an older one left to ``<directory>.1`` (or the next free number); one that
    resumes goes on in place. In a run of several processes the first one does all this.

    Args:
        path: the directory; made if it is missing.
        resume: keep what is there.

    Raises:
        Refusal: another process runs in it, or it cannot be made.
    """

    def __init__(self, path: str | Path, resume: bool) -> None:
        self.path = Path(path)
        self.moved_to: Path | None = None
        self._first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        self._made = False
        self._made_parents = [parent for parent in self.path.parents if not parent.exists()]  # from the inside out
        if not self._first:
            return
        self._lock = self.path.parent / f".{self.path.name}.lock"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _acquire(self._lock, self.path)
        except OSError as error:
            raise Refusal(f"{self.path} cannot be used: {error.strerror}; choose another --trainer.directory") from None
        try:
            if not resume and self.path.is_dir() and any(self.path.iterdir()):
                self.moved_to = _free_name(self.path)
                self.path.rename(self.moved_to)
            self._made = not self.path.exists()
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            self.release()
            raise Refusal(f"{self.path} cannot be used: {error.strerror}; choose another --trainer.directory") from None

    def abandon(self) -> None:
        """Undo everything: nothing was trained."""
        if self._first:
            if self._made:
                shutil.rmtree(self.path, ignore_errors=True)
            if self.moved_to is not None:
                self.moved_to.rename(self.path)
            self.release()
            for parent in self._made_parents:
                parent.rmdir()

    def release(self) -> None:
        """Let others use it."""
        if self._first:
            self._lock.unlink(missing_ok=True)


def _acquire(lock: Path, directory: Path) -> None:
    """Write this process into the lock file, unless a living one stands there. A dead one's entry is taken over."""
    while True:
        with open(lock, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held only while reading and writing the entry
            try:
                if os.stat(lock).st_ino != os.fstat(file.fileno()).st_ino:
                    continue  # its owner removed it meanwhile
            except FileNotFoundError:
                continue
            file.seek(0)
            pid, host, number = [*file.read().split(), "", "", ""][:3]
            over = was_requeued() and number != "" and number == job()  # an earlier turn of this very job
            if pid and (_alive(int(pid)) if host == socket.gethostname() else not over):
                where = "" if host == socket.gethostname() else f" on {host}"
                raise Refusal(
                    f"{directory} is in use by pid {pid}{where}; choose another --trainer.directory "
                    f"(if that is no run of yours any more, remove {lock})"
                )
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()} {job() or ''}")
            return


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _free_name(path: Path) -> Path:
    number = 1
    while (found := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return found


def find_checkpoint(name: str, directory: str | None) -> Path:
    """The file that ``--ckpt_path`` means: ``last`` or ``best`` of a run's directory, or a path.

    Raises:
        Refusal: there is none.
    """
    if name not in ("last", "best"):
        path = Path(name)
        if "://" not in name and not path.is_file():
            good = newest_good(path.parent) if path.parent.is_dir() else None
            raise Refusal(f"there is no checkpoint {path}" + (f"; there is {good[0]}" if good else ""))
        return path
    if directory is None:
        raise Refusal(
            f"--ckpt_path {name} of which run? Add its --config FILE or --trainer.directory DIR, or give a path"
        )
    folder = Path(directory) / CHECKPOINTS
    if name == "last":
        try:
            return resolve_last(folder)
        except CheckpointError as error:
            raise Refusal(str(error)) from None
    if not (folder / "best.ckpt").is_file():
        raise Refusal(f"there is no {folder / 'best.ckpt'}: it is written at the first validation")
    return folder / "best.ckpt"


def run_directory(checkpoint: Path) -> Path:
    """The directory of the run that wrote a checkpoint."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == CHECKPOINTS else folder
