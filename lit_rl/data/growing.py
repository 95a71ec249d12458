"""A growing batch: collect for a while, then learn from all that was ever collected."""

from dataclasses import dataclass

from lit_rl.bounds import refuse_below
from lit_rl.data.experience import Round
from lit_rl.data.replay import Replay, ReplayExperience
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy


@dataclass(frozen=True)
class GrowingBatch:
    """Recipe of transitions that are collected N at a time and all learnt from each time.

    Lange, Gabel & Riedmiller 2012, "Batch reinforcement learning", 2.3. With ``steps_per_round`` as long as the run
    there is one batch, of the policy that the agent begins with.

    Args:
        capacity: transitions kept, over all environments of one process; beyond, the oldest are forgotten.
        steps_per_round: N, environment steps between two visits of the learner, rounded up to whole ones of all
            environments.
        steps_per_epoch: environment steps (of one process) in an epoch, rounded up to whole rounds.
        steps_per_batch: environment steps handed to the trainer at once; bookkeeping, without influence on the result.
    """

    capacity: int = 100_000
    steps_per_round: int = 1_000
    steps_per_epoch: int = 1_000
    steps_per_batch: int = 1_000

    def __post_init__(self) -> None:
        refuse_below(self, 1, "capacity", "steps_per_round", "steps_per_epoch", "steps_per_batch")

    def replay(self) -> Replay:
        """The memory behind it."""
        return Replay(
            capacity=self.capacity,
            warmup=0,
            steps_per_round=self.steps_per_round,
            steps_per_epoch=self.steps_per_epoch,
            steps_per_batch=self.steps_per_batch,
        )

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Environment steps of one process in an epoch."""
        return self.replay().env_steps_per_epoch(num_envs)

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "GrowingBatchExperience":
        """Open the environments and an empty memory."""
        return GrowingBatchExperience(self.replay(), env, policy, gamma, seed, rank)


class GrowingBatchExperience(ReplayExperience):
    """One round is N steps, then the Transitions [B] of all stored ones."""

    def next_round(self) -> Round:
        """Collect, store, read everything."""
        self.memory.add(self.source.collect())
        self._collected += self._round_steps
        return Round(self.memory.read(self.memory.stored()), self._round_steps)
