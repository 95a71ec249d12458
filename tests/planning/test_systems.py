"""Steps against Gymnasium's environments and known motions, derivatives against finite differences."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from lit_rl.planning.systems.acrobot import Acrobot
from lit_rl.planning.systems.car import Car
from lit_rl.planning.systems.cart_pole import CartPole
from lit_rl.planning.systems.double_integrator import DoubleIntegrator
from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.systems.quadrotor import PlanarQuadrotor
from lit_rl.planning.systems.system import QuadraticCost, System, runge_kutta, wrap

SYSTEMS = [Acrobot(), Car(), CartPole(), DoubleIntegrator(), Pendulum(), Pendulum.smooth(), PlanarQuadrotor()]


SYSTEMS_BY_NAME = {type(system).__name__: system for system in (Acrobot(), CartPole(), Pendulum())}


def rows(*numbers) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def drawn(system: System, batch: tuple[int, ...], scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = scale * torch.randn(*batch, len(system.state_names), generator=generator, dtype=torch.float64)
    high = torch.tensor(system.high, dtype=torch.float64).clamp(max=3.0)
    low = torch.tensor(system.low, dtype=torch.float64).clamp(min=-3.0)
    share = torch.rand(*batch, len(high), generator=generator, dtype=torch.float64)
    return state, low + (high - low) * (0.1 + 0.8 * share)


def test_pendulum_is_the_environment():
    env, system, rng = gymnasium.make("Pendulum-v1").unwrapped, Pendulum(), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(300):  # from anywhere, with torques that are clipped, too
        env.state = rng.uniform([-10, -8], [10, 8])
        state, action = rows(*env.state), torch.tensor(rng.uniform(-3, 3, 1))
        _, reward, *_ = env.step(action.numpy())
        assert np.allclose(system(state, action), env.state, atol=1e-12, rtol=0)
        assert system.cost(state, action).item() == pytest.approx(-reward, abs=1e-10)


def test_cart_pole_is_the_environment():
    env, system, rng = gymnasium.make("CartPole-v1").unwrapped, CartPole(), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(300):
        env.state, env.steps_beyond_terminated = rng.normal(size=4), None
        env.force_mag = rng.uniform(-10, 10)  # action 1 pushes with what we like
        state, action = rows(*env.state), rows(env.force_mag)
        env.step(1)
        assert np.allclose(system(state, action), env.state, atol=1e-12, rtol=0)


def test_acrobot_is_the_environment():
    env, system, rng = gymnasium.make("Acrobot-v1").unwrapped, Acrobot(), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(100):
        env.state = rng.uniform(-1, 1, 4) * [math.pi, math.pi, 12, 25]  # both speeds meet their limits
        env.AVAIL_TORQUE = [rng.uniform(-1, 1)]
        state, action = rows(*env.state), rows(env.AVAIL_TORQUE[0])
        _, _, terminated, *_ = env.step(0)
        found = system(state, action)
        assert np.allclose(found, env.state, atol=1e-9, rtol=0)
        assert terminated == (system.height(found).item() > 1.0)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: type(system).__name__)
def test_derivatives_against_finite_differences(system):
    state, action = (x.requires_grad_() for x in drawn(system, (2,), 0.5))
    assert gradcheck(system, (state, action), atol=1e-6, fast_mode=True)
    assert gradgradcheck(system, (state, action), atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: type(system).__name__)
def test_leading_dimensions_and_dtype(system):
    state, action = drawn(system, (2, 3))
    found = system(state, action)
    assert found.shape == state.shape and found.dtype == torch.float64
    assert torch.equal(found[1, 2], system(state[1, 2], action[1, 2]))
    assert system(state.float(), action.float()).dtype == torch.float32
    beyond = torch.tensor(system.high, dtype=torch.float64)
    if beyond.isfinite().all():
        assert torch.equal(system(state, (beyond + 1).expand_as(action)), system(state, beyond.expand_as(action)))
        edge = beyond.clone().requires_grad_()
        (slope,) = torch.autograd.grad(system.clip(edge).sum(), edge)
        assert (slope == 1).all()  # a bound that is met does not hide what lies within


def test_a_double_integrator_by_hand():
    found = DoubleIntegrator(dt=0.5)(rows(1.0, 2.0), rows(4.0))
    assert found.tolist() == [1.0 + 0.5 * 2.0, 2.0 + 0.5 * 4.0]


def test_the_pendulum_loses_no_energy_but_for_the_step():
    drift = []
    for dt in (0.01, 0.005):
        system = Pendulum(dt=dt, max_speed=math.inf)
        state = rows(2.0, 0.0)
        for _ in range(int(1.0 / dt)):
            state = system(state, rows(0.0))
        energy = state[1].square() / 6 + 5.0 * state[0].cos()  # I/2 θ̇² + m g l/2 cos θ, I = m l²/3
        drift.append(abs(energy.item() - 5.0 * math.cos(2.0)))
    assert drift[0] < 0.1 and drift[1] < 0.6 * drift[0]


def test_the_quadrotor_hovers_falls_and_turns():
    system = PlanarQuadrotor()
    still = torch.zeros(6, dtype=torch.float64)
    assert torch.allclose(system(still, rows(system.hover, system.hover)), still, atol=1e-15)
    fallen = system(still, rows(0.0, 0.0))
    assert torch.allclose(fallen[[1, 4]], rows(-0.5 * 9.81 * 0.02**2, -9.81 * 0.02))
    turned = system(still, rows(system.hover + 0.1, system.hover - 0.1))
    assert turned[5].item() == pytest.approx(0.02 * 0.25 * 0.2 / 0.004) and turned[3] < 0  # right up, goes left


def test_the_car_drives_a_circle():
    system = Car(dt=0.01)
    speed, steering = 3.0, 0.3
    radius = 2.0 / math.tan(steering)
    state = rows(0.0, 0.0, 0.0, speed)
    for _ in range(200):
        state = system(state, rows(0.0, steering))
    turned = 2.0 * speed / radius
    assert torch.allclose(state, rows(radius * math.sin(turned), radius * (1 - math.cos(turned)), turned, speed))
    with pytest.raises(ValueError, match="max_steering"):
        Car(max_steering=2.0)


def test_runge_kutta_is_of_fourth_order():
    def error(dt: float) -> float:
        state = rows(1.0)
        for _ in range(round(1 / dt)):
            state = runge_kutta(lambda x, u: u * x, state, rows(-1.0), dt)
        return abs(state.item() - math.exp(-1))

    assert error(0.1) / error(0.05) == pytest.approx(16, rel=0.1)


def test_wrap_and_quadratic_cost():
    assert torch.allclose(wrap(rows(0.0, math.pi, -math.pi, 7.0)), rows(0.0, -math.pi, -math.pi, 7 - 2 * math.pi))
    cost = QuadraticCost((1.0, 2.0), (0.5,), goal=(1.0, 0.0), final=(10.0, 0.0))
    assert cost(rows(3.0, 1.0), rows(2.0)).item() == 4 + 2 + 2
    assert cost.terminal(rows(3.0, 1.0)).item() == 40
    assert QuadraticCost((1.0, 2.0), (0.5,)).terminal(rows(3.0, 1.0)).item() == 11
    with pytest.raises(ValueError, match="goal has 1 numbers"):
        QuadraticCost((1.0, 2.0), (0.5,), goal=(1.0,))


@pytest.mark.parametrize("name", ["Pendulum", "Acrobot", "CartPole"])
def test_what_is_observed_is_what_the_environment_shows(name):
    env, system = gymnasium.make(f"{name}-v1").unwrapped, SYSTEMS_BY_NAME[name]
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        state = rows(*env.state)
        assert np.allclose(system.observe(state), obs, atol=1e-6)
        assert np.allclose(system.state_of(torch.tensor(obs).double()), state, atol=1e-6)
    assert len(system.choices) == getattr(env.action_space, "n", 0)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: type(system).__name__)
def test_states_lose_whole_turns_and_nothing_else(system):
    state, _ = drawn(system, (50,), scale=4.0)
    again = system.wrapped(state)
    assert torch.allclose(system.observe(again), system.observe(state), atol=1e-12)
    turns = (state - again) / (2 * math.pi)
    assert torch.allclose(turns, turns.round(), atol=1e-12)
