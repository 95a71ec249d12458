"""Targets from action values: by hand, in their limits, and why a maximum is too high."""

import numpy as np
import pytest
import torch

from lit_rl.functional.action_values import double_q_target, expected_target, q_target, soft_value
from lit_rl.metrics.overestimation import overestimation

REWARD, DISCOUNT = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])
NEXT = torch.tensor([[4.0, 6.0], [8.0, 7.0], [9.0, 9.0]])
OTHER = torch.tensor([[1.0, 2.0], [3.0, 30.0], [5.0, 5.0]])
MASK = torch.tensor([[True, False], [True, True], [False, False]])


def test_targets_by_hand() -> None:
    """Row 1 is truncated and bootstraps, row 2 terminated: 2, also where no action is legal."""
    assert q_target(REWARD, DISCOUNT, NEXT).tolist() == [1 + 3, 4, 2]
    assert q_target(REWARD, DISCOUNT, NEXT, MASK).tolist() == [1 + 2, 4, 2]
    # NEXT selects 1, 0; OTHER says 2 and 3
    assert double_q_target(REWARD, DISCOUNT, NEXT, OTHER).tolist() == [2, 1.5, 2]
    assert (
        double_q_target(REWARD, DISCOUNT, NEXT, NEXT, MASK).tolist() == q_target(REWARD, DISCOUNT, NEXT, MASK).tolist()
    )
    assert expected_target(REWARD, DISCOUNT, NEXT, torch.full((3, 2), 0.5)).tolist() == [3.5, 3.75, 2]


def test_the_soft_maximum_hardens_as_it_cools() -> None:
    assert soft_value(NEXT, 1e-3).tolist() == pytest.approx([6, 8, 9], abs=1e-3)
    expected = 2 * np.log(np.exp(NEXT.numpy() / 2).sum(-1))
    np.testing.assert_allclose(soft_value(NEXT, 2.0), expected, rtol=1e-6)
    masked = soft_value(NEXT, 0.5, MASK)
    assert masked[0] == 4 and masked.isfinite().all()
    assert soft_value(NEXT, 5.0, MASK).isfinite().all()
    np.testing.assert_allclose(soft_value(NEXT + 3, 0.7), soft_value(NEXT, 0.7) + 3, rtol=1e-6)


@pytest.mark.parametrize(("actions", "expected"), [(2, 0.564), (10, 1.539)])
def test_the_maximum_of_noise_is_too_high_and_two_estimators_cure_it(actions: int, expected: float) -> None:
    """Formula sheet 7.3.1a: true values 0, noise N(0, 1)."""
    rng = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 200_000, actions, generator=rng)
    nothing, once = torch.zeros(200_000), torch.ones(200_000)
    assert q_target(nothing, once, one).mean().item() == pytest.approx(expected, abs=0.01)
    assert double_q_target(nothing, once, one, other).mean().item() == pytest.approx(0, abs=0.01)


def test_overestimation_counts_what_lies_beyond_a_time_limit() -> None:
    """Values of starts 3, 5. Episode 0 terminated with 2; episode 1, cut, earned 1 and 0.5 · 4 beyond: 3 − 2, 5 − 3."""
    numbers = [3.0, 5.0], [2.0, 1.0], [100.0, 4.0], [0.0, 0.5]
    found = overestimation(*(torch.tensor(row) for row in numbers))
    assert (found["start_value"].item(), found["overestimation"].item()) == (4.0, 1.5)
