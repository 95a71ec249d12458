from itertools import pairwise

import pytest
import torch

from lit_rl.algorithms.dynamic_programming.policy_iteration import PolicyIteration, evaluate
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.evaluation import policy_value
from tests.algorithms.table_runs import WORLD, fit, model_of, sweeps


@pytest.mark.parametrize("count", [None, 10])
def test_it_settles_on_the_optimum(count, tmp_path):
    agent = PolicyIteration(Env(WORLD + "RandomMDP-v0"), sweeps(8 if count is None else 60), gamma=0.9, sweeps=count)
    fit(agent, tmp_path)
    exact = value_iteration(model_of(agent), 0.9, 1e-12)
    assert torch.allclose(agent.policy.q, exact.q, atol=1e-9) and torch.equal(agent.pi, exact.policy)


def test_values_never_fall(tmp_path):
    values = []
    for rounds in range(1, 5):
        agent = fit(PolicyIteration("FrozenLake-v1", sweeps(rounds), gamma=0.95), tmp_path)
        values.append(agent.value.clone())
    assert all((after >= before - 1e-12).all() for before, after in pairwise(values))
    assert float(model_of(agent).initial @ fit(agent, tmp_path).value) == pytest.approx(0.180472, abs=1e-6)


def test_evaluation_by_sweeps_begins_where_it_was_left():
    agent = PolicyIteration(Env(WORLD + "Grid-v0"))
    model = model_of(agent)
    exact = policy_value(model, agent.pi, 0.9)
    assert torch.allclose(evaluate(model, agent.pi, exact, 0.9, 1), exact) and evaluate(
        model, agent.pi, exact, 0.9, None
    ) == pytest.approx(exact)
    with pytest.raises(ValueError, match="below 1"):
        PolicyIteration("FrozenLake-v1", gamma=1.0)
