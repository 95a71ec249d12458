"""The box-constrained quadratic programme against all 3ᴬ ways in which bounds can hold."""

from itertools import product

import pytest
import torch

from lit_rl.planning.box_qp import box_qp


def drawn(rows: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    root = torch.randn(rows, size, size, generator=generator, dtype=torch.float64)
    hessian = root @ root.mT + 0.05 * torch.eye(size, dtype=torch.float64)
    gradient = 3.0 * torch.randn(rows, size, generator=generator, dtype=torch.float64)
    low = -torch.rand(rows, size, generator=generator, dtype=torch.float64)
    return hessian, gradient, low, low + 2.0 * torch.rand(rows, size, generator=generator, dtype=torch.float64)


def enumerated(hessian, gradient, low, high) -> torch.Tensor:
    """The feasible one of least value among the minima of all faces."""
    best, found = float("inf"), low
    for held in product((-1, 0, 1), repeat=len(low)):
        side = torch.tensor(held)
        action = torch.where(side < 0, low, high)
        free = (side == 0).nonzero().squeeze(-1)
        if len(free):
            rest = (side != 0).nonzero().squeeze(-1)
            right = gradient[free] + hessian[free][:, rest] @ action[rest]
            action[free] = -torch.linalg.solve(hessian[free][:, free], right)
        value = (0.5 * action @ hessian @ action + gradient @ action).item()
        if ((action >= low - 1e-12) & (action <= high + 1e-12)).all() and value < best:
            best, found = value, action
    return found


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_minimum_among_all_faces(size):
    rows = drawn(30, size)
    found = box_qp(*rows)
    expected = torch.stack([enumerated(*(part[i] for part in rows)) for i in range(30)])
    assert torch.allclose(found.action, expected, atol=1e-10)
    inside = (expected > rows[2] + 1e-9) & (expected < rows[3] - 1e-9)
    assert torch.equal(found.free, inside) and inside.any() and not inside.all()


def test_the_factor_is_that_of_the_free_part():
    hessian, gradient, low, high = drawn(20, 3)
    found = box_qp(hessian, gradient, low, high)
    rebuilt = found.factor @ found.factor.mT
    for i in range(20):
        free = found.free[i].nonzero().squeeze(-1)
        assert torch.allclose(rebuilt[i][free][:, free], hessian[i][free][:, free], atol=1e-12)
        held = (~found.free[i]).nonzero().squeeze(-1)
        assert torch.equal(rebuilt[i][held], torch.eye(3, dtype=torch.float64)[held])


def test_without_bounds_it_is_one_solve():
    hessian, gradient, low, _ = drawn(5, 3)
    found = box_qp(hessian, gradient, torch.full_like(low, -torch.inf), torch.full_like(low, torch.inf))
    assert torch.allclose(found.action, -torch.linalg.solve(hessian, gradient), atol=1e-10) and found.free.all()
    assert box_qp(hessian[None], gradient[None], low[None], low[None] + 1).action.shape == (1, 5, 3)
