"""Schedules: their ends, their middles, and what they refuse."""

import pytest

from lit_rl.schedules import Constant, Exponential, Linear, as_schedule


@pytest.mark.parametrize(("steps", "value"), [(0, 1.0), (25, 0.775), (50, 0.55), (100, 0.1), (10**9, 0.1)])
def test_linear(steps: int, value: float) -> None:
    assert Linear(1.0, 0.1, 100)(steps) == pytest.approx(value)


@pytest.mark.parametrize(("steps", "value"), [(0, 1.0), (50, 0.1), (100, 0.01), (1000, 0.01)])
def test_exponential_halves_on_the_logarithm(steps: int, value: float) -> None:
    assert Exponential(1.0, 0.01, 100)(steps) == pytest.approx(value)


def test_a_number_is_a_constant() -> None:
    assert as_schedule(3)(10**6) == 3.0 and as_schedule(3) == Constant(3.0)
    linear = Linear(0, 1, 5)
    assert as_schedule(linear) is linear


@pytest.mark.parametrize("wrong", [lambda: Linear(1, 0, 0), lambda: Exponential(0, 1, 5), lambda: Exponential(1, 1, 0)])
def test_refused(wrong) -> None:
    with pytest.raises(ValueError, match=r"Linear\.steps|Exponential needs"):
        wrong()
