"""Importance-weighted gradients by enumeration: which are ∇J of the new policy, and which are not."""

import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from lit_rl import Env, OffPolicyGradient, WholeEpisodes
from lit_rl.algorithms.policy_gradient.off_policy_gradient import (
    Weights,
    effective_sample_size,
    importance_weighted,
    self_normalize,
)
from lit_rl.functional.policy_gradient import per_time_baseline, reward_to_go
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import learn
from tests.algorithms.tabular import as_trajectories, gradient_of_logits, tabular
from tests.oracles.trajectories import Problem, expectation_over_pairs, mean_and_variance, problem, weighted_scores

KINDS = get_args(Weights)


@pytest.fixture(scope="module")
def exact() -> Problem:
    return problem(1)


def log_ratio(exact: Problem) -> Tensor:
    """Data of θ, target θ'."""
    return exact.paths.log_prob(exact.other) - exact.paths.log_prob(exact.logits)


def moments(exact: Problem, kind: Weights) -> tuple[Tensor, Tensor]:
    paths = exact.paths
    weight, signal = importance_weighted(log_ratio(exact), paths.reward, paths.mask, 1.0, kind)
    estimate = weighted_scores(paths.scores(exact.other), weight * signal)
    return mean_and_variance(estimate, paths.probability(exact.logits))


@pytest.mark.parametrize("kind", ["trajectory", "per_decision"])
def test_unbiased_weights(exact: Problem, kind: Weights) -> None:
    """4.2b, 4.2c: the expectation is ∇J(θ'), to rounding."""
    assert (moments(exact, kind)[0] - exact.paths.gradient(exact.other)).abs().max() < 1e-12


def test_per_decision_weights_are_less_noisy(exact: Problem) -> None:
    assert moments(exact, "per_decision")[1].sum() < moments(exact, "trajectory")[1].sum()


def test_dropped_reward_weights_are_the_old_values_in_the_new_states(exact: Problem) -> None:
    """4.2d: E_{s ~ θ', a ~ π'}[∇ log π' Q^θ], which is not ∇J(θ')."""
    from tests.fixtures import finite_horizon_values

    paths = exact.paths
    _, q = finite_horizon_values(exact.m2.mdp, exact.logits.softmax(-1).numpy(), 1.0)
    old_values = torch.from_numpy(q)[torch.arange(3)[:, None], paths.states, paths.actions]
    estimate = weighted_scores(paths.scores(exact.other), old_values)
    expected, _ = mean_and_variance(estimate, paths.probability(exact.other))
    mean = moments(exact, "dropped")[0]
    torch.testing.assert_close(mean, expected)
    assert (mean - paths.gradient(exact.other)).abs().max() > 1e-2


def test_first_order_weights_are_the_gradient_of_the_surrogate(exact: Problem) -> None:
    """4.2e: autograd of E_θ Σ_t ρ_t Q^θ by θ'; it is not ∇J(θ') either."""
    paths, other = exact.paths, exact.other.clone().requires_grad_()
    ratio = (paths.log_prob(other) - paths.log_prob(exact.logits)).exp()
    surrogate = paths.probability(exact.logits) @ (ratio * reward_to_go(paths.reward, 1.0)).sum(0)
    (expected,) = torch.autograd.grad(surrogate, other)
    mean = moments(exact, "first_order")[0]
    torch.testing.assert_close(mean, expected.flatten())
    assert (mean - paths.gradient(exact.other)).abs().max() > 1e-2


