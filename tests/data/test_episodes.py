"""Evaluation: whole episodes, the same starts every time."""

from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.data.episodes import EpisodeResults, Episodes
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Act, Policy
from lit_rl.policies.uniform import UniformPolicy
from tests.data.test_collector import Constant
from tests.envs.scripted import register

register()


def play(count: int, script: Any = ((3, True, False),), policy: Policy | None = None, **options: Any) -> EpisodeResults:
    env = Env("Scripted-v0", kwargs={"script": script}).with_spaces()
    (results,) = list(Episodes(count, **options).open(env, policy or Constant()))
    return results


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 25, 30])
def test_exactly_as_many_episodes_as_asked_for(count: int) -> None:
    """Lengths 3, 1, 2: returns 1+2+3, 11, 21+22; env i plays the episodes i, i + n, …"""
    results = play(count, ((3, True, False), (1, False, True), (2, True, True)))
    by_round = [(6.0, 3), (11.0, 1), (43.0, 2)]
    expected = [by_round[min(episode // min(count, 10), 2)] for episode in range(count)]
    assert list(zip(results.returns.tolist(), results.lengths.tolist(), strict=True)) == expected
    assert results.first_obs[:, 1].tolist() == [0.0] * count


def test_the_same_starts_every_time_whatever_the_policy() -> None:
    env = Env("CartPole-v1").with_spaces()
    results = [
        Episodes(13).open(env, policy).play() for policy in (UniformPolicy(env.action_space), Constant(0), Constant(1))
    ]
    for other in results[1:]:
        assert torch.equal(results[0].first_obs, other.first_obs)
    assert len(np.unique(results[0].first_obs.numpy(), axis=0)) == 13
    assert not torch.equal(results[0].first_obs, Episodes(13, seed=1).open(env, Constant(0)).play().first_obs)
    again = Episodes(13).open(env, UniformPolicy(env.action_space)).play()
    assert torch.equal(results[0].returns, again.returns)


def test_a_cap_cuts_and_counts_what_was_collected() -> None:
    results = play(3, ((9, True, False),), max_steps=4)
    assert results.returns.tolist() == [10.0] * 3 and results.lengths.tolist() == [4] * 3
    exact = play(12, ((4, True, False),), max_steps=4)  # an end at the cap is an end, and the env plays on
    assert len(exact.returns) == 12 and exact.lengths.tolist() == [4] * 12


def test_memory_is_zero_at_every_start() -> None:
    class Watching(Constant):
        def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
            assert not explore
            assert (state[:, 0] == obs[:, 1]).all(), "steps counted by the memory and by the environment"
            return super().act(obs, state, rng, explore)

    results = play(25, ((3, True, False), (1, True, False), (2, False, True)), Watching())
    assert torch.equal(results.final_state[:, 0], results.lengths.float()), "all steps but the last observation"


@pytest.mark.parametrize("wrong", [{"count": 0}, {"max_steps": 0}])
def test_wrong_recipes(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"Episodes\.(count|max_steps) is"):
        Episodes(**wrong)
