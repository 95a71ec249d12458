import numpy as np
import pytest
import torch

from lit_rl.algorithms.tabular.td_lambda import TDLambda, td_step
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.evaluation import policy_value
from lit_rl.schedules import Exponential
from tests.algorithms.table_runs import WORLD, fit, model_of, rollout


def test_steps_by_hand():
    # λ = ½, γ = 1, α = ½. First step 0 → 1 pays 2: δ = 2 + 1 − 0 = 3, e = (1, 0): V = (1.5, 1).
    value, trace = np.array([0.0, 1.0]), np.zeros(2)
    delta, _ = td_step(value, trace, 0.0, (0, 2.0, 1, 1.0), 0.5, 0.5, "accumulating")
    assert delta == 3.0 and value.tolist() == [1.5, 1.0]
    # Then 1 → end pays 0: δ = −1, e = (½, 1): V = (1.5 − 0.25, 1 − 0.5).
    delta, _ = td_step(value, trace, 0.0, (1, 0.0, 0, 0.0), 0.5, 0.5, "accumulating")
    assert delta == -1.0 and value.tolist() == [1.25, 0.5]
    for kind, weight in (("accumulating", 1.5), ("replacing", 1.0)):
        value, trace = np.zeros(1), np.ones(1)
        td_step(value, trace, 0.0, (0, 1.0, 0, 0.0), 0.5, 1.0, kind)
        assert trace[0] == weight == value[0]


def test_true_online_is_the_online_lambda_return():
    """After each step V equals what the truncated λ-returns of all steps so far give, replayed from the start."""
    rng = np.random.default_rng(0)
    states, rewards, gamma, lam, alpha = rng.integers(3, size=9), rng.normal(size=8), 0.9, 0.7, 0.3
    first = rng.normal(size=3)
    value, trace, old = first.copy(), np.zeros(3), 0.0
    history = [first.copy()]
    for h in range(1, 9):
        step = (int(states[h - 1]), float(rewards[h - 1]), int(states[h]), gamma)
        _, old = td_step(value, trace, old, step, gamma * lam, alpha, "true_online")
        replayed, bootstraps = first.copy(), [v[states[k + 1]] for k, v in enumerate(history)]
        for t in range(h):
            target = bootstraps[h - 1]
            for k in range(h - 1, t - 1, -1):  # G_k = r_k + γ[(1 − λ) V_k(s_{k+1}) + λ G_{k+1}], cut at h
                target = rewards[k] + gamma * (target if k == h - 1 else (1 - lam) * bootstraps[k] + lam * target)
            replayed[states[t]] += alpha * (target - replayed[states[t]])
        assert np.allclose(value, replayed, atol=1e-12), h
        history.append(value.copy())


def test_truncation_bootstraps_and_both_ends_forget_the_trace():
    agent = TDLambda(Env(WORLD + "Chain-v0", kwargs={"n": 3}), gamma=0.5, step_size=1.0)
    agent.value[1] = 4.0
    agent.sweep(rollout((0, 0, 1.0, 1, False, True)))
    assert agent.value[0] == 3.0 and not agent.trace.any()  # 1 + 0.5 · 4
    agent.sweep(rollout((0, 0, 1.0, 1, True, False), (1, 0, 0.0, 2, False, False)))
    assert agent.value.tolist() == [1.0, 0.0, 0.0] and agent.trace[0].tolist() == [0.0, 1.0, 0.0]


@pytest.mark.medium
@pytest.mark.parametrize("traces", ["accumulating", "replacing", "true_online"])
def test_it_learns_the_values_of_random_play(traces, tmp_path):
    env = Env(WORLD + "Chain-v0", num_envs=2, kwargs={"n": 5, "max_episode_steps": 1000})
    data = Rollouts(steps=10, steps_per_epoch=20_000, rollouts_per_batch=100)
    agent = TDLambda(env, data, 0.9, 0.8, Exponential(0.1, 0.002, 20_000), traces)
    fit(agent, tmp_path)
    exact = policy_value(model_of(agent), torch.full((5, 2), 0.5).double(), 0.9)
    assert torch.allclose(agent.value, exact, atol=0.04)
