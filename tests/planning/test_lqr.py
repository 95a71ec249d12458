"""LQR against one dense solve, against Riccati's equation, and, with noise, against enumeration by sampling."""

import gymnasium
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from lit_rl.planning.lqr import (
    LinearPolicy,
    LinearQuadratic,
    follow,
    infinite_horizon_lqr,
    lqr,
    state_marginals,
    trajectory_cost,
    value_at,
)
from lit_rl.planning.systems.cart_pole import CartPole
from lit_rl.planning.systems.double_integrator import DoubleIntegrator

S, A, H = 3, 2, 5
EYE = torch.eye(2, dtype=torch.float64)


def psd(generator: torch.Generator, *shape: int) -> torch.Tensor:
    root = torch.randn(*shape, shape[-1], generator=generator, dtype=torch.float64)
    return root @ root.mT + 0.1 * torch.eye(shape[-1], dtype=torch.float64)


def drawn(*batch: int, seed: int = 0) -> tuple[LinearQuadratic, torch.Tensor]:
    """Time-varying, with cross terms, linear terms and offsets; and where to start."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    problem = LinearQuadratic(
        dynamics=0.6 * normal(H, S, S + A),
        offset=normal(H, S),
        hessian=psd(generator, *batch, H, S + A),
        gradient=normal(H, S + A),
        terminal_hessian=psd(generator, *batch, S),
        terminal_gradient=normal(S),
    )
    return problem, normal(S)


def roll(problem: LinearQuadratic, start: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    states = [start]
    for t in range(H):
        both = torch.cat([states[-1], actions[..., t, :]], -1)
        states.append((problem.dynamics[..., t, :, :] @ both[..., None])[..., 0] + problem.offset[..., t, :])
    return torch.stack(states, -2)


@pytest.mark.parametrize("seed", range(3))
def test_the_dense_quadratic_programme(seed):
    """J(U) is one quadratic in all actions: its Hessian and gradient at 0, one solve."""
    problem, start = drawn(seed=seed)

    def total(flat: torch.Tensor) -> torch.Tensor:
        actions = flat.view(H, A)
        return trajectory_cost(problem, roll(problem, start, actions), actions)

    zero = torch.zeros(H * A, dtype=torch.float64)
    hessian, gradient = torch.func.hessian(total)(zero), torch.func.grad(total)(zero)
    best = -torch.linalg.solve(hessian, gradient)
    policy = lqr(problem)
    states, actions = follow(problem, policy, start)
    assert torch.allclose(actions.flatten(), best, atol=1e-12, rtol=1e-12)
    assert torch.allclose(states, roll(problem, start, actions), atol=1e-13)
    cost = trajectory_cost(problem, states, actions)
    assert cost.item() == pytest.approx(total(best).item(), rel=1e-13)


def test_cost_to_go_is_what_is_still_to_be_paid():
    problem, start = drawn(4)
    policy = lqr(problem)
    states, actions = follow(problem, policy, start)
    expected = value_at(policy.value, states)
    for t in range(H + 1):
        rest = LinearQuadratic(*(part[:, t:] for part in problem[:4]), *problem[4:])
        assert torch.allclose(trajectory_cost(rest, states[:, t:], actions[:, t:]), expected[:, t], rtol=1e-11)


def test_every_problem_of_a_batch_is_solved_by_itself():
    problem, start = drawn(2, 3)
    policy = lqr(problem)
    _, actions = follow(problem, policy, start)
    assert policy.gain.shape == (2, 3, H, A, S) and policy.value.constant.shape == (2, 3, H + 1)
    alone = LinearQuadratic(*(part[1, 2] for part in problem))
    assert torch.allclose(follow(alone, lqr(alone), start[1, 2])[1], actions[1, 2], atol=1e-12)


def test_any_other_action_costs_more():
    problem, start = drawn(64)
    policy = lqr(problem)
    best = value_at(policy.value, follow(problem, policy, start)[0])[:, 0]
    actions = follow(problem, policy, start)[1]
    worse = actions + 0.01 * torch.randn(actions.shape, generator=torch.Generator().manual_seed(0)).double()
    assert (trajectory_cost(problem, roll(problem, start, worse), worse) > best).all()


def test_long_horizons_settle_on_the_riccati_equation():
    generator = torch.Generator().manual_seed(3)
    a, b = (0.8 * torch.randn(3, n, generator=generator, dtype=torch.float64) for n in (3, 2))
    cost = psd(generator, 5)
    reference = solve_discrete_are(a, b, cost[:3, :3], cost[3:, 3:], s=cost[:3, 3:])
    exact = infinite_horizon_lqr(a, b, cost[:3, :3], cost[3:, 3:], cost[:3, 3:])
    assert np.abs(exact.riccati.numpy() - reference).max() < 1e-10 * np.abs(reference).max()
    steps = 200
    zero = torch.zeros(5, dtype=torch.float64)
    problem = LinearQuadratic(
        torch.cat([a, b], -1).expand(steps, 3, 5),
        zero[:3].expand(steps, 3),
        cost.expand(steps, 5, 5),
        zero.expand(steps, 5),
        torch.zeros(3, 3, dtype=torch.float64),
        zero[:3],
    )
    policy = lqr(problem)
    assert np.abs(policy.value.hessian[0].numpy() - reference).max() < 1e-10 * np.abs(reference).max()
    assert torch.allclose(policy.gain[0], exact.gain, atol=1e-10)


def test_the_double_integrator_known_by_heart():
    system = DoubleIntegrator(dt=0.1)
    zero = torch.zeros(2, dtype=torch.float64)
    a, b = torch.func.jacrev(system, argnums=(0, 1))(zero, zero[:1])
    policy = infinite_horizon_lqr(a, b, EYE, 0.1 * EYE[:1, :1])
    assert np.allclose(policy.riccati, [[13.827049, 3.868012], [3.868012, 4.961518]], rtol=1e-7)
    assert np.allclose(policy.gain, [[-2.585307, -3.574717]], rtol=1e-7)
    reference = solve_discrete_are(a, b, EYE, 0.1 * EYE[:1, :1])
    assert np.allclose(policy.riccati, reference, rtol=1e-10, atol=0)
    several = infinite_horizon_lqr(a.expand(3, 2, 2), b, EYE, 0.1 * EYE[:1, :1])
    assert torch.allclose(several.riccati[2], policy.riccati, rtol=1e-13)


def test_the_linearised_cart_pole_never_falls():
    """One hundred episodes of 500 steps in the environment, which knows but two forces: their sign must do."""
    zero = torch.zeros(4, dtype=torch.float64)
    a, b = torch.func.jacrev(CartPole(), argnums=(0, 1))(zero, zero[:1])
    weights = torch.tensor([1.0, 1.0, 10.0, 1.0], dtype=torch.float64).diag()
    gain = infinite_horizon_lqr(a, b, weights, torch.tensor([[0.01]], dtype=torch.float64)).gain[0].numpy()
    assert np.allclose(gain, [7.85, 13.83, 90.3, 23.9], rtol=1e-2)
    env = gymnasium.make("CartPole-v1").unwrapped
    for seed in range(100):
        state, _ = env.reset(seed=seed)
        for _ in range(500):
            state, _, terminated, *_ = env.step(int(gain @ state > 0))
            assert not terminated


@pytest.mark.parametrize(("b", "r"), [([[1.0], [0.0]], 0.0), ([[0.0], [0.0]], 1.0)])
def test_what_cannot_be_solved_is_refused(b, r):
    a, b, r = 1.5 * EYE, torch.tensor(b).double(), torch.tensor([[r]]).double()
    with pytest.raises(ValueError, match="infinite_horizon_lqr"):
        infinite_horizon_lqr(a, b, EYE, r)
    problem, _ = drawn()
    free = problem._replace(hessian=torch.zeros_like(problem.hessian), terminal_hessian=torch.zeros(S, S).double())
    with pytest.raises(ValueError, match="Q_uu of step 4 is not positive definite"):
        lqr(free)


# Noise


def noisy(samples: int) -> tuple[LinearQuadratic, torch.Tensor, torch.Tensor, torch.Tensor]:
    problem, start = drawn(seed=1)
    generator = torch.Generator().manual_seed(7)
    covariance = psd(generator, H, S)
    white = torch.randn(samples, H, S, generator=generator, dtype=torch.float64)
    noise = (torch.linalg.cholesky(covariance) @ white[..., None])[..., 0]
    return problem, start, covariance, noise


def test_noise_adds_to_the_constant_alone():
    problem, start, covariance, noise = noisy(20_000)
    plain, policy = lqr(problem), lqr(problem, covariance)
    assert torch.equal(plain.gain, policy.gain) and torch.equal(plain.feedforward, policy.feedforward)
    states, actions = follow(problem, policy, start, noise)
    costs = trajectory_cost(problem, states, actions)
    expected = value_at(policy.value, states[0])[0]
    error = costs.std() / len(costs) ** 0.5
    assert abs(costs.mean() - expected) < 3 * error
    assert expected - value_at(plain.value, states[0])[0] > 20 * error  # without Σ it would be seen


def test_looking_beats_replaying():
    """9.0a: with noise the closed loop costs less than the best fixed sequence of actions."""
    problem, start, covariance, noise = noisy(2_000)
    policy = lqr(problem, covariance)
    planned = follow(problem, policy, start)[1]
    blind = LinearPolicy(torch.zeros_like(policy.gain), planned, policy.value)
    closed, opened = (trajectory_cost(problem, *follow(problem, p, start, noise)) for p in (policy, blind))
    gap = opened - closed
    assert gap.mean() > 5 * gap.std() / len(gap) ** 0.5


def test_marginals_of_the_state():
    problem, start, covariance, noise = noisy(50_000)
    policy = lqr(problem, covariance)
    means, covariances = state_marginals(problem, policy, start, torch.zeros(S, S).double(), covariance)
    states, _ = follow(problem, policy, start, noise)
    assert torch.allclose(means[0], start) and (covariances[0] == 0).all()
    for t in range(1, H + 1):
        deviation = covariances[t].diagonal().sqrt()
        assert ((states[:, t].mean(0) - means[t]).abs() < 4 * deviation / 50_000**0.5).all()
        assert torch.allclose(torch.cov(states[:, t].T), covariances[t], atol=0.04 * deviation.max() ** 2)
