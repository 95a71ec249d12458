"""Whole episodes: fair samples, padded in columns, counted in steps, and restored exactly."""

import numpy as np
import pytest
import torch

from lit_rl.batch import Trajectories
from lit_rl.data import collector
from lit_rl.data.collector import STRIDE
from lit_rl.data.whole_episodes import WholeEpisodes, side_by_side, trajectories
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import EnvError
from lit_rl.policies.uniform import UniformPolicy


def opened(recipe: WholeEpisodes, num_envs: int = 3, env: str = "CartPole-v1"):
    made = Env(env, num_envs=num_envs).with_spaces()
    return recipe.open(made, UniformPolicy(made.action_space), 0.99, 0)


def test_every_environment_plays_as_many_and_begins_afresh() -> None:
    """CartPole from fresh starts: all columns begin near 0, none goes on from a round before, lengths vary."""
    experience = opened(WholeEpisodes(4))
    lengths = []
    for _ in range(3):
        data, env_steps = experience.next_round()
        assert data.mask.shape[1] == 12
        assert (data.obs[0].abs() <= 0.05).all(), "a first state of CartPole"
        length = data.mask.sum(0)
        assert torch.equal(data.mask, torch.arange(len(data.mask))[:, None] < length)
        assert torch.equal(data.reward, data.mask.float()), "CartPole pays 1 a step, and 0 behind the end"
        assert len(data.mask) == length.max() and env_steps >= length.sum() and env_steps % STRIDE == 0
        lengths += length.tolist()
    assert len(set(lengths)) > 5
    summary = experience.statistics()
    assert summary["episodes"] == 36 and summary["episode_return"] == pytest.approx(np.mean(lengths))
    experience.close()


def test_the_first_to_finish_are_no_more_than_their_share() -> None:
    """The length of an episode is that of a fair sample: one environment alone gives the same mean as eight do."""
    means = []
    for envs, rounds in ((1, 160), (8, 20)):
        experience = opened(WholeEpisodes(1), envs)
        lengths = [length for _ in range(rounds) for length in experience.next_round().data.mask.sum(0).tolist()]
        means.append(np.mean(lengths))
        experience.close()
    assert means[0] == pytest.approx(means[1], abs=4 * 12 * (2 / 160) ** 0.5), "deviation about 12"


def test_columns_follow_the_rollout() -> None:
    experience = opened(WholeEpisodes(2), 2)
    rollout = experience.source.collect_episodes(2)
    data = trajectories(rollout)
    for column, place in enumerate(rollout.final_index):
        end, env = divmod(int(place), 2)
        length = int(rollout.episode_step[end, env]) + 1
        for name in ("obs", "action", "log_prob", "reward"):
            expected = getattr(rollout, name)[end - length + 1 : end + 1, env]
            assert np.array_equal(getattr(data, name)[:length, column], expected)
    experience.close()


def test_an_episode_from_before_is_refused() -> None:
    experience = opened(WholeEpisodes(1), 1)
    rollout = experience.source.collect_episodes(1)
    with pytest.raises(ValueError, match="fresh starts"):
        trajectories(rollout._replace(episode_step=rollout.episode_step + 5))
    experience.close()


def test_an_episode_without_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "LONGEST", 50)
    experience = opened(WholeEpisodes(1), 1, "Pendulum-v1")  # 200 steps
    with pytest.raises(EnvError, match="time limit"):
        experience.next_round()
    experience.close()


def test_a_window_keeps_rounds_and_is_restored() -> None:
    recipe = WholeEpisodes(1, window=3, steps_per_epoch=100, steps_per_batch=50)
    experience = opened(recipe, 2)
    sizes = [experience.next_round().data.mask.shape[1] for _ in range(5)]
    assert sizes == [2, 4, 6, 6, 6]
    state = experience.snapshot()
    following = [experience.next_round() for _ in range(4)]
    other = opened(recipe, 2)
    other.restore(state)
    for expected in following:
        got = other.next_round()
        assert got.env_steps == expected.env_steps
        assert all(torch.equal(a, b) for a, b in zip(got.data, expected.data, strict=True))
    experience.close(), other.close()


def test_an_epoch_is_steps_and_what_it_took_too_many_is_taken_off_the_next() -> None:
    recipe = WholeEpisodes(1, steps_per_epoch=100, steps_per_batch=30)
    experience = opened(recipe)
    assert len(experience) == 4
    taken = 0
    for epoch in range(1, 6):
        for batch in range(4):
            taken += sum(round_.env_steps for round_ in experience.rounds(batch))
        assert 100 * epoch <= taken < 100 * epoch + 400
    experience.close()


def test_batches_of_different_length_are_padded() -> None:
    def batch(steps: int, episodes: int) -> Trajectories:
        ones = torch.ones(steps, episodes)
        return Trajectories({"a": torch.ones(steps, episodes, 2)}, ones.long(), ones, ones, ones.bool())

    joined = side_by_side([batch(2, 1), batch(3, 2)])
    assert joined.mask.tolist() == [[True] * 3, [True] * 3, [False, True, True]]
    assert joined.obs["a"].shape == (3, 3, 2) and joined.reward[2].tolist() == [0, 1, 1]


@pytest.mark.parametrize("field", ["episodes_per_env", "window", "steps_per_epoch", "steps_per_batch"])
def test_refusals(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        WholeEpisodes(**{field: 0})


@pytest.mark.parametrize("vectorization", ["async", "native"])
def test_other_vectorizations_restart_too(vectorization: str) -> None:
    env = Env("CartPole-v1", num_envs=2, vectorization=vectorization).with_spaces()  # type: ignore[arg-type]
    experience = WholeEpisodes(1).open(env, UniformPolicy(env.action_space), 0.99, 0)
    for _ in range(3):
        assert (experience.next_round().data.obs[0].abs() <= 0.05).all()
    experience.close()
