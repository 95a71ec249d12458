"""Least squares on a linear layer, against numpy, and what it leaves alone."""

import numpy as np
import torch
from torch import nn

from lit_rl.nn.regression import least_squares_


def test_it_is_the_least_squares_solution() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    layer = nn.Linear(3, 1)
    least_squares_(layer, torch.from_numpy(x).float(), torch.from_numpy(y).float())
    expected = np.linalg.lstsq(np.c_[x, np.ones(20)], y, rcond=None)[0]
    found = np.r_[layer.weight.detach().numpy()[0], layer.bias.detach().numpy()]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_row_is_about_its_own_output_and_the_rest_stays() -> None:
    """One-hot features: an entry becomes the mean of its targets; entry (1, 0) and output 2 have none."""
    layer = nn.Linear(2, 3, bias=False)
    nn.init.constant_(layer.weight, 7.0)
    state, output = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
    least_squares_(layer, torch.eye(2)[state], torch.tensor([1.0, 2.0, 5.0, -4.0]), output)
    assert layer.weight.tolist() == [[1.5, 7.0], [-4.0, 5.0], [7.0, 7.0]]


def test_of_many_solutions_it_takes_the_nearest() -> None:
    """x = (1, 1), y = 4 from w = (0, 2): the missing 2 is shared, (1, 3)."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data[:] = torch.tensor([[0.0, 2.0]])
    least_squares_(layer, torch.ones(1, 2), torch.tensor([4.0]))
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[1.0, 3.0]]))
