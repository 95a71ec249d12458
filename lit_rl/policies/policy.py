"""What acts: the one interface between a network or planner and an environment."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn


class Act(NamedTuple):
    """What a policy did for N environments."""

    action: np.ndarray  # [N] ints, or [N, A]
    log_prob: np.ndarray  # [N] float32, of the action under this policy as it explored; 0 where deterministic
    state: np.ndarray  # [N, H] float32, memory after this step; H = 0 without memory


class Policy(nn.Module, ABC):
    """Maps observations to actions. Picklable, exportable, and it knows no data, no trainer.

    Two buffers travel with every policy, shared with worker processes and saved in checkpoints:
    ``env_steps`` [], environment steps seen over all ranks, from which schedules read, and
    ``version`` [], updates the weights have had.
    """

    env_steps: torch.Tensor
    version: torch.Tensor
    state_size: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("env_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """Choose actions for N environments, without gradient and outside autocast.

        Args:
            obs: observations [N, ...] as numpy arrays, or a dict of them; ``"action_mask"`` holds the legal actions.
            state: memory [N, H], zero where an episode begins.
            rng: the only source of randomness.
            explore: sample as in training; otherwise the greedy action, which draws nothing from ``rng``.
        """

    def count(self, env_steps: int = 0, updates: int = 0) -> None:
        """Raise the two counters."""
        if env_steps:
            _raise(self.env_steps, env_steps)
        if updates:
            _raise(self.version, updates)

    def begin_at(self, environment: int) -> None:
        """Told once to a worker's copy: which of the environments of its rank is the first that it acts in."""

    def refresh(self) -> None:
        """Called before each round of collecting: re-read schedules and rebuild views of the weights."""


def _raise(counter: torch.Tensor, by: int) -> None:
    """In its place; on the CPU through numpy, where torch's ``add_`` costs as much as a layer."""
    if counter.is_cpu:
        counter.numpy()[()] += by
    else:
        counter.add_(by)
