"""Products against matrices that are written down, conjugate gradients against a dense solve, sizes of steps."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from lit_rl.functional.natural_gradient import (
    conjugate_gradient,
    flatten,
    gauss_newton_product,
    kl_sized,
    norm_sized,
)


def positive_definite(size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


def test_products_are_those_of_the_matrix() -> None:
    """outputs [4, 2] of 3 · 2 + 2 parameters: Jᵀ M J from the Jacobian, for an arbitrary M."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, generator=generator, dtype=torch.float64, requires_grad=True)
    middle = positive_definite(8)
    product = gauss_newton_product(
        (x @ weight).tanh() + bias, [weight, bias], lambda u: (middle @ u.flatten()).view(4, 2)
    )
    jacobian = torch.autograd.functional.jacobian(lambda w, b: ((x @ w).tanh() + b).flatten(), (weight, bias))
    full = torch.cat([part.flatten(1) for part in jacobian], dim=1)
    matrix = full.T @ middle @ full
    eye = torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([product(v) for v in eye]), matrix, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_conjugate_gradients_solve_in_as_many_iterations_as_parameters(size: int) -> None:
    matrix, b = positive_definite(size, size), torch.randn(size, dtype=torch.float64)
    x = conjugate_gradient(lambda v: matrix @ v, b, 2 * size, tolerance=1e-24)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-7, atol=1e-8)


def test_conjugate_gradients_count_their_iterations() -> None:
    """On a matrix of k distinct eigenvalues k products are enough, and one less is not."""
    matrix = torch.diag(torch.tensor([1.0, 1.0, 4.0, 9.0, 9.0], dtype=torch.float64))
    b, calls = torch.arange(1.0, 6.0, dtype=torch.float64), []

    def product(v: Tensor) -> Tensor:
        calls.append(1)
        return matrix @ v

    x = conjugate_gradient(product, b, 50, tolerance=1e-20)
    assert len(calls) == 3
    torch.testing.assert_close(x, b / matrix.diagonal())
    assert not torch.allclose(conjugate_gradient(product, b, 2), x)
    assert torch.equal(conjugate_gradient(product, torch.zeros(5, dtype=torch.float64), 9), torch.zeros(5).double())


def test_the_sized_step_has_its_size() -> None:
    """8.2a: ½ (αd)ᵀ F (αd) = ε, the direction unchanged; the gᵀFg of some texts would miss it by far."""
    matrix, g = positive_definite(6), torch.randn(6, dtype=torch.float64)
    d = torch.linalg.solve(matrix, g)
    step = kl_sized(d, matrix @ d, 0.01)
    assert (step @ matrix @ step / 2).item() == pytest.approx(0.01)
    torch.testing.assert_close(step / step.norm(), d / d.norm())
    torch.testing.assert_close(step, (2 * 0.01 / (g @ d)).sqrt() * d)  # √(2ε / gᵀF⁻¹g)
    for zero in (kl_sized(0 * d, 0 * d, 0.01), norm_sized(0 * d, 0.01)):
        assert torch.equal(zero, torch.zeros_like(d))


@pytest.mark.parametrize("seed", range(3))
def test_steps_solve_their_constrained_problems(seed: int) -> None:
    """4.3a and 8.2a: maximise gᵀd under ‖d‖² ≤ ε, or ½ dᵀFd ≤ ε, by a general solver."""
    rng = np.random.default_rng(seed)
    g, matrix, eps = rng.normal(size=4), positive_definite(4, seed).numpy(), 0.3
    own = {
        "euclidean": norm_sized(torch.from_numpy(g), eps),
        "natural": kl_sized(torch.from_numpy(np.linalg.solve(matrix, g)), torch.from_numpy(g), eps),
    }
    room = {"euclidean": lambda d: eps - d @ d, "natural": lambda d: eps - d @ matrix @ d / 2}
    for name, step in own.items():
        constraint = {"type": "ineq", "fun": room[name]}
        best = minimize(lambda d: -g @ d, 0.01 * g, constraints=[constraint], method="SLSQP", tol=1e-12)
        np.testing.assert_allclose(step, best.x, atol=1e-4)
    assert (own["euclidean"] @ own["euclidean"]).item() == pytest.approx(eps)


def test_flatten_keeps_the_order() -> None:
    assert flatten([torch.ones(2, 2), torch.zeros(1)]).tolist() == [1, 1, 1, 1, 0]
