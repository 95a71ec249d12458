"""Fresh rollouts: everything learnt from was collected by the policy that learns."""

from dataclasses import dataclass
from typing import Literal

from lit_rl.bounds import refuse_below
from lit_rl.data.collector import as_tensors
from lit_rl.data.experience import Experience, Round
from lit_rl.data.source import Source
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy


@dataclass(frozen=True)
class Rollouts:
    """Recipe of on-policy experience.

    Args:
        steps: T, steps of each environment in one rollout.
        steps_per_epoch: environment steps (of one process) in an epoch, rounded up to whole rollouts.
        rollouts_per_batch: rollouts handed to the trainer at once; bookkeeping, without influence on the result.
        workers: processes that collect ahead, each with its share of the environments, one round of lag;
            0 collects in this process, without lag.
        act_device: ``cpu`` acts with a copy of the policy there while the learner is on an accelerator.
    """

    steps: int = 128
    steps_per_epoch: int = 10_000
    rollouts_per_batch: int = 1
    workers: int = 0
    act_device: Literal["same", "cpu"] = "same"

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps", "steps_per_epoch", "rollouts_per_batch")
        refuse_below(self, 0, "workers")

    def rounds_per_epoch(self, num_envs: int) -> int:
        """Rollouts in an epoch."""
        return -(-self.steps_per_epoch // (self.steps * num_envs))

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Environment steps of one process in an epoch."""
        return self.rounds_per_epoch(num_envs) * self.steps * num_envs

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "RolloutExperience":
        """Open the environments; ``gamma`` is not needed here."""
        return RolloutExperience(self, env, policy, seed, rank)


class RolloutExperience(Experience):
    """One round is one rollout [T, N] as tensors."""

    def __init__(self, recipe: Rollouts, env: Env, policy: Policy, seed: int, rank: int) -> None:
        super().__init__(recipe.rounds_per_epoch(env.num_envs), recipe.rollouts_per_batch)
        self.source = Source(env, policy, seed, rank, recipe.steps, recipe.workers, recipe.act_device)
        self._env_steps = recipe.steps * env.num_envs

    def next_round(self) -> Round:
        """Collect T steps in every environment."""
        return Round(as_tensors(self.source.collect()), self._env_steps)
