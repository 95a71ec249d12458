"""iLQR and DDP against LQR, against each other, against gradients that must vanish; then the pendulum swings up."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lit_rl.planning import derivatives
from lit_rl.planning.ddp import DDP
from lit_rl.planning.gradient_shooting import plan_gradient
from lit_rl.planning.ilqr import ILQR
from lit_rl.planning.lqr import LinearQuadratic, follow, infinite_horizon_lqr, lqr
from lit_rl.planning.systems.cart_pole import CartPole
from lit_rl.planning.systems.double_integrator import DoubleIntegrator
from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.systems.quadrotor import PlanarQuadrotor
from lit_rl.planning.systems.system import QuadraticCost
from lit_rl.planning.trajectory import ControlProblem, rollout

BOTH = pytest.mark.parametrize("method", [ILQR, DDP])
SMOOTH = Pendulum.smooth()


def rows(*numbers) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def unbounded(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    high = torch.full((size,), torch.inf, dtype=torch.float64)
    return -high, high


def swing_up(horizon: int = 30, gamma: float = 1.0) -> ControlProblem:
    """Smooth and not convex."""
    return ControlProblem(SMOOTH, SMOOTH.smooth_cost, *unbounded(1), horizon, gamma=gamma)


def still(problem: ControlProblem, *batch: int) -> torch.Tensor:
    return problem.centre.expand(*batch, problem.horizon, -1)


def linear_quadratic() -> tuple[ControlProblem, LinearQuadratic, torch.Tensor]:
    """One random problem with cross and linear terms and an offset, as callables and as matrices."""
    generator = torch.Generator().manual_seed(0)
    size, width, horizon = 3, 2, 6
    f, offset, c, v = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((size, size + width), (size,), (size + width,), (size,))
    )
    root = torch.randn(size + width, size + width, generator=generator, dtype=torch.float64)
    hessian = root @ root.mT + torch.eye(size + width, dtype=torch.float64)
    final = hessian[:size, :size]

    def dynamics(state, action):
        return torch.cat([state, action], -1) @ f.T + offset

    def cost(state, action):
        both = torch.cat([state, action], -1)
        return (0.5 * (both @ hessian) * both + both * c).sum(-1)

    def terminal(state):
        return (0.5 * (state @ final) * state + state * v).sum(-1)

    def repeated(part: torch.Tensor) -> torch.Tensor:
        return part.expand(horizon, *part.shape)

    matrices = LinearQuadratic(repeated(f), repeated(offset), repeated(hessian), repeated(c), final, v)
    return ControlProblem(dynamics, cost, *unbounded(width), horizon, terminal), matrices, rows(1.0, -2.0, 0.5)


# Derivatives


def test_derivatives_along_a_trajectory_against_finite_differences():
    system, cost = CartPole(max_force=50.0), QuadraticCost((1.0, 0.1, 5.0, 0.1), (0.01,))

    def steep(state, action):
        return cost(state, action) + (state[..., 0] * action[..., 0]).sin()

    problem = ControlProblem(system, steep, *unbounded(1), 4, lambda x: x[..., 2].cos() * x[..., 0], gamma=0.9)
    actions = torch.randn(2, 4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    states = rollout(system, rows([0.1, 0.2, 0.3, -0.4], [0.0, 1.0, 2.0, 3.0]), actions)
    found = derivatives.expand(problem, states, actions)
    curvature = derivatives.dynamics_hessian(problem, states, actions)
    point = torch.cat([states[:, :-1], actions], -1)
    weight = 0.9 ** torch.arange(4, dtype=torch.float64)
    h = 1e-5
    for j in range(5):
        away = h * torch.eye(5, dtype=torch.float64)[j]

        def central(function, away=away):
            return (function(point + away) - function(point - away)) / (2 * h)

        assert torch.allclose(found.dynamics[..., j], central(lambda z: system(z[..., :4], z[..., 4:])), atol=1e-8)
        slope = central(lambda z: steep(z[..., :4], z[..., 4:]))
        assert torch.allclose(found.gradient[..., j], weight * slope, atol=1e-8)

        def gradients(z):
            return derivatives.gradient_and_hessian(lambda y: steep(y[..., :4], y[..., 4:]), z)[0]

        def jacobians(z):
            return derivatives.jacobian(lambda y: system(y[..., :4], y[..., 4:]), z)

        assert torch.allclose(found.hessian[..., j], weight[:, None] * central(gradients), atol=1e-7)
        assert torch.allclose(curvature[..., j], central(jacobians), atol=1e-7)
    last = states[:, -1]
    slope = torch.stack([last[:, 2].cos(), -last[:, 2].sin() * last[:, 0]], -1)
    assert torch.allclose(found.terminal_gradient[:, [0, 2]], 0.9**4 * slope, atol=1e-12)
    assert torch.allclose(found.terminal_hessian[:, 0, 2], -(0.9**4) * last[:, 2].sin(), atol=1e-12)


def test_the_convex_part():
    bent = torch.stack([rows(2.0, -3.0).diag(), rows(2.0, 1.0).diag(), torch.ones(2, 2).double()])
    found = derivatives.convex(bent)
    assert torch.allclose(found[0], rows(2.0, 0.0).diag()) and torch.equal(found[1], bent[1])
    assert torch.allclose(found[2], bent[2])


# Linear-quadratic problems


@BOTH
def test_a_linear_quadratic_problem_takes_one_step(method):
    problem, matrices, start = linear_quadratic()
    found = method().solve(problem, start, still(problem))
    states, actions = follow(matrices, lqr(matrices), start)
    assert found.iterations == 1 and found.converged
    assert torch.allclose(found.actions, actions, atol=1e-10) and torch.allclose(found.states, states, atol=1e-10)
    assert torch.allclose(found.gain, lqr(matrices).gain, atol=1e-10)


@BOTH
def test_the_double_integrator_known_by_heart(method):
    cost = QuadraticCost((1.0, 1.0), (0.1,))
    problem = ControlProblem(DoubleIntegrator(), cost, *unbounded(1), 100, cost.terminal)
    found = method().solve(problem, rows(1.0, 0.0), still(problem))
    assert found.iterations == 1 and found.cost.item() == pytest.approx(13.827049, rel=1e-7)
    assert np.allclose(found.gain[0], [[-2.585307, -3.574717]], rtol=1e-7)


def test_with_the_riccati_value_at_its_end_any_horizon_acts_like_lqr():
    zero = torch.zeros(2, dtype=torch.float64)
    a, b = torch.func.jacrev(DoubleIntegrator(), argnums=(0, 1))(zero, zero[:1])
    best = infinite_horizon_lqr(a, b, torch.eye(2).double(), rows([0.1]))
    cost = QuadraticCost((1.0, 1.0), (0.1,))
    start = rows(1.0, -0.5)
    for horizon in (1, 7):
        problem = ControlProblem(
            DoubleIntegrator(), cost, *unbounded(1), horizon, lambda x: ((x @ best.riccati) * x).sum(-1)
        )
        assert torch.allclose(ILQR().plan(problem, start).actions[0], best.gain @ start, atol=1e-12)


@BOTH
def test_bounds_that_hold(method):
    """The double integrator with a weak motor: against a solver that knows nothing of time."""
    cost = QuadraticCost((1.0, 0.1), (0.01,))
    high = rows(1.0)
    problem = ControlProblem(DoubleIntegrator(), cost, -high, high, 25, cost.terminal)
    start = rows(1.0, 0.5)
    found = method(tolerance=1e-13).solve(problem, start, still(problem))

    def total(flat):
        value, slope = plan_gradient(problem, start, torch.tensor(flat)[:, None])
        return value.item(), slope[:, 0].numpy()

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}
    reference = minimize(total, np.zeros(25), jac=True, method="L-BFGS-B", bounds=[(-1, 1)] * 25, options=options)
    assert found.converged and found.cost.item() == pytest.approx(reference.fun, rel=1e-9)
    held = found.actions.abs() == 1.0
    assert 5 < held.sum() < 25 and (found.actions.abs() <= 1.0).all()
    assert (found.gain[held.squeeze(-1)] == 0).all()  # feedback cannot move what a bound holds
    slope = plan_gradient(problem, start, found.actions)[1]
    assert (slope[~held].abs() < 1e-5).all() and (slope[held] * found.actions[held] < 0).all()


# Curved problems


def errors(method: type, optimum: torch.Tensor, first: torch.Tensor, count: int) -> list[float]:
    """max |u − u*| after 0, 1, 2 … iterations."""
    problem, start = swing_up(), rows(2.0, 0.0)
    runs = [method(iterations=k, tolerance=0.0).solve(problem, start, first).actions for k in range(1, count + 1)]
    return [(actions - optimum).abs().max().item() for actions in [first, *runs]]


def test_ddp_squares_its_error_where_ilqr_shrinks_it(unchecked):
    problem = swing_up()
    optimum = DDP(tolerance=0.0, iterations=50).solve(problem, rows(2.0, 0.0), still(problem)).actions
    noise = torch.randn(optimum.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    newton, gauss_newton = (errors(method, optimum, optimum + 0.05 * noise, 3) for method in (DDP, ILQR))
    assert all(after < 2 * before**2 + 1e-10 for before, after in pairwise(newton)) and newton[-1] < 1e-8
    assert all(0.05 < after / before < 0.9 for before, after in pairwise(gauss_newton[1:]))


@BOTH
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_the_gradient_vanishes_and_costs_never_rise(method, gamma, unchecked):
    problem, start = swing_up(12, gamma), rows([2.0, 0.0], [-1.0, 1.0], [3.0, 2.0])
    found = method(tolerance=1e-12).solve(problem, start, still(problem, 3))
    before = plan_gradient(problem, start, still(problem, 3))[1].abs().max()
    assert found.converged.all() and before > 0.5
    assert plan_gradient(problem, start, found.actions)[1].abs().max() < 1e-4
    assert (found.costs.diff(dim=0) <= 0).all() and torch.equal(found.costs[-1], found.cost)
    assert torch.allclose(found.states, rollout(SMOOTH, start, found.actions), atol=1e-13)
    assert torch.allclose(problem.trajectory_cost(found.states, found.actions), found.cost)
    alone = method(tolerance=1e-12).solve(problem, start[1], still(problem))
    assert torch.allclose(alone.actions, found.actions[1], atol=1e-9) and alone.iterations == found.iterations[1]


def test_feedback_about_the_trajectory_helps_after_a_kick(unchecked):
    """A quadrotor flies sideways; its plan with K recovers from a gust, the plan alone does not."""
    system = PlanarQuadrotor()
    low, high = rows(*system.low), rows(*system.high)
    cost = QuadraticCost((1.0, 1.0, 1.0, 0.1, 0.1, 0.1), (1e-3, 1e-3), final=(100.0,) * 6)

    def about_hover(state, action):
        return cost(state, action - system.hover)

    problem = ControlProblem(system, about_hover, low, high, 80, cost.terminal)
    start = rows(-0.5, 0.2, 0.0, 0.0, 0.0, 0.0)
    found = ILQR().solve(problem, start, torch.full((80, 2), system.hover).double())
    assert found.converged and found.states[-1].abs().max() < 0.05
    state = blind = start + rows(0.0, 0.0, 0.05, 0.1, 0.0, 0.0)
    for t in range(80):
        state = system(state, found.actions[t] + found.gain[t] @ (state - found.states[t]))
        blind = system(blind, found.actions[t])
    assert state.abs().max() < 0.1 and blind.abs().max() > 0.3


def test_cheap_guesses_leave_local_minima(unchecked):
    """Three starts near the top: without torque it falls, and no descent from there finds how to stay."""
    system = Pendulum()
    problem = ControlProblem(system, system.cost, rows(-2.0), rows(2.0), 30)
    start = rows([0.0743, 0.9009], [0.4205, -0.1385], [-0.5003, 0.8517])
    alone, guided = ILQR(iterations=10), ILQR(iterations=10, starts=2)
    plans = [p.plan(problem, start, generator=torch.Generator().manual_seed(0)) for p in (alone, guided)]
    costs = [problem.total(start, plan.actions) for plan in plans]
    assert (costs[0] > 120).all() and (costs[1] < 3).all()


def test_the_best_of_several_starts_is_a_whole_solution(unchecked):
    problem, start = swing_up(8), rows([2.0, 0.0], [-1.0, 1.0], [3.0, 2.0])
    found = DDP(starts=3, guesses=4).best(problem, start, still(problem, 3), torch.Generator().manual_seed(0))
    assert torch.allclose(found.states, rollout(SMOOTH, start, found.actions), atol=1e-12)
    assert torch.allclose(problem.total(start, found.actions), found.cost) and torch.equal(found.costs[-1], found.cost)
    assert found.gain.shape == (3, 8, 1, 2) and found.converged.shape == (3,)


def test_bad_input_is_refused():
    problem = swing_up(5)
    with pytest.raises(ValueError, match="not finite"):
        ILQR().solve(problem, rows(torch.inf, 0.0), still(problem))
    noisy = ControlProblem(SMOOTH, SMOOTH.smooth_cost, *unbounded(1), 5, particles=3)
    with pytest.raises(ValueError, match="DDP: needs dynamics without noise"):
        DDP().solve(noisy, rows(0.0, 0.0), still(noisy))
    for wrong in ({"iterations": 0}, {"armijo": 1.0}, {"damping": 0.0}):
        with pytest.raises(ValueError, match="ILQR"):
            ILQR(**wrong)
