"""Collocation against LQR, against a general solver, and where shooting explodes."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lit_rl.planning.collocation import Collocation, defects
from lit_rl.planning.ddp import DDP
from lit_rl.planning.gradient_shooting import plan_gradient
from lit_rl.planning.systems.double_integrator import DoubleIntegrator
from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.systems.system import QuadraticCost
from lit_rl.planning.trajectory import ControlProblem, rollout

SMOOTH = Pendulum.smooth()
HIGH = torch.full((1,), torch.inf, dtype=torch.float64)


def rows(*numbers) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def cubic(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """ẋ = x³ + u: without control it leaves every bound in a moment."""
    return state + 0.1 * (state**3 + action)


def test_a_linear_quadratic_problem_takes_one_step_from_anywhere():
    cost = QuadraticCost((1.0, 1.0), (0.1,))
    problem = ControlProblem(DoubleIntegrator(), cost, -HIGH, HIGH, 100, cost.terminal)
    guess = torch.randn(101, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Collocation().solve(problem, rows(1.0, 0.0), guess, guess[1:, :1])
    assert found.iterations == 1 and found.converged and found.violation < 1e-12
    assert found.cost.item() == pytest.approx(13.827049, rel=1e-7)
    best = DDP().solve(problem, rows(1.0, 0.0), torch.zeros(100, 1).double())
    assert torch.allclose(found.actions, best.actions, atol=1e-10)


def test_the_optimum_of_shooting_and_of_a_general_solver(unchecked):
    problem, start = ControlProblem(SMOOTH, SMOOTH.smooth_cost, -HIGH, HIGH, 15), rows(1.0, 0.0)
    guess = torch.linspace(1.0, 0.0, 16, dtype=torch.float64)
    states = torch.stack([guess, torch.zeros_like(guess)], -1)
    found = Collocation().solve(problem, start, states, torch.zeros(15, 1).double())
    assert found.converged and found.violation < 1e-8
    shot = DDP(tolerance=1e-13).solve(problem, start, found.actions)
    assert torch.allclose(shot.actions, found.actions, atol=1e-4) and shot.cost.item() == pytest.approx(
        found.cost.item(), rel=1e-9
    )

    def unpack(flat):
        flat = torch.as_tensor(flat)
        return torch.cat([start[None], flat[:30].view(15, 2)]), flat[30:, None]

    def constraint(flat):
        return defects(problem, *unpack(flat)).flatten()

    def total(flat):
        return problem.trajectory_cost(*unpack(flat))

    reference = minimize(
        lambda z: total(z).item(),
        np.concatenate([states[1:].flatten(), np.zeros(15)]),
        jac=lambda z: torch.func.grad(total)(torch.as_tensor(z)).numpy(),
        constraints={
            "type": "eq",
            "fun": lambda z: constraint(z).numpy(),
            "jac": lambda z: torch.func.jacrev(constraint)(torch.as_tensor(z)).numpy(),
        },
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 200},
    )
    assert found.cost.item() == pytest.approx(reference.fun, rel=1e-8)


def test_multipliers_are_the_gradient_of_the_cost_to_go(unchecked):
    """λ₁ᵀ ∂f/∂u = −∂c/∂u at the first step, and the gradient of the plan vanishes."""
    problem, start = ControlProblem(SMOOTH, SMOOTH.smooth_cost, -HIGH, HIGH, 10), rows([1.0, 0.0], [-0.5, 1.0])
    actions = torch.zeros(2, 10, 1).double()
    found = Collocation(tolerance=1e-12).solve(problem, start, rollout(SMOOTH, start, actions), actions)
    slope = plan_gradient(problem, start, found.actions)[1]
    assert found.converged.all() and slope.abs().max() < 1e-6
    moved = torch.func.jacrev(lambda u: SMOOTH(start, u).sum(0))(found.actions[:, 0])[:, :, 0].T  # ∂x₁/∂u₀ [B, S]
    assert torch.allclose((moved * found.multipliers[:, 0]).sum(-1), -0.002 * found.actions[:, 0, 0], atol=1e-7)


def test_it_converges_where_shooting_explodes():
    cost = QuadraticCost((1.0,), (0.1,))
    problem = ControlProblem(cubic, cost, -HIGH, HIGH, 40, cost.terminal)
    start, actions = rows(2.0), torch.zeros(40, 1).double()
    assert problem.total(start, actions).isinf()
    with pytest.raises(ValueError, match="not finite"):
        DDP().solve(problem, start, actions)
    found = Collocation().solve(problem, start, torch.zeros(41, 1).double(), actions)
    assert found.converged and found.violation < 1e-8
    again = DDP().solve(problem, start, found.actions)
    assert again.cost.item() == pytest.approx(found.cost.item(), rel=1e-7)


def test_bad_input_is_refused():
    bounded = ControlProblem(SMOOTH, SMOOTH.cost, rows(-1.0), rows(1.0), 3)
    with pytest.raises(ValueError, match="without bounds"):
        Collocation().solve(bounded, rows(0.0, 0.0), torch.zeros(4, 2).double(), torch.zeros(3, 1).double())
    with pytest.raises(ValueError, match="armijo"):
        Collocation(armijo=2.0)
