"""The replay memory against a list of everything that ever happened."""

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from lit_rl.checkpoint import read_arrays, write_arrays
from lit_rl.data import room
from lit_rl.data.memory import ReplayMemory
from tests.data.streams import ACTIONS, SPACES, Stacks, Step, Stream, equal, row

GAMMA = 0.9


def filled(kind: str, num_envs: int, capacity: int, n_step: int, chunks: list[int], seed: int) -> tuple:
    """A stream and the memory of it; neither n nor a chunk is longer than the ring."""
    stream, length = Stream(SPACES[kind], num_envs, seed), capacity // num_envs
    memory = ReplayMemory(capacity, num_envs, SPACES[kind], ACTIONS, GAMMA, min(n_step, length))
    for chunk in chunks:
        memory.add(stream.rollout(min(chunk, length)))
    return stream, memory


def stored(stream: Stream, memory: ReplayMemory) -> dict[int, tuple[list[Step], int]]:
    """Flat row → the environment's whole history, and where in it the row stands: slow and sure."""
    length, n = memory.length, memory.num_envs
    taken = len(stream.steps[0])
    return {
        (t % length) * n + env: (stream.steps[env], t) for env in range(n) for t in range(max(0, taken - length), taken)
    }


def fold(history: list[Step], t: int, n_step: int) -> tuple[float, float, Step]:
    """7.4.2a by the letter: Σ γᵏ r, γᵐ (1 − terminated), the last step; m = min(n, steps to the end, steps stored)."""
    total, factor = 0.0, 1.0
    for step in history[t : t + n_step]:
        total += factor * step.reward
        factor *= GAMMA
        if step.terminated or step.truncated:
            break
    return total, 0.0 if step.terminated else factor, step


memories = {
    "kind": st.sampled_from(sorted(SPACES)),
    "num_envs": st.integers(1, 4),
    "length": st.integers(1, 12),
    "n_step": st.integers(1, 4),
    "chunks": st.lists(st.integers(1, 5), min_size=1, max_size=8),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=60, deadline=None)
@given(**memories)
def test_every_row_equals_what_happened(kind, num_envs, length, n_step, chunks, seed) -> None:
    stream, memory = filled(kind, num_envs, length * num_envs + num_envs - 1, n_step, chunks, seed)
    expected = stored(stream, memory)
    assert len(memory) == len(expected)
    assert sorted(expected) == list(range(len(memory))), "uniform() draws from 0 … len − 1"
    index = np.array(sorted(expected))
    batch = memory.read(index)
    for b, flat in enumerate(index):
        history, t = expected[flat]
        reward, discount, last = fold(history, t, memory.n_step)
        assert equal(row(batch.obs, b), history[t].obs)
        assert equal(row(batch.next_obs, b), last.next_obs)
        assert batch.action[b] == history[t].action
        assert batch.log_prob[b] == pytest.approx(history[t].log_prob)
        assert batch.reward[b] == pytest.approx(reward, abs=1e-5)
        assert batch.discount[b] == pytest.approx(discount, abs=1e-6)
        assert batch.weight is None and batch.index[b] == flat


@settings(max_examples=60, deadline=None)
@given(frames=st.integers(2, 4), large=st.booleans(), **{name: memories[name] for name in memories if name != "kind"})
def test_a_stack_is_what_was_seen_though_each_image_is_kept_once(
    frames, large, num_envs, length, n_step, chunks, seed
) -> None:
    """Small images with their successors in the row, large ones without; the ring also just full, and written over."""
    image = SPACES["image"] if large else spaces.Box(0, 255, (2, 3, 3), np.uint8)
    stream = Stacks(image, frames, num_envs, seed)
    n_step = min(n_step, length)
    memory = ReplayMemory(length * num_envs, num_envs, stream.space, ACTIONS, GAMMA, n_step, frames=frames)
    for chunk in chunks:
        memory.add(stream.rollout(min(chunk, length)))
    taken, n = len(stream.steps[0]), num_envs
    newest = range(max(0, taken - length), taken)
    expected = {(t % memory.length) * n + env: (stream.steps[env], t) for env in range(n) for t in newest}
    assert memory.layout["obs"].shape == image.shape
    assert sorted(memory.stored()) == sorted(expected)
    assert not set(memory.unserved()) & set(expected)
    assert len(expected) + len(memory.unserved()) == memory.filled * n
    batch = memory.read(memory.stored())
    for b, flat in enumerate(memory.stored()):
        history, t = expected[flat]
        assert equal(row(batch.obs, b), history[t].obs)
        assert equal(row(batch.next_obs, b), fold(history, t, n_step)[2].next_obs)
    assert set(memory.uniform(np.random.default_rng(seed), 2_000)) == set(expected)


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(1, 6), **memories)
def test_windows_end_with_the_episode_and_with_the_data(kind, num_envs, length, n_step, chunks, seed, steps) -> None:
    stream, memory = filled(kind, num_envs, length * num_envs, n_step, chunks, seed)
    expected = stored(stream, memory)
    index = np.array(sorted(expected))
    batch, valid = memory.windows(index, steps)
    assert valid.shape == (len(index), steps) == batch.reward.shape
    assert memory.n_step == min(n_step, length)
    for b, flat in enumerate(index):
        history, t = expected[flat]
        ended = False
        for k in range(steps):
            counts = not ended and t + k < len(history)
            assert bool(valid[b, k]) == counts
            if counts:
                step = history[t + k]
                ended = step.terminated or step.truncated
                assert equal(row(row(batch.obs, b), k), step.obs)
                assert equal(row(row(batch.next_obs, b), k), step.next_obs)
                assert batch.reward[b, k] == pytest.approx(step.reward)
                assert batch.discount[b, k] == pytest.approx(0 if step.terminated else GAMMA)


