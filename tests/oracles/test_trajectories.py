"""The oracle itself: probabilities, its gradient by finite differences, and what 4.0b and 4.1a say of it."""

import pytest
import torch

from tests.oracles.trajectories import Problem, expectation_over_pairs, mean_and_variance, problem, weighted_scores

H = 1e-6


@pytest.fixture(scope="module")
def exact() -> Problem:
    return problem()


def test_probabilities_sum_to_one(exact: Problem) -> None:
    assert exact.paths.reward.shape == (3, 64)
    for logits in (exact.logits, exact.other):
        torch.testing.assert_close(exact.paths.probability(logits).sum().item(), 1.0)


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_gradient_is_that_of_finite_differences_and_of_backward_induction(exact: Problem, gamma: float) -> None:
    from tests.fixtures import finite_horizon_values

    gradient = exact.paths.gradient(exact.logits, gamma)
    for k in range(4):
        step = H * torch.eye(4, dtype=torch.float64)[k].view(2, 2)
        up, down = (exact.paths.objective(exact.logits + sign * step, gamma) for sign in (1, -1))
        assert ((up - down) / (2 * H)).item() == pytest.approx(gradient[k].item(), abs=1e-7)
    value, _ = finite_horizon_values(exact.m2.mdp, exact.logits.softmax(-1).numpy(), gamma)
    assert exact.paths.objective(exact.logits, gamma).item() == pytest.approx(exact.m2.mdp.initial @ value[0])


def test_scores_are_derivatives(exact: Problem) -> None:
    jacobian = torch.func.jacrev(exact.paths.log_prob)(exact.logits).flatten(2)
    torch.testing.assert_close(exact.paths.scores(exact.logits), jacobian)


def test_likelihood_ratio_gradient(exact: Problem) -> None:
    """4.0b: E Σ_t ∇ log π · Σ_t r_t = ∇J."""
    paths = exact.paths
    whole = paths.reward.sum(0, keepdim=True).expand(3, -1)
    mean, variance = mean_and_variance(
        weighted_scores(paths.scores(exact.logits), whole), paths.probability(exact.logits)
    )
    torch.testing.assert_close(mean, paths.gradient(exact.logits))
    assert (variance > 0).all()


def test_pairs_are_independent(exact: Problem) -> None:
    """E of the mean of two is E of one."""
    paths, probability = exact.paths, exact.paths.probability(exact.logits)
    returns = paths.reward.sum(0)
    pairs = expectation_over_pairs(lambda pair: returns[pair].mean(), probability)
    torch.testing.assert_close(pairs, probability @ returns)
