"""Running returns against a slow walk over the same rewards."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_rl.data.collector import as_tensors
from lit_rl.data.statistics import WINDOW, EpisodeStatistics
from lit_rl.data.workers import side_by_side
from tests.data.streams import SPACES, Stream


def finished(stream: Stream) -> dict[int, list[tuple[float, int]]]:
    """(return, length) of every finished episode of each environment."""
    found = defaultdict(list)
    for env, history in enumerate(stream.steps):
        total, length = 0.0, 0
        for step in history:
            total, length = total + step.reward, length + 1
            if step.terminated or step.truncated:
                found[env].append((total, length))
                total, length = 0.0, 0
    return found


@settings(max_examples=60, deadline=None)
@given(
    num_envs=st.integers(1, 4),
    chunks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    end=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0]),
    tensors=st.booleans(),
    cut=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_brute_force(num_envs, chunks, end, tensors, cut, seed) -> None:
    stream, statistics = Stream(SPACES["vector"], num_envs, seed, end), EpisodeStatistics(num_envs)
    for number, chunk in enumerate(chunks):
        rollout = stream.rollout(chunk)
        statistics.update(as_tensors(rollout) if tensors else rollout)
        if number == cut:  # saved and restored somewhere on the way
            saved, statistics = statistics.snapshot(), EpisodeStatistics(num_envs)
            statistics.restore(saved)
    expected = [episode for episodes in finished(stream).values() for episode in episodes]
    assert statistics.episodes == len(expected)
    returns, lengths = statistics._returns, statistics._lengths
    assert sorted(zip(np.round(returns, 4), lengths, strict=True)) == sorted((round(r, 4), n) for r, n in expected)
    if expected:
        summary = statistics.summary()
        assert summary["episode_return"] == pytest.approx(np.mean([r for r, _ in expected]), abs=1e-5)
        assert summary["episode_length"] == pytest.approx(np.mean([n for _, n in expected]))
    else:
        assert statistics.summary() == {}


def test_streams_of_several_workers_stay_apart() -> None:
    streams, statistics = [Stream(SPACES["vector"], 2, seed) for seed in range(2)], EpisodeStatistics(4)
    for _ in range(5):
        statistics.update(side_by_side([stream.rollout(3) for stream in streams]))
    expected = [round(r, 4) for stream in streams for episodes in finished(stream).values() for r, _ in episodes]
    assert sorted(np.round(statistics._returns, 4)) == sorted(expected)


def test_only_the_last_episodes_count() -> None:
    stream, statistics = Stream(SPACES["vector"], 1, 0, end=2.0), EpisodeStatistics(1)  # every step ends an episode
    rollout = stream.rollout(WINDOW + 10)
    rollout.reward[:] = np.arange(WINDOW + 10)[:, None]
    statistics.update(rollout)
    assert statistics.episodes == WINDOW + 10
    assert statistics.summary() == {
        "episode_return": 10 + (WINDOW - 1) / 2,
        "episode_length": 1.0,
        "episodes": WINDOW + 10.0,
    }