def test_three_steps_by_hand() -> None:
    """r = 1, 2, 4, γ = ½, n = 3. Truncated after the second: 1 + ½·2 = 2 and ¼ to bootstrap; terminated: 0."""
    for end, discount in ((("truncated"), 0.25), ("terminated", 0.0)):
        stream = Stream(SPACES["vector"], 1, 0, end=0.0)
        memory = ReplayMemory(10, 1, SPACES["vector"], ACTIONS, 0.5, n_step=3)
        rollout = stream.rollout(3)
        rollout.reward[:, 0] = [1, 2, 4]
        getattr(rollout, end)[1, 0] = True
        final = rollout.obs[2] + 7
        memory.add(rollout._replace(final_obs=final, final_index=np.array([1])))
        batch = memory.read(np.array([0, 1, 2]))
        # row 0: 1 + ½ · 2; row 1: 2 alone; row 2 belongs to the next episode, and only one step of it is stored
        assert batch.reward.tolist() == [2.0, 2.0, 4.0]
        assert batch.discount.tolist() == [discount, 0.0 if end == "terminated" else 0.5, 0.5]
        assert equal(batch.next_obs[0], final[0]) and equal(batch.next_obs[1], final[0])
        assert equal(batch.next_obs[2], rollout.obs[3, 0])


def test_layouts() -> None:
    small, large = (ReplayMemory(20, 2, SPACES[kind], ACTIONS, GAMMA) for kind in ("vector", "image"))
    assert small.store_next and not large.store_next
    assert large.rows.itemsize < 2 * 576 and large.rows["obs"].dtype == np.uint8
    for space in SPACES.values():
        offsets = [
            offset
            for _, offset in (field[:2] for field in ReplayMemory(20, 2, space, ACTIONS, GAMMA).layout.fields.values())
        ]
        assert all(offset % 8 == 0 for offset in offsets)


def test_final_observations_do_not_pile_up() -> None:
    """A slot is free again once its row is overwritten: at most one slot per stored row, and its growth doubles."""
    stream = Stream(SPACES["image"], 2, 0, end=0.9)
    memory = ReplayMemory(14, 2, SPACES["image"], ACTIONS, GAMMA)
    for _ in range(60):
        memory.add(stream.rollout(4))
    assert len(memory._finals) <= 2 * 14
    used = memory.rows["final"][memory.rows["final"] >= 0]
    assert len(set(used.tolist())) == len(used) and not set(used.tolist()) & set(memory._free)
    assert len(used) + len(memory._free) == len(memory._finals), "a slot was lost"


def test_uniform_draws_are_uniform() -> None:
    _, memory = filled("vector", 3, 60, 1, [5, 5, 5, 5, 5], 0)
    drawn = memory.uniform(np.random.default_rng(0), 60_000)
    assert chisquare(np.bincount(drawn, minlength=60)).pvalue > 1e-3


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kind", sorted(SPACES))
@pytest.mark.parametrize("chunks", [[2, 1], [4, 4, 4, 3]])
def test_written_and_read_back(tmp_path: Path, kind: str, mapped: bool, chunks: list[int]) -> None:
    stream, memory = filled(kind, 2, 20, 2, chunks, 3)
    write_arrays(tmp_path / "saved", memory.arrays(), memory.header())
    arrays, header = read_arrays(tmp_path / "saved")
    file = tmp_path / "rows" if mapped else None
    other = ReplayMemory(20, 2, SPACES[kind], ACTIONS, GAMMA, 2, file)
    other.restore(header, arrays)
    for _ in range(3):  # now, and as both go on
        index = np.arange(len(memory))
        for mine, theirs in zip(memory.read(index), other.read(index), strict=True):
            assert equal(mine, theirs)
        assert memory.header() == other.header()
        rollout = stream.rollout(4)
        assert equal(memory.add(rollout), other.add(rollout))


def test_restore_refuses_another_shape() -> None:
    _, memory = filled("vector", 2, 20, 1, [3], 0)
    with pytest.raises(ValueError, match="10 steps of 2 envs, this one 10 of 1"):
        ReplayMemory(10, 1, SPACES["vector"], ACTIONS, GAMMA).restore(memory.header(), memory.arrays())


@pytest.mark.parametrize(("capacity", "num_envs", "n_step"), [(0, 1, 1), (2, 1, 3), (7, 4, 2), (3, 4, 1)])
def test_too_small_is_refused_at_once(capacity: int, num_envs: int, n_step: int) -> None:
    with pytest.raises(ValueError, match=r"raise data\.capacity"):
        ReplayMemory(capacity, num_envs, SPACES["vector"], ACTIONS, GAMMA, n_step)


def test_a_rollout_longer_than_the_ring_is_refused() -> None:
    memory = ReplayMemory(4, 1, SPACES["vector"], ACTIONS, GAMMA)
    with pytest.raises(ValueError, match="a rollout of 5 steps does not fit"):
        memory.add(Stream(SPACES["vector"], 1, 0).rollout(5))


def test_what_does_not_fit_is_refused_before_it_is_allocated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "_available", lambda: 10_000)
    with pytest.raises(ValueError, match=r"or set data\.storage to memmap"):
        ReplayMemory(1000, 1, SPACES["image"], ACTIONS, GAMMA)
    ReplayMemory(1000, 1, SPACES["image"], ACTIONS, GAMMA, file=tmp_path / "rows")