def test_counting_a_ratio_twice_is_biased(exact: Problem) -> None:
    """4.2c, E: the inner product from t in place of t + 1 is another number."""
    paths = exact.paths
    weight, signal = importance_weighted(log_ratio(exact), paths.reward, paths.mask, 1.0, "per_decision")
    twice = weighted_scores(paths.scores(exact.other), weight * signal * log_ratio(exact).exp())
    mean, _ = mean_and_variance(twice, paths.probability(exact.logits))
    assert (mean - paths.gradient(exact.other)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_on_policy_all_are_the_policy_gradient(exact: Problem, kind: Weights) -> None:
    paths = exact.paths
    weight, signal = importance_weighted(torch.zeros_like(paths.reward), paths.reward, paths.mask, 1.0, kind)
    assert (weight == 1).all()
    estimate = weighted_scores(paths.scores(exact.logits), signal)
    mean, _ = mean_and_variance(estimate, paths.probability(exact.logits))
    torch.testing.assert_close(mean, paths.gradient(exact.logits))


def test_leave_one_out_baselines_keep_the_expectation_off_policy_too(exact: Problem) -> None:
    paths, scores = exact.paths, exact.paths.scores(exact.other)
    weight, signal = importance_weighted(log_ratio(exact), paths.reward, paths.mask, 1.0, "per_decision")

    def estimate(pair: Tensor) -> Tensor:
        x = signal[:, pair]
        b = per_time_baseline(x, torch.ones_like(x, dtype=torch.bool))
        return weighted_scores(scores[:, pair], weight[:, pair] * (x - b)).mean(0)

    mean = expectation_over_pairs(estimate, paths.probability(exact.logits))
    torch.testing.assert_close(mean, paths.gradient(exact.other))


def test_weights_by_hand_stop_at_the_end_of_an_episode() -> None:
    """ρ = 2, ½, (padding 9); rewards 1, 3; γ = 1. To go: 4, 3; per decision: 1 + ½·3 = 2.5, 3."""
    ratio, reward = torch.tensor([[2.0], [0.5], [9.0]]), torch.tensor([[1.0], [3.0], [0.0]])
    mask = torch.tensor([[True], [True], [False]])
    expected = {
        "trajectory": ([1, 1, 0], [4, 4]),
        "per_decision": ([2, 1, 0], [2.5, 3]),
        "dropped": ([2, 1, 0], [4, 3]),
        "first_order": ([2, 0.5, 0], [4, 3]),
    }
    for kind, (weight, signal) in expected.items():
        got = importance_weighted(ratio.log(), reward, mask, 1.0, kind)
        torch.testing.assert_close(got.weight.flatten(), torch.tensor(weight, dtype=torch.float32))
        torch.testing.assert_close(got.signal.flatten()[:2], torch.tensor(signal, dtype=torch.float32))


def test_gaussian_weights_have_their_known_moments() -> None:
    """4.2a: p = N(1, 1), q = N(0, 1): E_q[w x] = 1 and Var w = e − 1; self-normalised, the mean is consistent."""
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = (x - 0.5).exp()
    assert (weight * x).mean().item() == pytest.approx(1.0, abs=0.02)
    assert weight.var().item() == pytest.approx(math.e - 1, abs=0.1)
    assert effective_sample_size(weight).item() / len(x) == pytest.approx(1 / math.e, abs=0.01)
    normal = self_normalize(weight[None], torch.ones(1, len(x), dtype=torch.bool))
    assert normal.mean().item() == pytest.approx(1.0) and (normal * x).mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_has_the_estimator_s_gradient(exact: Problem, kind: Weights) -> None:
    """Data of another policy than the agent's, no baseline: −mean over episodes of c x ∇ log π."""
    agent = tabular(OffPolicyGradient, exact._replace(logits=exact.other), weights=kind, baseline="none")
    batch, again, *_ = agent.minibatches(as_trajectories(exact.paths, exact.logits))
    assert again is batch
    agent.loss(batch)["policy_loss"].backward()
    weight, signal = importance_weighted(log_ratio(exact), exact.paths.reward, exact.paths.mask, 1.0, kind)
    expected = weighted_scores(exact.paths.scores(exact.other), weight * signal).mean(0)
    torch.testing.assert_close(gradient_of_logits(agent), -expected, atol=1e-5, rtol=1e-4)


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
def test_learns_from_a_window_of_old_episodes(kind: Weights, tmp_path: Path) -> None:
    """Three rounds of data, four steps on each: name four numbers, three steps."""
    env = Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=4, kwargs={"horizon": 3})
    data = WholeEpisodes(8, window=3, steps_per_epoch=6_000)
    optimizer = Optimizer(lr=3e-3, max_grad_norm=1.0)
    agent = learn(OffPolicyGradient(env, data, optimizer=optimizer, weights=kind, updates=4), tmp_path, 1)
    assert agent.val_dataloader().play().returns.mean() > 2.7
