"""The sampling and gradient planners on problems whose optimum is known."""

import pytest
import torch

from lit_rl.planning.gradient_shooting import GradientShooting, plan_gradient
from lit_rl.planning.mppi import MPPI, path_integral_update
from lit_rl.planning.planner import Planner
from lit_rl.planning.shooting import CEM, CMAES, ICEM, RandomShooting
from lit_rl.planning.trajectory import ControlProblem, rollout, shift

HORIZON = 5
A = torch.tensor([[1.0, 0.1], [0.0, 1.0]], dtype=torch.float64)
B = torch.tensor([[0.005], [0.1]], dtype=torch.float64)
STATES = torch.tensor([[1.0, 0.0], [-0.5, 1.0], [0.0, -2.0]], dtype=torch.float64)

# planner, and by which part of the optimal cost it may miss it
PLANNERS: dict[str, tuple[Planner, float]] = {
    "random": (RandomShooting(20_000), 0.1),
    "random_gaussian": (RandomShooting(4000, 0.3), 0.1),
    "cem": (CEM(30, 200, 20), 1e-4),
    "cem_best": (CEM(30, 200, 20, return_mean=False), 1e-4),
    "icem": (ICEM(20, 200, exponent=0.5), 1e-4),
    "cma_es": (CMAES(80), 1e-4),
    "mppi": (MPPI(500, 30, 0.01, 0.1), 0.01),
    "gradient": (GradientShooting(2, 150), 1e-4),
}


def problem(bound: float = 8.0, horizon: int = HORIZON, **more) -> ControlProblem:
    """The double integrator with Q = I, R = 0.1 and a terminal cost."""
    return ControlProblem(
        lambda x, u: x @ A.T + u @ B.T,
        lambda x, u: x.square().sum(-1) + 0.1 * u.square().sum(-1),
        torch.tensor([-bound], dtype=torch.float64),
        torch.tensor([bound], dtype=torch.float64),
        horizon,
        lambda x: 10 * x.square().sum(-1),
        **more,
    )


def optimum(of: ControlProblem, state: torch.Tensor) -> torch.Tensor:
    """J is quadratic in U: its gradients at 0 and at the unit plans are all there is to know."""
    units = torch.eye(of.horizon, dtype=torch.float64).unsqueeze(-1)
    best = []
    for start in state:
        _, at = plan_gradient(of, start, torch.cat([torch.zeros_like(units[:1]), units]))
        gradient, curvature = at[0, :, 0], at[1:, :, 0] - at[0, :, 0]
        best.append(-torch.linalg.solve(curvature, gradient).unsqueeze(-1))
    return torch.stack(best)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", PLANNERS)
def test_the_optimum_of_a_linear_quadratic_problem(name):
    planner, tolerance = PLANNERS[name]
    of = problem()
    exact = optimum(of, STATES)
    assert (exact.abs() < 8.0).all()
    least = of.total(STATES, exact)
    plan = planner.plan(of, STATES, generator=generator())
    missed = (of.total(STATES, plan.actions) - least) / least
    assert (missed > -1e-9).all() and (missed < tolerance).all(), missed
    assert torch.equal(plan.memory.actions[:, :-1], plan.actions[:, 1:])
    assert plan.memory.kept.shape == (3, planner.remembered, HORIZON, 1)


@pytest.mark.parametrize("name", PLANNERS)
def test_bounds_batches_and_seeds(name):
    """Tight bounds hold and are used; two leading dimensions are as good as one; a seed says everything."""
    planner, _ = PLANNERS[name]
    of = problem(bound=0.5)
    plan = planner.plan(of, STATES, generator=generator(3))
    assert plan.actions.abs().max() <= 0.5 and plan.actions[0, 0] < -0.2
    states = STATES[:2].reshape(2, 1, 2)
    one, same = (planner.plan(of, states, generator=generator(4)) for _ in range(2))
    flat = planner.plan(of, STATES[:2], generator=generator(4))
    assert one.actions.shape == (2, 1, HORIZON, 1) and torch.equal(one.actions, same.actions)
    assert torch.equal(one.actions[:, 0], flat.actions)
    before = torch.get_rng_state()
    planner.plan(of, states, generator=generator(4))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["random_gaussian", "cem", "icem", "mppi", "gradient"])
