"""Sequences with what came before them, against a list of everything that ever happened."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_rl import SequenceReplay
from tests.data.streams import equal, row
from tests.data.test_memory import GAMMA, filled, memories, stored


@settings(max_examples=40, deadline=None)
@given(before=st.integers(0, 4), length=st.integers(1, 5), **{k: v for k, v in memories.items() if k != "length"})
def test_they_stay_inside_their_episode_and_what_is_stored(
    kind, num_envs, n_step, chunks, seed, before, length
) -> None:
    stream, memory = filled(kind, num_envs, 9 * num_envs, n_step, chunks, seed)
    expected = stored(stream, memory)
    index = np.array(sorted(expected))
    steps, valid = memory.windows(index, length, before)
    assert valid.shape == (len(index), before + length) == steps.reward.shape
    kept = min(len(stream.steps[0]), memory.length)
    for b, flat in enumerate(index):
        history, t = expected[flat]
        first = len(history) - kept

        def ended(begin: int, end: int, history: list = history) -> bool:
            return any(step.terminated or step.truncated for step in history[begin:end])

        for k in range(-before, length):
            at = t + k
            if k < 0:
                counts = at >= first and not ended(at, t)
            else:
                counts = at < len(history) and not ended(t, at)
            assert bool(valid[b, k + before]) == counts
            if counts:
                assert equal(row(row(steps.obs, b), k + before), history[at].obs)
                assert equal(row(row(steps.next_obs, b), k + before), history[at].next_obs)
                assert steps.action[b, k + before] == history[at].action
                assert steps.reward[b, k + before] == pytest.approx(history[at].reward)
                assert steps.discount[b, k + before] == pytest.approx(0 if history[at].terminated else GAMMA)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SequenceReplay\.length is 0"):
        SequenceReplay(length=0)
    with pytest.raises(ValueError, match=r"SequenceReplay\.burn_in is -1"):
        SequenceReplay(burn_in=-1)
    with pytest.raises(ValueError, match="leave its n_step alone"):
        SequenceReplay(n_step=3)
