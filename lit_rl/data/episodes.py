"""Whole greedy episodes, for evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lit_rl.data.arrays import assign, empty, take, tensors
from lit_rl.envs.recipe import Env
from lit_rl.envs.spaces import clipping
from lit_rl.policies.policy import Policy

FIRST_INDEX = 1_000_000  # of evaluation's environments: their episodes are none of training's, whatever the seeds


class EpisodeResults(NamedTuple):
    """What E episodes came to."""

    returns: Tensor  # [E], undiscounted
    lengths: Tensor  # [E] int
    first_obs: Any  # [E, ...], where each began

    def summary(self) -> dict[str, Tensor]:
        """Scalars worth plotting."""
        return {
            "return": self.returns.mean(),
            "return_std": self.returns.std(correction=0),
            "return_min": self.returns.min(),
            "return_max": self.returns.max(),
            "length": self.lengths.float().mean(),
        }


@dataclass(frozen=True)
class Episodes:
    """Recipe of an evaluation.

    Args:
        count: episodes.
        seed: of their starts: the same ones every time, apart from those seen in training.
        max_steps: a cap for environments that may never end; an episode cut there counts with its return so far,
            and its environment plays no further one.
        explore: act as in training instead of greedily.
    """

    count: int = 20
    seed: int = 10_000
    max_steps: int = 100_000
    explore: bool = False

    def __post_init__(self) -> None:
        if self.count < 1 or self.max_steps < 1:
            raise ValueError(f"Episodes needs count ≥ 1 and max_steps ≥ 1; got {self}")

    def open(self, env: Env, policy: Policy) -> "EpisodeData":
        """Nothing is opened before the first episode."""
        return EpisodeData(self, env, policy)


class EpisodeData(IterableDataset):
    """One batch: all episodes, played side by side in environments of their own."""

    def __init__(self, recipe: Episodes, env: Env, policy: Policy) -> None:
        self.recipe, self.env, self.policy = recipe, env, policy

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[EpisodeResults]:
        yield self.play()

    def play(self) -> EpisodeResults:
        """Play ``count`` episodes; env i plays the episodes i, i + n, i + 2n … of a run with the recipe's seed."""
        count = self.recipe.count
        envs = self.env.open(num_envs=min(count, 10), seed=self.recipe.seed, first_index=FIRST_INDEX)
        policy, n = self.policy, envs.num_envs
        rng = np.random.default_rng(self.recipe.seed)
        try:
            policy.refresh()
            obs = envs.reset()
            state = np.zeros((n, policy.state_size), np.float32)
            episode = np.arange(n)  # that each env is playing
            total, steps = np.zeros(n), np.zeros(n, np.int64)
            returns, lengths = np.full(count, np.nan), np.zeros(count, np.int64)
            first_obs = empty(envs.observation_space, count)
            assign(first_obs, slice(0, n), obs)
            clip = clipping(envs.action_space)
            while (episode < count).any():
                act = policy.act(obs, state, rng, explore=self.recipe.explore)
                step = envs.step(clip(act.action))
                obs, state = step.obs, np.array(act.state)
                total += step.reward
                steps += 1
                over = step.terminated | step.truncated | (steps >= self.recipe.max_steps)
                for i in np.flatnonzero(over & (episode < count)):
                    returns[episode[i]], lengths[episode[i]] = total[i], steps[i]
                    ended = step.terminated[i] | step.truncated[i]
                    episode[i] = episode[i] + n if ended else count  # a cut episode's env plays no further one
                    if episode[i] < count:
                        assign(first_obs, episode[i], take(obs, i))
                state[over] = 0.0
                total[over], steps[over] = 0.0, 0
        finally:
            envs.close()
        played = np.flatnonzero(~np.isnan(returns))
        return EpisodeResults(
            torch.from_numpy(returns[played]).float(),
            torch.from_numpy(lengths[played]),
            tensors(take(first_obs, played)),
        )
