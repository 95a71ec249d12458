"""Whole greedy episodes, for evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lit_rl.bounds import refuse_below
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
    discounted: Tensor  # [E], Σ γᵗ r_t
    final_obs: Any  # [E, ...], the true last observation
    final_discount: Tensor  # [E], γᵀ(1 − terminated): what a value of the last observation weighs
    final_state: Tensor  # [E, S], the policy's memory before the last observation

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
        refuse_below(self, 1, "count", "max_steps")

    def open(self, env: Env, policy: Policy, gamma: float = 1.0) -> "EpisodeData":
        """Nothing is opened before the first episode; ``gamma`` is that of the discounted returns."""
        return EpisodeData(self, env, policy, gamma)


class EpisodeData(IterableDataset):
    """One batch: all episodes, played side by side in environments of their own."""

    def __init__(self, recipe: Episodes, env: Env, policy: Policy, gamma: float = 1.0) -> None:
        self.recipe, self.env, self.policy, self.gamma = recipe, env, policy, gamma

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
            total, steps, discounted = np.zeros(n), np.zeros(n, np.int64), np.zeros(n)
            returns, lengths = np.full(count, np.nan), np.zeros(count, np.int64)
            discounted_returns, final_discount = np.zeros(count), np.zeros(count)
            final_state = np.zeros((count, policy.state_size), np.float32)
            first_obs, final_obs = (empty(envs.observation_space, count) for _ in range(2))
            assign(first_obs, slice(0, n), obs)
            clip = clipping(envs.action_space)
            while (episode < count).any():
                act = policy.act(obs, state, rng, explore=self.recipe.explore)
                step = envs.step(clip(act.action))
                obs, state = step.obs, np.array(act.state)
                total += step.reward
                discounted += self.gamma**steps * step.reward
                steps += 1
                over = step.terminated | step.truncated | (steps >= self.recipe.max_steps)
                ends = np.flatnonzero(step.terminated | step.truncated)
                for i in np.flatnonzero(over & (episode < count)):
                    k, ended = episode[i], i in ends
                    returns[k], lengths[k], discounted_returns[k] = total[i], steps[i], discounted[i]
                    final_state[k] = state[i]
                    final_discount[k] = 0.0 if step.terminated[i] else self.gamma ** float(steps[i])
                    assign(final_obs, k, take(step.final_obs, ends.searchsorted(i)) if ended else take(obs, i))
                    episode[i] = episode[i] + n if ended else count  # a cut episode's env plays no further one
                    if episode[i] < count:
                        assign(first_obs, episode[i], take(obs, i))
                state[over] = 0.0
                total[over], steps[over], discounted[over] = 0.0, 0, 0.0
        finally:
            envs.close()
        played = np.flatnonzero(~np.isnan(returns))
        return EpisodeResults(
            torch.from_numpy(returns[played]).float(),
            torch.from_numpy(lengths[played]),
            tensors(take(first_obs, played)),
            torch.from_numpy(discounted_returns[played]).float(),
            tensors(take(final_obs, played)),
            torch.from_numpy(final_discount[played]).float(),
            torch.from_numpy(final_state[played]),
        )
