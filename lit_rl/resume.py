"""Everything a run needs, beyond weights and optimiser, to go on bit for bit."""

import platform
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import lightning
import numpy as np
import torch

from lit_rl import __version__
from lit_rl.hyperparameters import class_path, to_plain

if TYPE_CHECKING:
    from lit_rl.agent import Agent


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
    ranks = _gather(mine, trainer.world_size)  # first: here a rank waits until the others have finished earlier saves
    folder = _save_replay(agent) if agent.has_experience else None
    checkpoint["lit_rl"] = {
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
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning": lightning.__version__,
            "gymnasium": gymnasium.__version__,
            "numpy": np.__version__,
        },
    }


def load_state(agent: "Agent", saved: dict[str, Any]) -> None:
    """Bring the freshly opened experience to where the checkpoint left it.

    Raises:
        ValueError: the checkpoint is of another number of processes, or a part of it is missing.
    """
    trainer = agent.trainer
    if saved["world_size"] != trainer.world_size:
        raise ValueError(
            f"the checkpoint was written by {saved['world_size']} processes and this run has {trainer.world_size}: "
            f"each has environments and a replay of its own, so resume with the same number"
        )
    state = saved["ranks"][trainer.global_rank]["data"]
    if state is None:
        raise ValueError("the checkpoint holds no state of environments and replay: it was written outside training")
    if saved["replay"] is not None:
        assert trainer.ckpt_path is not None
        folder = Path(trainer.ckpt_path).parent / saved["replay"] / f"rank{trainer.global_rank}"
        if not folder.is_dir():
            raise ValueError(
                f"the replay of {trainer.ckpt_path} is missing ({folder}): only the newest checkpoint keeps one; "
                f"resume from last.ckpt"
            )
        agent.experience.load(folder)
    agent.experience.restore(state)
    agent.metrics.restore(saved["ranks"][trainer.global_rank]["record"])


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


def _gather(mine: dict[str, Any], world_size: int) -> list[dict[str, Any]]:
    if world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def _save_replay(agent: "Agent") -> str | None:
    """Write this rank's replay once per moment, however many checkpoints name it.

    The run is part of the name: another one may have left a replay of as many steps in the same folder.
    """
    name = f"replay-{agent.env_steps}-{agent.run}"
    beside = Path(getattr(agent.trainer, "saving_to", None) or agent.trainer.default_root_dir)
    folder = beside / name / f"rank{agent.trainer.global_rank}"
    if folder.is_dir():
        return name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return name if agent.experience.save(folder) else None
