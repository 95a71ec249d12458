import numpy as np
import pytest
import torch

from lit_rl.algorithms.dynamic_programming.soft_value_iteration import SoftValueIteration, soft_target
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import policy_iteration
from lit_rl.planning.inference import soft_value_iteration, uniform_prior
from lit_rl.planning.model import Model
from tests.algorithms.table_runs import WORLD, fit, model_of, sweeps


def test_the_target_by_hand():
    # One state, both actions stay: y = r + 0.5 · log(e¹ + e¹) = r + 0.5 (1 + log 2).
    model = Model(torch.ones(1, 2, 1).double(), torch.tensor([[0.0, 2.0]]).double(), torch.ones(1).double())
    target = soft_target(model, torch.ones(1, 2).double(), 0.5, 1.0, None)
    assert target[0].tolist() == pytest.approx([0.5 * (1 + np.log(2)), 2 + 0.5 * (1 + np.log(2))])
    assert soft_target(model, torch.ones(1, 2).double(), 0.5, 1.0, uniform_prior(model))[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("prior", ["none", "uniform"])
def test_it_reaches_the_soft_fixed_point_and_acts_by_it(prior, tmp_path):
    agent = fit(SoftValueIteration(Env(WORLD + "Grid-v0"), sweeps(400), 0.9, 0.3, prior), tmp_path)
    model = model_of(agent)
    exact = soft_value_iteration(model, 0.9, 0.3, uniform_prior(model) if prior == "uniform" else None, 1e-12)
    assert torch.allclose(agent.policy.q, exact.q, atol=1e-8)
    states = np.arange(15)
    assert np.allclose(agent.policy.distribution(states), exact.policy[:15], atol=1e-8)
    act = agent.policy.act(states.repeat(2000), np.zeros((30_000, 0), np.float32), np.random.default_rng(0))
    often = np.stack([np.bincount(row, minlength=4) / 2000 for row in act.action.reshape(15, 2000)])
    assert np.abs(often - exact.policy[:15].numpy()).max() < 5 * 0.5 / 2000**0.5
    assert np.allclose(np.exp(act.log_prob), exact.policy.numpy()[states.repeat(2000), act.action], atol=1e-6)


def test_the_lottery_is_left_and_cold_is_hard(tmp_path):
    agent = fit(SoftValueIteration(Env(WORLD + "Lottery-v0"), sweeps(5), 1.0, 1.0, "uniform"), tmp_path)
    assert agent.policy.q[0].tolist() == pytest.approx([-5.0, -1.0])
    cold = fit(SoftValueIteration("FrozenLake-v1", sweeps(1500), temperature=1e-5), tmp_path)
    hard = policy_iteration(model_of(cold), 0.99)
    assert torch.allclose(cold.policy.q, hard.q, atol=2e-3)
