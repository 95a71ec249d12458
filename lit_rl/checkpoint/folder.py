"""The folder that checkpoints stand in: which is good, which is newest, what nobody needs any more."""

import re
import shutil
from pathlib import Path

from lit_rl.checkpoint.archive import read_manifest, verify
from lit_rl.checkpoint.sealed import CheckpointError, Damaged, remove_stale

REPLAY = re.compile(r"replay-\d+(-[0-9a-f]{8})?")  # names of the folders that hold replay contents


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
            verify(file)
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
        raise CheckpointError(f"nothing to resume in {directory}: {found[-1]} is damaged. {way_out(found[-1])}")
    return found[-1]


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


def clear_litter(directory: str | Path) -> None:
    """Remove the temporaries that dead processes left here and in the folders of replays, before a run begins."""
    directory = Path(directory)
    for folder in (directory, *directory.glob("replay-*")):
        remove_stale(folder)


def way_out(path: Path) -> str:
    """What to say where ``path`` cannot be used: the newest good file beside it, and how to resume with that."""
    good = _newest_readable(path, other_than=path)
    if good is None:
        return f"No good checkpoint is in {path.parent}."
    steps = "" if good[1] is None else f" (env step {good[1]:,})"
    return f"Newest good: {good[0]}{steps}. Resume with --ckpt_path {good[0]}"


def last_good(path: Path) -> str:
    """What to say where ``path`` could not be written: the newest good file beside it."""
    good = _newest_readable(path)
    if good is None:
        return "no good checkpoint yet"
    return f"last good: {good[0]}" + ("" if good[1] is None else f" (env step {good[1]:,})")


def _newest_readable(path: Path, other_than: Path | None = None) -> tuple[Path, int | None] | None:
    """A folder that cannot be read must not take the place of what is being reported."""
    try:
        return newest_good(path.parent, other_than)
    except OSError:
        return None