def test_the_memory_of_the_last_plan_helps(name):
    """With hardly any samples, ten plans from one state get better only where each begins from the last."""
    small = {
        "random_gaussian": RandomShooting(20, 0.05),
        "cem": CEM(2, 20, 5, deviation=0.05),
        "icem": ICEM(2, 20, elites=5, keep=2, deviation=0.05),
        "mppi": MPPI(20, 1, 0.1, 0.05),
        "gradient": GradientShooting(1, 3),
    }[name]
    of, draws = problem(), generator()
    memory, costs = None, []
    for _ in range(10):
        plan = small.plan(of, STATES, memory, draws)
        memory = plan.memory._replace(actions=plan.actions)  # the same state again: not moved on
        costs.append(of.total(STATES, plan.actions).sum())
    assert costs[-1] < costs[0] - 0.5 * (costs[0] - of.total(STATES, optimum(of, STATES)).sum())


def test_receding_horizon_repeats_the_closed_loop_optimum():
    """At the last step of an LQ problem's horizon u = K x; here H = 1 in a loop equals its closed form."""
    of = problem(bound=20.0, horizon=1)
    state = STATES
    for _ in range(3):
        plan = CEM(20, 100, 10).plan(of, state, generator=generator())
        k = -torch.linalg.solve(0.1 + 10 * B.T @ B, 10 * B.T @ A)
        assert torch.allclose(plan.actions[:, 0], state @ k.T, atol=1e-4)
        state = of.dynamics(state, plan.actions[:, 0])


def test_gradient_adjoint_and_differences():
    """(1) of gradient shooting, written out for a nonlinear model, and central differences."""

    def f(x, u):
        return torch.stack([x[..., 0] + 0.1 * x[..., 1], x[..., 1] + 0.1 * (x[..., 0].sin() + u[..., 0])], -1)

    def cost(x, u):
        return x[..., 0].cos() + 0.1 * x[..., 1] ** 2 + 0.01 * u[..., 0] ** 4

    bound = torch.ones(1, dtype=torch.float64)
    of = ControlProblem(f, cost, -bound, bound, 6, lambda x: x.square().sum(-1))
    actions = torch.randn(6, 1, generator=generator(), dtype=torch.float64)
    total, slope = plan_gradient(of, STATES[0], actions)
    states = rollout(f, STATES[0], actions)
    adjoint, by_hand = 2 * states[-1], []
    for t in reversed(range(6)):
        fx, fu = torch.func.jacrev(f, (0, 1))(states[t], actions[t])
        cx, cu = torch.func.grad(cost, (0, 1))(states[t], actions[t])
        by_hand.append(cu + fu.T @ adjoint)
        adjoint = cx + fx.T @ adjoint
    assert torch.allclose(slope, torch.stack(by_hand[::-1]), atol=1e-12)
    for t in range(6):
        step = torch.zeros_like(actions)
        step[t] = 1e-6
        difference = (of.total(STATES[0], actions + step) - of.total(STATES[0], actions - step)) / 2e-6
        assert slope[t, 0].item() == pytest.approx(difference.item(), abs=1e-7)
    assert total == of.total(STATES[0], actions)


@pytest.mark.parametrize("control_cost", [False, True])
def test_mppi_is_a_posterior_mean(control_cost):
    """J = ½ (v − g)²/τ: prior N(u, s²), or N(0, s²) with the control term, times exp(−J/λ) is Gaussian."""
    u, s, g, tau, temperature = 0.4, 0.7, 1.5, 0.8, 0.6
    noise = s * torch.randn(1, 400_000, 1, generator=generator(), dtype=torch.float64)
    mean = torch.full((1, 1), u, dtype=torch.float64)
    cost = 0.5 * (u + noise[..., 0] - g) ** 2 / tau
    found = path_integral_update(mean, noise, cost, torch.tensor([s], dtype=torch.float64), temperature, control_cost)
    weight = s**2 / (s**2 + tau * temperature)
    prior = 0.0 if control_cost else u
    assert found.item() == pytest.approx(prior + weight * (g - prior), abs=5e-3)


