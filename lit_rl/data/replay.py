"""Experience replay: learn from a memory of past transitions."""

import math
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.checkpoint import read_arrays, read_header, write_arrays
from lit_rl.data.experience import Experience, Round
from lit_rl.data.memory import ReplayMemory
from lit_rl.data.priority import Priorities, Prioritized
from lit_rl.data.source import Source
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy
from lit_rl.policies.uniform import UniformPolicy


class Transitions(ABC):
    """Recipe of anything that serves :class:`lit_rl.batch.Transition`: a replay, an offline data set, a model."""

    @abstractmethod
    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Environment steps of one process in an epoch."""

    @abstractmethod
    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> Experience:
        """Open what the recipe describes."""


@dataclass(frozen=True)
class Replay(Transitions):
    """Recipe of a replay memory that the acting policy keeps filling.

    Images that :class:`lit_rl.envs.wrappers.FrameStack`, as the environment's last wrapper, stacks are kept once each.

    Args:
        capacity: transitions kept, over all environments of one process.
        batch_size: B, rows of one update.
        replay_ratio: updates per environment step, whatever the number of environments.
        warmup: environment steps of uniformly random actions before the first update.
        steps_per_round: environment steps between two visits of the learner, during which the policy is
            frozen; by default as few as one update needs. A longer round does all its updates at its end.
        n_step: rewards summed before bootstrapping.
        prioritized: sample by TD error instead of uniformly.
        storage: in ``memory``, or in a memory-mapped temporary file (``memmap``).
        steps_per_epoch: environment steps (of one process) in an epoch, rounded up to whole rounds.
        steps_per_batch: environment steps handed to the trainer at once; bookkeeping, without influence on the result.
        workers: processes that collect ahead, each with its share of the environments, one round of lag;
            0 collects in this process, without lag.
        act_device: ``cpu`` acts with a copy of the policy there while the learner is on an accelerator.
    """

    capacity: int = 100_000
    batch_size: int = 256
    replay_ratio: float = 1.0
    warmup: int = 1_000
    steps_per_round: int | None = None
    n_step: int = 1
    prioritized: Prioritized | None = None
    storage: Literal["memory", "memmap"] = "memory"
    steps_per_epoch: int = 1_000
    steps_per_batch: int = 100
    workers: int = 0
    act_device: Literal["same", "cpu"] = "same"

    def __post_init__(self) -> None:
        refuse_below(self, 1, "capacity", "batch_size", "n_step")
        refuse_below(self, 1, "steps_per_round", "steps_per_epoch", "steps_per_batch")
        if not self.replay_ratio > 0:
            raise ValueError(f"Replay.replay_ratio is {self.replay_ratio}; it must be positive (updates per env step)")
        refuse_below(self, 0, "warmup", "workers")
        if self.capacity < self.warmup:
            raise ValueError(f"Replay.capacity {self.capacity} is smaller than the warm-up of {self.warmup} steps")

    def steps_per_env(self, num_envs: int) -> int:
        """T, steps of each environment in a round."""
        wanted = self.steps_per_round or 1 / self.replay_ratio
        return max(1, math.ceil(wanted / num_envs))

    def rounds_per_epoch(self, num_envs: int) -> int:
        """Rounds in an epoch."""
        return -(-self.steps_per_epoch // (self.steps_per_env(num_envs) * num_envs))

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """See :meth:`Transitions.env_steps_per_epoch`."""
        return self.rounds_per_epoch(num_envs) * self.steps_per_env(num_envs) * num_envs

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "ReplayExperience":
        """Open the environments and an empty memory."""
        return ReplayExperience(self, env, policy, gamma, seed, rank)


class ReplayExperience(Experience):
    """One round is some steps of every environment, then Transitions [K, B] for the K updates they earn."""

    def __init__(self, recipe: Replay, env: Env, policy: Policy, gamma: float, seed: int, rank: int) -> None:
        steps = recipe.steps_per_env(env.num_envs)
        self._round_steps = steps * env.num_envs
        super().__init__(recipe.rounds_per_epoch(env.num_envs), max(1, recipe.steps_per_batch // self._round_steps))
        self.recipe = recipe
        self.rng = np.random.default_rng([seed, rank, 1])
        spaces = (env.observation_space, env.action_space)
        with tempfile.TemporaryDirectory(prefix="replay-") as scratch:  # the file lives on nameless: no kill leaves it
            file = Path(scratch) / "rows" if recipe.storage == "memmap" else None
            self.memory = ReplayMemory(recipe.capacity, env.num_envs, *spaces, gamma, recipe.n_step, file, env.frames)
        self.priorities = None if recipe.prioritized is None else Priorities(recipe.prioritized, self.memory)
        warmup_policy = UniformPolicy(env.action_space)
        self.source = Source(env, policy, seed, rank, steps, recipe.workers, recipe.act_device, warmup_policy)
        self._policy = policy
        self._collected = 0  # env steps of this process

    def next_round(self) -> Round:
        """Collect, store, and sample for as many updates as the steps have earned: none during warm-up."""
        warming_up = self._collected < self.recipe.warmup
        rows = self.memory.add(self.source.collect(opening=warming_up))
        if self.priorities is not None:
            self.priorities.add(rows)
        before = self._updates_earned()
        self._collected += self._round_steps
        return Round(self.sample(self._updates_earned() - before), self._round_steps)

    def _updates_earned(self) -> int:
        """By the steps beyond the warm-up, whatever rounds they came in; the small term undoes rounding (10 · 0.1)."""
        return int(max(0, self._collected - self.recipe.warmup) * self.recipe.replay_ratio + 1e-6)

    def sample(self, updates: int) -> Any:
        """Transitions [K, B]."""
        return self.memory.read(*self.draw(updates))

    def draw(self, updates: int) -> tuple[np.ndarray, Tensor | None]:
        """Rows [K, B], and their importance weights where they were not drawn uniformly."""
        shape = (updates, self.recipe.batch_size)
        if self.priorities is None or updates == 0:
            return self.memory.uniform(self.rng, shape), None
        return self.priorities.sample(self.rng, shape, int(self._policy.env_steps))

    def learnt(self, index: Tensor, td_error: Tensor) -> None:
        """See :meth:`Experience.learnt`."""
        if self.priorities is not None:
            self.priorities.update(index, td_error)

    def statistics(self) -> dict[str, float]:
        """Also the fill of the memory."""
        return {**super().statistics(), "replay_size": float(len(self.memory))}

    def snapshot(self) -> dict[str, Any]:
        """See :meth:`Experience.snapshot`."""
        return {
            **super().snapshot(),
            "rng": self.rng.bit_generator.state,
            "collected": self._collected,
            "priorities": None if self.priorities is None else self.priorities.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`Experience.restore`."""
        super().restore(state)
        self.rng.bit_generator.state = state["rng"]
        self._collected = state["collected"]
        self.memory.cut(self.source.lost())
        if self.priorities is not None:
            self.priorities.restore(state["priorities"])

    def save(self, folder: Path) -> bool:
        """Stream the memory's rows into ``folder``."""
        write_arrays(folder, self.memory.arrays(), self.memory.header())
        return True

    def load(self, folder: Path) -> None:
        """Read the memory's rows back, into their places: no second copy of them is ever held."""
        header = read_header(folder)
        self.memory.restore(header, read_arrays(folder, {"rows": self.memory.places(header)})[0])
