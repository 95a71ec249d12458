"""Replay of windows: consecutive transitions of one episode, as multi-step targets and memories need them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from lit_rl.batch import Transition
from lit_rl.bounds import refuse_below
from lit_rl.data.replay import Replay, ReplayExperience
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy


class Window(NamedTuple):
    """L consecutive one-step transitions per row [B, L]; each field of ``steps`` has these leading axes."""

    steps: Transition
    valid: Tensor  # [B, L] bool: a window ends with its episode, or at the newest row; beyond, rows repeat


@dataclass(frozen=True)
class WindowReplay(Replay):
    """A replay memory that serves :class:`Window` instead of single transitions, uniformly.

    Args:
        window: L, consecutive transitions in each row of a batch.
    """

    window: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "window")
        if self.n_step != 1 or self.prioritized is not None:
            raise ValueError("WindowReplay serves single steps, sampled uniformly: leave n_step and prioritized alone")

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "WindowExperience":
        """Open the environments and an empty memory."""
        return WindowExperience(self, env, policy, gamma, seed, rank)


class WindowExperience(ReplayExperience):
    """One round is some steps of every environment, then windows [K, B, L] for the K updates they earn."""

    recipe: WindowReplay

    def sample(self, updates: int) -> Any:
        """Windows [K, B, L]."""
        index = self.memory.uniform(self.rng, (updates, self.recipe.batch_size))
        return Window(*self.memory.windows(index, self.recipe.window))