def test_mppi_between_its_limits():
    """λ → 0: the cheapest candidate; λ → ∞: U unchanged, or the prior's mean 0 with the control term."""
    noise = torch.randn(1, 200_000, 2, generator=generator(), dtype=torch.float64)
    mean, unit = torch.tensor([[0.3, -0.2]], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    cost = (mean[:, None] + noise - 1.0).square().sum(-1)
    cold = path_integral_update(mean, noise, cost, unit, 1e-9, control_cost=False)
    assert torch.allclose(cold[0], mean[0] + noise[0, cost[0].argmin()])
    assert torch.allclose(path_integral_update(mean, noise, cost, unit, 1e9, False), mean, atol=0.02)
    assert path_integral_update(mean, noise, cost, unit, 1e9, True).abs().max() < 0.02
    cost[:] = torch.inf
    assert torch.equal(path_integral_update(mean, noise, cost, unit, 1.0), mean)


def test_random_shooting_finds_the_best_of_its_grid():
    """Bang-bang actions of 4 steps: with enough samples the cheapest of 16 corners' basins is found."""
    of = problem(bound=0.3, horizon=4)
    corners = 0.3 * (2.0 * torch.cartesian_prod(*[torch.arange(2)] * 4).double() - 1.0)
    exhaustive = of.total(STATES[:1], corners.unsqueeze(-1)).min()
    plan = RandomShooting(20_000).plan(of, STATES[:1], generator=generator())
    assert of.total(STATES[:1], plan.actions).item() <= exhaustive.item() + 0.01 * exhaustive.abs().item()
    costs = [
        of.total(STATES, RandomShooting(n).plan(of, STATES, generator=generator()).actions).mean()
        for n in (4, 64, 4096)
    ]
    assert costs[0] > costs[1] > costs[2]


def test_particles_average_over_a_stochastic_model():
    """x' = x + u e with e ~ N(0, 1), cost x'² − u: E J = u² − u, whose argmin ½ one particle misses."""
    draws = generator()

    def noisy(x, u):
        return x + u * torch.randn(x.shape, generator=draws, dtype=x.dtype)

    bound = torch.ones(1, dtype=torch.float64)
    of = ControlProblem(noisy, lambda x, u: -u[..., 0], -bound, bound, 1, lambda x: x[..., 0] ** 2, particles=2000)
    state = torch.zeros(1, 1, dtype=torch.float64)
    assert CEM(8, 50, 5).plan(of, state, generator=generator()).actions.item() == pytest.approx(0.5, abs=0.05)


def test_costs_discount_broadcast_and_numbers():
    of = problem(gamma=0.5, horizon=2)
    actions = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    x0 = STATES[0]
    x1 = A @ x0 + B[:, 0]
    x2 = A @ x1 + 2 * B[:, 0]
    by_hand = (x0 @ x0 + 0.1) + 0.5 * (x1 @ x1 + 0.4) + 0.25 * 10 * (x2 @ x2)
    assert of.total(x0, actions).item() == pytest.approx(by_hand.item(), abs=1e-12)
    many = of.total(STATES.unsqueeze(1), actions.expand(3, 7, 2, 1))
    assert many.shape == (3, 7) and many[0, 0] == of.total(x0, actions)
    assert torch.equal(shift(actions), actions[[1, 1]])
    broken = problem()
    object.__setattr__(broken, "terminal", lambda x: torch.where(x[..., 0] > 1.5, torch.nan, 10 * x.square().sum(-1)))
    for planner in (CEM(5, 50, 5), MPPI(50), RandomShooting(50), GradientShooting(2, 5), ICEM(3, 30), CMAES(3)):
        plan = planner.plan(broken, STATES, generator=generator())
        assert plan.actions.isfinite().all() and broken.total(STATES, plan.actions).isfinite().all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="below high"):
        problem(bound=-1.0)
    with pytest.raises(ValueError, match=r"ControlProblem\.horizon is 0"):
        problem(horizon=0)
    with pytest.raises(ValueError, match="elites is 30 of 20"):
        CEM(samples=20, elites=30)
    with pytest.raises(ValueError, match="keep 11"):
        ICEM(keep=11)
    with pytest.raises(ValueError, match=r"MPPI\.temperature is 0"):
        MPPI(temperature=0.0)
    with pytest.raises(ValueError, match="white noise only"):
        MPPI(control_cost=True, exponent=1.0)
    with pytest.raises(ValueError, match=r"the memory is of shape \[3, 5, 1\], not \[3, 4, 1\]"):
        CEM().plan(problem(horizon=4), STATES, CEM().fresh(problem(), 3))
    endless = torch.full((1,), torch.inf, dtype=torch.float64)
    unbounded = ControlProblem(problem().dynamics, problem().cost, -endless, endless, 3)
    with pytest.raises(ValueError, match="need bounds"):
        RandomShooting().plan(unbounded, STATES)
    assert CEM().plan(unbounded, STATES, generator=generator()).actions.isfinite().all()


def test_without_pycma_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lit_rl.planning.cma_es.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"CMAES needs pycma.*pip install 'lit_rl\[cma\]'"):
        CMAES()
