"""Fresh rollouts, and beside each of them transitions from a memory of the rollouts before it."""

from dataclasses import dataclass
from typing import NamedTuple

from lit_rl.batch import Rollout, Transition
from lit_rl.bounds import refuse_below
from lit_rl.data.collector import as_tensors
from lit_rl.data.experience import Round
from lit_rl.data.replay import Replay, ReplayExperience
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy


class Rehearsed(NamedTuple):
    """What one round brings."""

    rollout: Rollout  # [T, N], of the policy of the moment
    past: Transition  # [K, B], none of them from this rollout; K = 0 with the first one


@dataclass(frozen=True)
class Rehearsal:
    """Recipe of on-policy experience with a memory.

    Args:
        steps: T, steps of each environment in one rollout.
        capacity: transitions remembered, over all environments of one process.
        batch_size: B, remembered rows of one update.
        replay_ratio: updates from the memory per environment step.
        steps_per_epoch: environment steps (of one process) in an epoch, rounded up to whole rollouts.
        rollouts_per_batch: rollouts handed to the trainer at once; bookkeeping, without influence on the result.
    """

    steps: int = 32
    capacity: int = 100_000
    batch_size: int = 128
    replay_ratio: float = 0.25
    steps_per_epoch: int = 10_000
    rollouts_per_batch: int = 1

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps", "capacity", "batch_size", "steps_per_epoch", "rollouts_per_batch")
        if not self.replay_ratio > 0:
            raise ValueError(f"Rehearsal.replay_ratio is {self.replay_ratio}; it must be positive")

    def replay(self, num_envs: int) -> Replay:
        """The memory behind it."""
        steps = self.steps * num_envs
        return Replay(
            capacity=self.capacity,
            batch_size=self.batch_size,
            replay_ratio=self.replay_ratio,
            warmup=0,
            steps_per_round=steps,
            steps_per_epoch=self.steps_per_epoch,
            steps_per_batch=self.rollouts_per_batch * steps,
        )

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Environment steps of one process in an epoch."""
        return self.replay(num_envs).env_steps_per_epoch(num_envs)

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "RehearsalExperience":
        """Open the environments and an empty memory."""
        return RehearsalExperience(self.replay(env.num_envs), env, policy, gamma, seed, rank)


class RehearsalExperience(ReplayExperience):
    """One round is a rollout [T, N], then the Transitions [K, B] that its steps have earned."""

    def next_round(self) -> Round:
        """Collect, sample what was remembered before, remember."""
        rollout = self.source.collect()
        before = self._updates_earned()
        self._collected += self._round_steps
        earned = self._updates_earned() - before if len(self.memory) else 0
        past = self.sample(earned)
        self.memory.add(rollout)
        return Round(Rehearsed(as_tensors(rollout), past), self._round_steps)
