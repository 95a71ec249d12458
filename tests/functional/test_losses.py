"""Means of losses, with and without weights."""

import pytest
import torch

from lit_rl.functional.losses import huber_loss, weighted_mean

ERROR = torch.tensor([-0.5, 4.0, -2.0])


def test_huber_by_hand() -> None:
    """½ · ¼, 1 · (4 − ½), 1 · (2 − ½); with δ = 9 all are squares."""
    assert huber_loss(ERROR, 1.0).item() == pytest.approx((0.125 + 3.5 + 1.5) / 3)
    assert huber_loss(ERROR, 9.0).item() == pytest.approx((0.125 + 8.0 + 2.0) / 3)
    weight = torch.tensor([1.0, 0.5, 0.0])
    assert huber_loss(ERROR, 1.0, weight).item() == pytest.approx((0.125 + 1.75) / 3)


def test_equal_weights_change_nothing() -> None:
    ones = torch.ones(3)
    assert huber_loss(ERROR, 1.0, ones).item() == pytest.approx(huber_loss(ERROR, 1.0).item())
    assert weighted_mean(ERROR, ones).item() == pytest.approx(weighted_mean(ERROR).item()) == pytest.approx(0.5)


def test_the_gradient_is_the_clipped_error() -> None:
    error = ERROR.clone().requires_grad_()
    huber_loss(error, 1.0).backward()
    assert error.grad.tolist() == pytest.approx([-0.5 / 3, 1 / 3, -1 / 3])
