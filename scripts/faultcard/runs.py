"""Small runs to deal faults to, and what two of them must have in common to be equal."""

import math
import os
from pathlib import Path
from typing import Any

WORDS = {
    "PPO": ["--model=PPO", "--model.env=CartPole-v1", "--model.data.steps=8", "--model.data.steps_per_epoch=160",
            "--model.net.body.hidden=[8]", "--model.epochs=2"],
    "DQN": ["--model=DQN", "--model.env=CartPole-v1", "--model.data.capacity=300", "--model.data.warmup=40"],
    "SAC": ["--model=SAC", "--model.env=Pendulum-v1", "--model.data.capacity=300", "--model.data.warmup=40"],
}  # fmt: skip
"""Command lines of runs with ten batches of 16 steps an epoch."""
SMALL = ["--model.data.batch_size=8", "--model.data.replay_ratio=0.25", "--model.data.steps_per_epoch=160",
         "--model.data.steps_per_batch=16", "--model.net.hidden=[8]"]  # fmt: skip
SHARED = ["--model.env.num_envs=2", "--model.evaluation.count=1", "--model.evaluation.max_steps=10",
          "--trainer.enable_progress_bar=false"]  # fmt: skip


def words(name: str, directory: Path, epochs: int, *more: str) -> list[str]:
    """A command line of ``lit-rl fit``."""
    small = [] if name == "PPO" else SMALL
    run = [f"--trainer.directory={directory}", f"--trainer.max_epochs={epochs}"]
    return ["fit", *WORDS[name], *small, *SHARED, *run, *more]


def command(arguments: list[str]) -> int:
    """``lit-rl``, as the shell would call it."""
    import torch

    from lit_rl.cli import main

    torch.set_num_threads(1)
    return main(arguments)


def tiny_agent(name: str, **changes: Any) -> Any:
    """An agent that learns within a dozen steps, of any algorithm."""
    from tests.tiny import tiny

    return tiny(name, **changes)


def fit(
    agent: Any, directory: Path, epochs: int, path: Path | None = None, *callbacks: Any, seed: int = 0, **options: Any
) -> Any:
    """Train as in Python, from ``path`` if there is one. Returns the trainer."""
    import torch
    from lightning.pytorch import seed_everything

    import lit_rl
    from lit_rl.cli.parsing import quiet

    quiet()
    torch.set_num_threads(1)
    seed_everything(seed if path is None else 99, verbose=False)  # what a resumed run begins with must not matter
    settings = {"logger": False, "enable_progress_bar": False, "limit_val_batches": 0} | options
    trainer = lit_rl.Trainer(str(directory), epochs, callbacks=list(callbacks), **settings)
    trainer.fit(agent, ckpt_path=None if path is None else str(path))
    return trainer


def go_on(path: Path, directory: Path, epochs: int, *callbacks: Any) -> Any:
    """Resume what a checkpoint describes, elsewhere, with the evaluations of a command line's run."""
    from lit_rl.checkpoint import load_checkpoint
    from lit_rl.cli.saved import saved_agent

    return fit(saved_agent(load_checkpoint(path)), directory, epochs, path, *callbacks, limit_val_batches=1.0)


def last(directory: Path) -> Path:
    """Where a run keeps what it goes on from."""
    return directory / "checkpoints" / "last.ckpt"


def state(path: Path) -> dict[str, Any]:
    """All that decides how a run goes on, verified as it is read, without clock times and the run's own name."""
    from lit_rl.checkpoint import load_checkpoint, read_arrays

    loaded = load_checkpoint(path)
    ours = loaded["lit_rl"]
    replays = []
    for rank in range(ours["world_size"] if ours["replay"] else 0):
        arrays, header = read_arrays(path.parent / ours["replay"] / f"rank{rank}")
        replays.append({"header": header, "arrays": {name: array.tobytes() for name, array in arrays.items()}})
    ranks = [rank | {"record": rank["record"]["means"]} for rank in ours["ranks"]]
    return {
        "weights": loaded["state_dict"],
        "optimizer": loaded["optimizer_states"],
        "counters": (ours["env_steps"], ours["updates"], ours["seed"]),
        "ranks": ranks,
        "replays": replays,
    }


def unequal(one: Path, other: Path) -> str | None:
    """What differs between two checkpoints; None where they are equal bit for bit."""
    from tests.tiny import differences

    found = differences(state(one), state(other))
    return f"differs in {', '.join(found[:3])}" if found else None


def largest_difference(one: Path, other: Path) -> float:
    """Between the weights of two checkpoints."""
    a, b = state(one)["weights"], state(other)["weights"]
    gaps = [float((a[name].double() - b[name].double()).abs().max()) if a[name].numel() else 0.0 for name in a]
    return max(gaps, default=math.nan)


def algorithms(few: bool) -> list[str]:
    """All that are registered, or one of each kind of data."""
    import lit_rl

    return ["DQN", "PPO", "SAC"] if few else sorted(lit_rl.AGENTS)


def megabytes(folder: Path) -> float:
    """Of all files below a folder."""
    sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return sum(sizes) / 1e6


def become_nobody() -> None:
    """Root ignores the permissions that others meet."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
