"""Checkpoints that no kill, full disk or flipped bit destroys, and that run no code when read.

``sealed`` knows files, ``plain`` what may stand in them, ``archive`` and ``files`` checkpoints, ``folder`` which of
them are there, ``arrays`` replay contents.
"""

from lit_rl.checkpoint.archive import read_manifest
from lit_rl.checkpoint.arrays import check_arrays, read_arrays, read_header, write_arrays
from lit_rl.checkpoint.files import AtomicCheckpointIO, copy_checkpoint, load_checkpoint, save_checkpoint
from lit_rl.checkpoint.folder import (
    REPLAY,
    clear_litter,
    is_good,
    last_good,
    newest_good,
    remove_orphans,
    resolve_last,
    way_out,
)
from lit_rl.checkpoint.plain import check_plain
from lit_rl.checkpoint.sealed import CheckpointError, check_writable

__all__ = [
    "REPLAY",
    "AtomicCheckpointIO",
    "CheckpointError",
    "check_arrays",
    "check_plain",
    "check_writable",
    "clear_litter",
    "copy_checkpoint",
    "is_good",
    "last_good",
    "load_checkpoint",
    "newest_good",
    "read_arrays",
    "read_header",
    "read_manifest",
    "remove_orphans",
    "resolve_last",
    "save_checkpoint",
    "way_out",
    "write_arrays",
]
