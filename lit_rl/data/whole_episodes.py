"""Whole episodes from fresh starts, for estimators that are sums over a trajectory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from lit_rl.batch import Rollout, Trajectories, map_tensors
from lit_rl.bounds import refuse_below
from lit_rl.collective import all_values
from lit_rl.data.arrays import take, tensors
from lit_rl.data.experience import Experience, Round
from lit_rl.data.source import Source
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy


@dataclass(frozen=True)
class WholeEpisodes:
    """Recipe of whole on-policy episodes.

    Every environment plays as many, whatever their length, and none goes on into the next round: the batch is a
    fair sample of trajectories of one policy. Steps that fast environments take while slow ones finish are thrown
    away, and they count.

    Args:
        episodes_per_env: of each environment in one round; M = this · N.
        window: rounds whose episodes are handed out together, the newest last; 1 is on-policy.
        steps_per_epoch: environment steps (of one process) in an epoch; it ends with the first round that reaches them,
            and the next one is the shorter for it.
        steps_per_batch: environment steps handed to the trainer at once; bookkeeping, without influence on the result.
        act_device: ``cpu`` acts with a copy of the policy there while the learner is on an accelerator.
    """

    episodes_per_env: int = 4
    window: int = 1
    steps_per_epoch: int = 10_000
    steps_per_batch: int = 1_000
    act_device: Literal["same", "cpu"] = "same"

    def __post_init__(self) -> None:
        refuse_below(self, 1, "episodes_per_env", "window", "steps_per_epoch", "steps_per_batch")

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Environment steps of one process in an epoch, but for the rest of its last round."""
        return self.steps_per_epoch

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "WholeEpisodeData":
        """Open the environments; ``gamma`` is not needed here."""
        return WholeEpisodeData(self, env, policy, seed, rank)


class WholeEpisodeData(Experience):
    """One round is :class:`Trajectories` [T, M]. Its length is known afterwards only, so epochs count env steps."""

    def __init__(self, recipe: WholeEpisodes, env: Env, policy: Policy, seed: int, rank: int) -> None:
        super().__init__(recipe.steps_per_epoch, recipe.steps_per_batch)
        self.source = Source(env, policy, seed, rank, 1, 0, recipe.act_device)
        self.recipe = recipe
        self.due, self.taken = 0, 0  # env steps that the batches so far ask for, and that the rounds so far took
        self.recent: list[Trajectories] = []

    def rounds(self, batch_idx: int) -> Iterator[Round]:
        """As many as it takes to reach the batch's share of the epoch; perhaps none, after a long one."""
        self.due += self.rounds_in(batch_idx)
        while self.taken < self.due:
            round_ = self.next_round()
            self.taken += round_.env_steps
            yield round_

    def next_round(self) -> Round:
        """Play; with a window, hand out earlier rounds as well."""
        rollout = self.source.collect_episodes(self.recipe.episodes_per_env)
        self.recent = [*self.recent, tensors(trajectories(rollout))][-self.recipe.window :]
        return Round(side_by_side(self.recent), _most_of_all_ranks(int(np.size(rollout.reward))))

    def snapshot(self) -> dict[str, Any]:
        """See :meth:`Experience.snapshot`."""
        recent = [episodes._asdict() for episodes in self.recent] if self.recipe.window > 1 else []
        return {**super().snapshot(), "due": self.due, "taken": self.taken, "recent": recent}

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`Experience.restore`."""
        super().restore(state)
        self.due, self.taken = state["due"], state["taken"]
        self.recent = [Trajectories(**episodes) for episodes in state["recent"]]


def trajectories(rollout: Rollout) -> Trajectories:
    """The episodes that end in a rollout [T, N] of arrays, which all begin in it too, one per column."""
    steps, envs = np.shape(rollout.reward)
    end, env = np.divmod(np.asarray(rollout.final_index), envs)
    start = end - rollout.episode_step[end, env]
    if (start < 0).any():
        raise ValueError("an episode of the rollout began before it; collect whole episodes from fresh starts")
    length = end - start + 1
    step = np.arange(length.max())[:, None]  # [T, 1]
    row = np.minimum(start + step, end) * envs + env  # padded by its last step
    flat = {
        name: take(_flatten(getattr(rollout, name), steps), row) for name in ("obs", "action", "log_prob", "reward")
    }
    mask = step < length
    return Trajectories(**flat | {"reward": flat["reward"] * mask}, mask=mask)


def side_by_side(batches: list[Trajectories]) -> Trajectories:
    """Batches [Tᵢ, Mᵢ] as one [max Tᵢ, Σ Mᵢ]: the shorter are padded."""
    if len(batches) == 1:
        return batches[0]
    steps = max(len(batch.mask) for batch in batches)

    def pad(tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, tensor.new_zeros(steps - len(tensor), *tensor.shape[1:])])

    padded = [map_tensors(pad, batch) for batch in batches]
    fields = {name: _join([getattr(batch, name) for batch in padded]) for name in Trajectories._fields}
    return Trajectories(**fields)


def _join(pieces: list[Any]) -> Any:
    if isinstance(pieces[0], dict):
        return {key: torch.cat([piece[key] for piece in pieces], dim=1) for key in pieces[0]}
    return torch.cat(pieces, dim=1)


def _flatten(tree: Any, steps: int) -> Any:
    """[T or T + 1, N, ...] → [T · N, ...]."""
    if isinstance(tree, dict):
        return {key: _flatten(array, steps) for key, array in tree.items()}
    return tree[:steps].reshape(-1, *tree.shape[2:])


def _most_of_all_ranks(env_steps: int) -> int:
    """Ranks learn together and wait for the longest round: all of them count that one, and end an epoch together."""
    return max(all_values(env_steps))
