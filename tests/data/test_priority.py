"""Sum tree and priorities against numpy's own weighted choice."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from lit_rl.data.memory import ReplayMemory
from lit_rl.data.priority import Priorities, Prioritized, SumTree
from lit_rl.schedules import Linear
from tests.data.streams import ACTIONS, SPACES, Stacks, Stream


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=40), st.integers(0, 1000))
def test_find_inverts_the_running_sum(weights: list[float], seed: int) -> None:
    values = np.array(weights)
    tree, rng = SumTree(len(values)), np.random.default_rng(seed)
    order = rng.permutation(len(values))
    tree.set(order, values[order])
    assert tree.total == values.sum()
    if values.sum() > 0:
        edges = np.cumsum(values)
        mass = np.concatenate([rng.random(20) * tree.total, edges[:-1][edges[:-1] < tree.total], [0.0]])
        assert (tree.find(mass)[0] == np.searchsorted(edges, mass, side="right")).all()


def test_every_leaf_of_many_blocks_is_found_where_it_lies() -> None:
    """Whole numbers are exact in single precision: masses within each of them and at each of their beginnings."""
    values = np.random.default_rng(0).integers(0, 10, 5_000).astype(float)
    tree = SumTree(len(values))
    tree.set(np.arange(len(values)), values)
    mass = np.arange(0, tree.total, 0.5)
    assert (tree.find(mass)[0] == np.searchsorted(np.cumsum(values), mass, side="right")).all()


def test_an_empty_leaf_is_never_found() -> None:
    """Also at the largest mass that rounding can make, and with tiny values beside huge ones."""
    rng = np.random.default_rng(0)
    tree = SumTree(37)
    values = np.where(rng.random(37) < 0.5, 0.0, rng.lognormal(0, 8, 37))
    tree.set(np.arange(37), values)
    mass = np.concatenate([rng.random(10_000) * tree.total, [tree.total, np.nextafter(tree.total, 0)]])
    found, number, least = tree.find(mass)
    assert (values[found] > 0).all() and (number == tree[found]).all() and least == number.min()


def test_sums_after_many_writes_are_exact() -> None:
    tree, rng, values = SumTree(11), np.random.default_rng(0), np.zeros(11)
    for _ in range(300):
        index = rng.integers(0, 11, 4)
        value = rng.integers(0, 100, 4).astype(float)
        tree.set(index, value)
        values[index] = value  # the last of equal ones, as numpy does
    assert tree.total == values.sum() and (tree[np.arange(11)] == values).all()


def prepared(alpha: float = 0.6, beta=0.4) -> tuple[Priorities, ReplayMemory, np.ndarray]:
    """12 of 20 rows written, 8 of them learnt from."""
    memory = ReplayMemory(20, 2, SPACES["vector"], ACTIONS, 0.9)
    priorities = Priorities(Prioritized(alpha, beta, epsilon=0.01), memory)
    priorities.add(memory.add(Stream(SPACES["vector"], 2, 0).rollout(6)))
    error = torch.tensor([0.0, 1.0, -2.0, 3.0, -4.0, 0.5, 0.25, 8.0])
    priorities.update(torch.arange(8), error)
    # new rows have the largest priority seen: so far 1 when these four were added
    expected = np.concatenate([(error.abs().double().numpy() + 0.01) ** alpha, np.ones(4)])
    return priorities, memory, expected / expected.sum()


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_rows_come_up_in_proportion_to_their_priority(alpha: float) -> None:
    priorities, _, probability = prepared(alpha)
    index = priorities.sample(np.random.default_rng(0), (10_000, 5), 0)[0].reshape(-1)
    assert index.max() < 12, "a row that was never written"
    counts = np.bincount(index, minlength=12)
    assert chisquare(counts, 50_000 * probability).pvalue > 1e-3
    reference = np.bincount(np.random.default_rng(1).choice(12, 50_000, p=probability), minlength=12)
    assert np.abs(counts - reference).max() < 5 * np.sqrt(2 * reference.max())


def test_a_minibatch_takes_one_row_of_each_slice() -> None:
    """So a row comes up as often as its share of the minibatch says, to less than one and one at either end."""
    priorities, _, probability = prepared()
    for index in priorities.sample(np.random.default_rng(0), (20, 64), 0)[0]:
        assert np.abs(np.bincount(index, minlength=12) - 64 * probability).max() < 2


def test_weights_undo_the_bias() -> None:
    """w = (n P(i))^−β / max: with β = 1 the weighted mean over draws is the plain mean up to that factor."""
    priorities, memory, probability = prepared(beta=Linear(0.4, 1.0, 100))
    for env_steps, beta in ((0, 0.4), (50, 0.7), (100, 1.0)):
        index, weight = priorities.sample(np.random.default_rng(0), (20_000,), env_steps)
        expected = (len(memory) * probability[index]) ** -beta
        np.testing.assert_allclose(weight, expected / expected.max(), rtol=1e-5)
        assert weight.dtype == torch.float32
    values = np.arange(12.0) ** 2
    raw = 1 / (12 * probability[index])
    assert (raw * values[index]).mean() == pytest.approx(values.mean(), rel=0.05)


def test_new_rows_get_the_largest_priority_ever_seen() -> None:
    priorities, memory, _ = prepared(alpha=1.0)
    rows = memory.add(Stream(SPACES["vector"], 2, 1).rollout(5))  # to the ring's end and over the first two rows
    priorities.add(rows)
    leaves = priorities.tree.leaves.reshape(-1)
    assert rows.tolist() == [12, 13, 14, 15, 16, 17, 18, 19, 0, 1]
    np.testing.assert_allclose(leaves[rows], 8.01)
    np.testing.assert_allclose(leaves[2], 2.01)


def test_a_row_whose_images_only_serve_others_is_never_drawn() -> None:
    stream = Stacks(SPACES["image"], frames=3, num_envs=2, seed=0)
    memory = ReplayMemory(20, 2, stream.space, ACTIONS, 0.9, frames=3)
    priorities = Priorities(Prioritized(), memory)
    for _ in range(5):
        priorities.add(memory.add(stream.rollout(4)))
        drawn, weight = priorities.sample(np.random.default_rng(0), (400,), 0)
        assert set(drawn) == set(memory.stored()) and bool((weight > 0).all())


def test_restored_priorities_draw_the_same_rows() -> None:
    priorities, memory, _ = prepared()
    other = Priorities(priorities.recipe, memory)
    other.restore(priorities.snapshot())
    for name in ("leaves", "sums", "before", "top", "running"):
        assert (getattr(other.tree, name) == getattr(priorities.tree, name)).all()
    assert other.largest == priorities.largest
    one, two = (p.sample(np.random.default_rng(3), (100,), 0) for p in (priorities, other))
    assert (one[0] == two[0]).all() and torch.equal(one[1], two[1])


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"alpha": 1.1}, {"epsilon": 0.0}])
def test_wrong_recipes(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Prioritized needs"):
        Prioritized(**wrong)
