"""Checkpoints being written: kills, full disks, directories that refuse."""

import itertools
import random
import signal
import time
from pathlib import Path

from scripts.faultcard.harness import Figure, row
from scripts.faultcard.process import Child, wait_for


def _kill_while_saving(folder: Path, kills: int, megabytes: int, seed: int) -> Figure:
    """Save for ever; kill -9; the file must be the last or the last but one that was completed."""
    import torch

    from lit_rl.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

    path, done, chance = folder / "last.ckpt", folder / "done", random.Random(seed)

    def save_for_ever() -> None:
        weights = torch.empty(megabytes * 250_000)
        for steps in itertools.count(1):
            save_checkpoint({"weights": weights.fill_(steps), "lit_rl": {"env_steps": steps, "replay": None}}, path)
            done.write_text(f"{steps}.")

    def outcome() -> str | None:
        done.unlink(missing_ok=True)
        child = Child(save_for_ever, folder / "log")
        wait_for(lambda: done.exists() and done.read_text().endswith("."), child=child)
        time.sleep(chance.uniform(0, 0.8))
        child.send(signal.SIGKILL)
        child.wait()
        completed = int(done.read_text().rstrip(".") or 0)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            return str(error)
        steps = loaded["lit_rl"]["env_steps"]
        if not (loaded["weights"] == steps).all() or (completed and steps - completed not in (0, 1)):
            return f"holds step {steps} where {completed} were completed"
        return None

    outcomes = [outcome() for _ in range(kills)]
    destroyed = sum(text is not None for text in outcomes)
    return Figure.of(outcomes, f"states of {megabytes} MB", **{"lost checkpoints": destroyed})


@row(1, "kill -9 while a checkpoint is written, same file system", "destroyed / kills", "0", kind="fault", bad=True,
     quick=8, full=100)  # fmt: skip
def kill_same_file_system(folder: Path, kills: int) -> Figure:
    return _kill_while_saving(folder, kills, 100 if kills > 20 else 30, seed=1)
