"""Everything a run needs, beyond weights and optimiser, to go on bit for bit."""

import platform
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import lightning
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn

from lit_rl import __version__
from lit_rl.checkpoint import REPLAY, CheckpointError, way_out
from lit_rl.collective import all_values
from lit_rl.hyperparameters import class_path, to_plain

if TYPE_CHECKING:
    from lit_rl.agent import Agent

FORMAT = 1
"""Of our part of a checkpoint: raised where an older reader would misread it."""


def save_state(agent: "Agent", checkpoint: dict[str, Any]) -> None:
    """Add the agent's state to a checkpoint; a replay's rows go into a folder of their own beside it.

    Runs on every rank, since each has environments, random streams and a replay of its own.
    """
    trainer = agent.trainer
    checkpoint["hyper_parameters"] = {
        "_class_path": class_path(type(agent)),
        **to_plain(agent.arguments()),
    }
    mine = {
        "random": random_state(agent.device),
        "data": agent.experience.snapshot() if agent.has_experience else None,
        "record": agent.metrics.snapshot(),
    }
    ranks = all_values(mine)  # first: here a rank waits until the others have finished earlier saves
    folder = _save_replay(agent) if agent.has_experience else None
    checkpoint["lit_rl"] = {
        "format": FORMAT,
        "version": __version__,
        "algorithm": type(agent).__name__,
        "env": agent.env.id,
        "spaces": agent.env.spaces,
        "env_steps": agent.env_steps,
        "updates": agent.updates,
        "seed": agent.base_seed,
        "world_size": trainer.world_size,
        "ranks": ranks,
        "replay": folder,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of everything that can change a number."""
    packages = {"torch": torch, "lightning": lightning, "gymnasium": gymnasium, "numpy": np}
    found = {name: str(package.__version__) for name, package in packages.items()}
    return {"lit_rl": __version__, "python": platform.python_version(), **found}


def load_state(agent: "Agent", saved: dict[str, Any]) -> None:
    """Bring the freshly opened experience to where the examined checkpoint left it."""
    trainer = agent.trainer
    mine = saved["ranks"][trainer.global_rank]
    if saved["replay"] is not None:
        agent.experience.load(replay_folder(saved["replay"], Path(str(trainer.ckpt_path)), trainer.global_rank))
    agent.experience.restore(mine["data"])
    agent.metrics.restore(mine["record"])


def replay_folder(name: str, checkpoint: Path, rank: int) -> Path:
    """Where the replay of one process lies, beside its checkpoint.

    Raises:
        CheckpointError: it is not there, or the name leads elsewhere.
    """
    if not REPLAY.fullmatch(name):
        raise CheckpointError(f"{checkpoint} names {name!r} as its replay: no name of one. {way_out(checkpoint)}")
    folder = checkpoint.parent / name / f"rank{rank}"
    if not folder.is_dir():
        raise CheckpointError(
            f"the replay of {checkpoint} is missing ({folder}): only the newest checkpoint keeps one; "
            f"resume from last.ckpt"
        )
    return folder


def start_streams(agent: "Agent", saved: dict[str, Any] | None) -> None:
    """Give this process random streams of its own, or those of the checkpoint."""
    if saved is None:
        seed_process(agent.base_seed + agent.trainer.global_rank)
    else:
        restore_random_state(saved["ranks"][agent.trainer.global_rank]["random"], agent.device)


def seed_process(seed: int) -> None:
    """Seed python, numpy and torch for this process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """The global random streams of this process, which learns on ``device``, as tensors and plain Python."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [
            str(name),
            torch.from_numpy(np.array(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Undo everything that drew from the global streams since :func:`random_state`."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    elif (state["cuda"] is not None) != (device.type == "cuda"):
        kinds = ("CPU", "CUDA") if device.type == "cuda" else ("CUDA", "CPU")
        rank_zero_warn(f"the checkpoint is of a learner on {kinds[0]}, this one is on {kinds[1]}: not bit for bit")


def _save_replay(agent: "Agent") -> str | None:
    """Write this rank's replay once per moment, however many checkpoints name it.

    The run is part of the name: another one may have left a replay of as many steps in the same folder.
    """
    name = f"replay-{agent.env_steps}-{agent.run}"
    beside = Path(getattr(agent.trainer, "saving_to", None) or agent.trainer.default_root_dir)
    folder = beside / name / f"rank{agent.trainer.global_rank}"
    if folder.is_dir():
        return name
    return name if agent.experience.save(folder) else None
