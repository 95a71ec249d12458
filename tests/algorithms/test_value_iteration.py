import pytest
import torch

from lit_rl.algorithms.dynamic_programming.value_iteration import ValueIteration, bellman_target
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import policy_iteration
from lit_rl.planning.model import Model
from tests.algorithms.table_runs import WORLD, fit, model_of, sweeps


def test_the_target_by_hand():
    # Action 0 stays (pays 1), action 1 ends (pays 4): y = 1 + 0.5 · max(2, 3) = 2.5, and 4.
    model = Model(torch.tensor([[[1.0], [0.0]]]).double(), torch.tensor([[1.0, 4.0]]).double(), torch.ones(1).double())
    target = bellman_target(model, torch.tensor([[2.0, 3.0]]).double(), 0.5)
    assert target.tolist() == [[2.5, 4.0]]


@pytest.mark.parametrize(
    ("env", "value"),
    [
        ("FrozenLake-v1", 0.542026),
        (Env("FrozenLake-v1", kwargs={"map_name": "8x8"}), 0.414640),
        ("Taxi-v4", 6.32746),
        ("CliffWalking-v1", -12.2479),
    ],
)
def test_it_reaches_the_optimum_in_gymnasium_s_own_worlds(env, value, tmp_path):
    agent = fit(ValueIteration(env, sweeps(1500)), tmp_path)
    model = model_of(agent)
    exact = policy_iteration(model, 0.99).q
    assert torch.allclose(agent.policy.q, exact, atol=1e-4 if "Frozen" in agent.env.id else 1e-8)
    assert float(model.initial @ agent.policy.q.amax(-1)) == pytest.approx(value, abs=1e-4)
    assert agent.updates == agent.env_steps == 1500


def test_sweeps_are_the_functions_and_shorter_steps_get_there_too(tmp_path):
    env = Env(WORLD + "Grid-v0")
    agent = fit(ValueIteration(env, sweeps(3), gamma=0.9), tmp_path)
    model = model_of(agent)
    q = torch.zeros_like(model.reward)
    for _ in range(3):
        q = bellman_target(model, q, 0.9)
    assert torch.allclose(agent.policy.q, q, atol=1e-15)
    slow = fit(ValueIteration(env, sweeps(400), gamma=0.9, step_size=0.5), tmp_path)
    assert torch.allclose(slow.policy.q, policy_iteration(model, 0.9).q, atol=1e-8)


def test_what_has_no_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs Discrete"):
        ValueIteration("CartPole-v1")
    with pytest.raises(ValueError, match="no table"):
        fit(ValueIteration("lit_rl.envs.toy:lit_rl/Identity-v0"), tmp_path)
