"""Policies and agents out of checkpoints, without opening an environment."""

from pathlib import Path
from typing import Any

from lit_rl.agent import Agent
from lit_rl.checkpoint import load_checkpoint
from lit_rl.hyperparameters import find_class, from_plain


def load(path: str | Path) -> Agent:
    """The agent of a checkpoint: its class, its arguments, its weights. Its ``policy`` acts.

    Raises:
        CheckpointError: the file is damaged, foreign, or remote.
        ValueError: it names a class outside the allowed packages, or no agent.
    """
    return build(load_checkpoint(path))


def build(checkpoint: dict[str, Any]) -> Agent:
    """The agent of a checkpoint that has been read already."""
    arguments = dict(checkpoint["hyper_parameters"])
    kind = find_class(arguments.pop("_class_path"))
    if not issubclass(kind, Agent):
        raise ValueError(f"{kind.__module__}.{kind.__name__} is no lit_rl agent")
    agent = kind(**{name: from_plain(value) for name, value in arguments.items()})
    agent.load_state_dict(checkpoint["state_dict"])
    agent.policy.refresh()
    return agent.eval()
