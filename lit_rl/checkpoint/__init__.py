"""Checkpoints that no kill, full disk or flipped bit destroys, and that run no code when read.

``sealed`` knows files, ``plain`` what may stand in them, ``files`` checkpoints, ``arrays`` replay contents.
"""

from lit_rl.checkpoint.arrays import read_arrays, write_arrays
from lit_rl.checkpoint.files import (
    AtomicCheckpointIO,
    copy_checkpoint,
    load_checkpoint,
    newest_good,
    read_manifest,
    remove_orphans,
    resolve_last,
    save_checkpoint,
)
from lit_rl.checkpoint.plain import check_plain
from lit_rl.checkpoint.sealed import CheckpointError, check_writable

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointError",
    "check_plain",
    "check_writable",
    "copy_checkpoint",
    "load_checkpoint",
    "newest_good",
    "read_arrays",
    "read_manifest",
    "remove_orphans",
    "resolve_last",
    "save_checkpoint",
    "write_arrays",
]
