import numpy as np
import pytest
import torch

from lit_rl.algorithms.inverse.max_margin import MaxMargin, feature_expectation
from lit_rl.data.demonstrations import Demonstrations
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.evaluation import greedy, policy_value
from tests.algorithms.table_runs import WORLD, fit, model_of


def test_features_by_hand():
    # One demonstration: state 0 with action 1, then state 1 with action 0; γ = ½.
    visits = torch.zeros(2, 2, 2).double()
    visits[0, 0, 1] = visits[1, 1, 0] = 1.0
    assert feature_expectation(visits, 0.5, False).tolist() == [1.0, 0.5]
    assert feature_expectation(visits, 0.5, True).tolist() == [0.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("method", ["projection", "qp", "svm"])
def test_the_expert_is_matched_without_its_reward(method, tmp_path):
    env = Env(WORLD + "Grid-v0", kwargs={"size": 4, "slip": 0.1})
    data = Demonstrations(horizon=30, episodes=None, steps_per_epoch=25, steps_per_batch=25)
    agent = fit(MaxMargin(env, data, 0.9, method), tmp_path)
    expert = data.open(env, agent.policy, 0.9, 0).expert
    wanted = feature_expectation(expert.visits, 0.9, False)
    gap = float((wanted - agent.reached).norm())
    assert gap < 0.05 * float(wanted.norm())
    true = torch.randn(16, generator=torch.Generator().manual_seed(0)).double()
    true /= true.norm()
    assert abs(float(true @ (wanted - agent.reached))) <= gap + 1e-12  # (1), for any reward of the features
    model = model_of(agent)
    value = policy_value(model, greedy(agent.policy.q), 0.9)[0]
    assert value >= 0.8 * value_iteration(model, 0.9).value[0]


def test_projection_comes_nearer_with_every_policy(tmp_path):
    env = Env(WORLD + "RandomMDP-v0", kwargs={"states": 6, "actions": 3})
    gaps = []
    for updates in (1, 3, 10, 30):
        data = Demonstrations(horizon=20, episodes=None, steps_per_epoch=updates, steps_per_batch=updates)
        agent = fit(MaxMargin(env, data, 0.9), tmp_path)
        expert = feature_expectation(data.open(env, agent.policy, 0.9, 0).expert.visits, 0.9, False)
        gaps.append(float((expert - agent.reached).norm()))
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.05 * gaps[0] + 1e-9


def test_policies_are_as_many_as_asked_for(tmp_path):
    data = Demonstrations(horizon=5, steps_per_epoch=9, steps_per_batch=9)
    agent = fit(MaxMargin(Env(WORLD + "RandomMDP-v0"), data, policies=4), tmp_path)
    assert int(agent.count) == 4 and agent.found[3].any()
    assert np.isfinite(float(agent.nearest))
