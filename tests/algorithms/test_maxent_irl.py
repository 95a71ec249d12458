import numpy as np
import pytest
import torch

from lit_rl.algorithms.inverse.maxent_irl import MaxEntIRL, expected_visits, irl_gradient
from lit_rl.data.demonstrations import Demonstrations, absorbing
from lit_rl.envs.finite_mdp import random_mdp
from lit_rl.envs.recipe import Env
from lit_rl.optimizer import Optimizer
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.evaluation import greedy, policy_value
from lit_rl.planning.inference import backward_messages, log_evidence, posterior_policy, soft_horizon_values
from lit_rl.planning.model import Model
from lit_rl.policies.uniform import UniformPolicy
from tests.algorithms.table_runs import WORLD, fit, model_of

T = 4


def world(seed=0, deterministic=False):
    mdp = random_mdp(np.random.default_rng(seed), 3, 2)
    model = mdp.model()
    if not deterministic:
        return model
    sure = torch.nn.functional.one_hot(model.transition.argmax(-1), 3).double()
    return Model(sure, model.reward, torch.eye(3).double()[0])


def log_likelihood(model, visits, reward, gamma):
    q = soft_horizon_values(model._replace(reward=reward), T, 1.0, gamma=gamma).q
    powers = gamma ** torch.arange(T, dtype=torch.float64)
    return (powers[:, None, None] * visits * posterior_policy(q, 1.0).log()).sum()


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_the_causal_gradient_is_that_of_the_expected_log_likelihood(gamma):
    model = world()
    expert, _ = expected_visits(model, T, gamma, "causal")
    guess = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    visits, _ = expected_visits(model._replace(reward=guess), T, gamma, "causal")
    gradient = irl_gradient(expert, visits, gamma) * T
    for s, a in np.ndindex(3, 2):
        step = torch.zeros(3, 2).double()
        step[s, a] = 1e-5
        ends = [log_likelihood(model, expert, guess + sign * step, gamma) for sign in (1, -1)]
        assert gradient[s, a] == pytest.approx(float(ends[0] - ends[1]) / 2e-5, abs=1e-8)
    again, _ = expected_visits(model, T, gamma, "causal")
    assert torch.allclose(irl_gradient(expert, again, gamma), torch.zeros(3, 2).double(), atol=1e-15)


def test_the_messages_gradient_is_that_of_log_z():
    model = world(1)
    visits, _ = expected_visits(model, T, 1.0, "messages")
    for s, a in np.ndindex(3, 2):
        step = torch.zeros(3, 2).double()
        step[s, a] = 1e-5
        moved = [model._replace(reward=model.reward + sign * step) for sign in (1, -1)]
        ends = [log_evidence(m, backward_messages(m, T)) for m in moved]
        assert visits.sum(0)[s, a] == pytest.approx(float(ends[0] - ends[1]) / 2e-5, abs=1e-8)


def test_messages_agree_with_the_causal_form_without_chance_alone():
    sure, chancy = world(2, deterministic=True), world(2)
    for model, same in ((sure, True), (chancy, False)):
        causal, messages = (expected_visits(model, T, 1.0, mode)[0] for mode in ("causal", "messages"))
        assert (causal - messages).abs().max() < 1e-12 if same else (causal - messages).abs().max() > 1e-2


@pytest.mark.parametrize("mode", ["causal", "messages"])
@pytest.mark.parametrize("features", ["state", "pair"])
def test_a_known_expert_s_visits_and_return_are_matched(mode, features, tmp_path):
    slip = 0.1 if mode == "causal" else 0.0
    env = Env(WORLD + "Grid-v0", kwargs={"size": 3, "slip": slip})
    data = Demonstrations(horizon=8, episodes=None, temperature=0.2, steps_per_epoch=500, steps_per_batch=100)
    agent = fit(MaxEntIRL(env, data, Optimizer(lr=0.1), mode=mode, features=features), tmp_path)
    expert = data.open(env, agent.policy, 1.0, 0).expert
    visits, _ = expected_visits(expert.model._replace(reward=agent.reward()), 8, 1.0, mode)
    gap = (expert.visits - visits).sum(-1).mean(0) if features == "state" else (expert.visits - visits).mean(0)
    assert gap.abs().max() <= 1e-3
    model = model_of(agent)
    value = policy_value(model, greedy(agent.policy.q), 0.9)[0]
    assert value >= 0.8 * value_iteration(model, 0.9).value[0]


def test_demonstrations_are_samples_of_the_expert_and_never_show_the_reward():
    env = Env(WORLD + "Grid-v0", kwargs={"size": 3}).with_spaces()
    exact = (
        Demonstrations(horizon=6, episodes=None, temperature=0.3)
        .open(env, UniformPolicy(env.action_space), 1.0, 0)
        .expert
    )
    sampled = (
        Demonstrations(horizon=6, episodes=20_000, temperature=0.3)
        .open(env, UniformPolicy(env.action_space), 1.0, 0)
        .expert
    )
    assert not exact.model.reward.any() and torch.allclose(exact.visits.sum((1, 2)), torch.ones(6).double())
    assert (exact.visits - sampled.visits).abs().max() < 5 * 0.5 / 20_000**0.5
    assert torch.allclose(
        absorbing(random_mdp(np.random.default_rng(0), 3, 2)).transition.sum(-1), torch.ones(3, 2).double()
    )
    with pytest.raises(ValueError, match="no demonstrations"):
        Demonstrations("missing.npz").open(env, UniformPolicy(env.action_space), 1.0, 0)


def test_demonstrations_from_a_file_that_predict_wrote(tmp_path):
    import json

    env = Env(WORLD + "Grid-v0", kwargs={"size": 2, "slip": 0.0}).with_spaces()
    columns = {"obs": [0, 1, 0], "action": [1, 2, 1], "next_obs": [1, 3, 1], "episode": [0, 0, 1]}
    arrays = {name: np.array(column) for name, column in columns.items()}
    arrays["terminated"] = np.array([False, True, False])
    file = tmp_path / "expert.npz"
    np.savez(file, header=np.array(json.dumps({"env": env.id})), **arrays)
    visits = Demonstrations(str(file), horizon=3).open(env, UniformPolicy(env.action_space), 1.0, 0).expert.visits
    assert visits[0, 0, 1] == 1 and visits[1, 1, 2] == 1  # the second episode was cut
    assert visits[2, 3].tolist() == [0.25] * 4  # the first has ended, and stays there
    with pytest.raises(ValueError, match="and this is"):
        Demonstrations(str(file)).open(Env("FrozenLake-v1"), UniformPolicy(env.action_space), 1.0, 0)
