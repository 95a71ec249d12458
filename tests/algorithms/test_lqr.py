"""LQR where it is exact, also under noise and discounting, and on a pole that it only linearises."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from lit_rl import LQR, ControlTask, Env, QuadraticCost
from lit_rl.data.episodes import Episodes

INTEGRATOR = "lit_rl.envs.double_integrator:lit_rl/DoubleIntegrator-v0"
BY_HEART = torch.tensor([[13.827049, 3.868012], [3.868012, 4.961518]]).double()


def test_returns_of_the_double_integrator_are_known_by_heart():
    agent = LQR(INTEGRATOR, evaluation=Episodes(20))
    assert torch.allclose(agent.policy.riccati, BY_HEART, atol=1e-6)
    assert agent.policy.gain.numpy() == pytest.approx(np.array([[-2.585307, -3.574717]]), rel=1e-6)
    found = agent.evaluation.open(agent.env, agent.policy).play()
    best = agent.policy.cost_to_go(found.first_obs.double())
    assert -found.returns.numpy() == pytest.approx(best.numpy(), rel=1e-5)


def test_noise_costs_what_the_trace_says_and_changes_no_gain():
    """9.2a: E[cost] = xᵀPx + T σ² tr P − E[x_Tᵀ P x_T], the last being what is still to be paid at the end."""
    agent = LQR(Env(INTEGRATOR, kwargs={"noise": 0.1}), evaluation=Episodes(60))
    assert torch.equal(agent.policy.gain, LQR(INTEGRATOR).policy.gain)
    found = agent.evaluation.open(agent.env, agent.policy).play()
    first, last = (agent.policy.cost_to_go(obs.double()) for obs in (found.first_obs, found.final_obs))
    missed = -found.returns - (first + 100 * 0.01 * BY_HEART.trace() - last)
    assert missed.mean().abs() < 3 * missed.std() / 60**0.5
    assert 100 * 0.01 * BY_HEART.trace() > 10 * missed.std() / 60**0.5  # without it, it would be seen


def test_the_discount_is_that_of_the_agent():
    agent = LQR(INTEGRATOR, gamma=0.8)
    a, b = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.0], [0.1]])
    reference = solve_discrete_are(0.8**0.5 * a, 0.8**0.5 * b, np.eye(2), [[0.1]])
    assert agent.policy.riccati.numpy() == pytest.approx(reference, rel=1e-9)


def test_the_pole_stays_up():
    agent = LQR("CartPole-v1", evaluation=Episodes(10))
    assert agent.policy.gain.numpy() == pytest.approx(np.array([[7.85, 13.83, 90.3, 23.9]]), rel=1e-2)
    found = agent.evaluation.open(agent.env, agent.policy).play()
    assert (found.returns == 500).all()
    hasty = ControlTask(cost=QuadraticCost((1.0, 1.0, 0.001, 1.0), (100.0,)))
    assert not np.allclose(LQR("CartPole-v1", task=hasty).policy.gain, agent.policy.gain, rtol=0.1)


@pytest.mark.parametrize("env", ["CartPole-v1", INTEGRATOR, "Pendulum-v1"])
def test_what_is_exported_is_what_acts(env: str):
    agent = LQR(env)
    obs = np.random.default_rng(0).normal(size=(50, *agent.env.observation_space.shape)).astype(np.float32)
    act = agent.policy.act(obs, np.zeros((50, 0)), np.random.default_rng(0))
    assert np.array_equal(agent.policy(torch.from_numpy(obs)).numpy(), act.action)
    if env != "CartPole-v1":
        assert (np.abs(act.action) <= agent.env.action_space.high).all() and act.action.dtype == np.float32


def test_weights_travel_but_the_physics_come_from_the_recipe():
    agent = LQR("CartPole-v1")
    other = LQR("CartPole-v1", task=replace(agent.task, cost=QuadraticCost((1.0, 1.0, 1.0, 1.0), (1.0,))))
    other.load_state_dict(agent.state_dict())
    assert torch.equal(other.policy.gain, agent.policy.gain)
