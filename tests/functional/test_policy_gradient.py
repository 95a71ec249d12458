"""Baselines and weights by exact enumeration: what is unbiased is an equality, and variances are exact."""

import pytest
import torch
from torch import Tensor

from lit_rl.functional.policy_gradient import (
    ascent_loss,
    elapsed_discount,
    gradient_variance,
    leave_one_out_baseline,
    mean_baseline,
    optimal_baseline,
    per_episode_gradients,
    per_time_baseline,
    pseudo_loss,
    reward_to_go,
    standardize,
    whole_return,
)
from tests.oracles.trajectories import (
    Problem,
    expectation_over_pairs,
    mean_and_variance,
    problem,
    weighted_scores,
)


@pytest.fixture(scope="module")
def exact() -> Problem:
    return problem(3)


def moments(exact: Problem, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Of Σ_t w_t ∇ log π over all paths."""
    scores = exact.paths.scores(exact.logits)
    return mean_and_variance(weighted_scores(scores, weight), exact.paths.probability(exact.logits))


def ragged(episodes: int = 5, longest: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rewards [T, M] of episodes of different lengths, 0 behind their ends, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(1, longest + 1, (episodes,), generator=generator)
    length[0] = longest
    mask = torch.arange(longest)[:, None] < length
    return torch.randn(longest, episodes, generator=generator, dtype=torch.float64) * mask, mask


def test_returns_by_their_definition() -> None:
    reward, mask = ragged()
    gamma = 0.9
    to_go, whole, elapsed = reward_to_go(reward, gamma), whole_return(reward, gamma), elapsed_discount(reward, gamma)
    for i in range(reward.shape[1]):
        row = reward[:, i].tolist()
        for t in range(len(row)):
            assert to_go[t, i].item() == pytest.approx(sum(gamma ** (k - t) * row[k] for k in range(t, len(row))))
            assert whole[t, i].item() == pytest.approx(sum(gamma**k * r for k, r in enumerate(row)))
            assert elapsed[t, i].item() == pytest.approx(gamma**t)
    assert (to_go[~mask] == 0).all()


def test_baselines_by_their_definition() -> None:
    weight, mask = ragged(seed=1)
    weight = weight + mask
    steps, episodes = mask.shape
    alone, per_time = leave_one_out_baseline(weight, mask), per_time_baseline(weight, mask)
    assert mean_baseline(weight, mask)[0, 0].item() == pytest.approx(weight[mask].mean().item())
    for i in range(episodes):
        others = [j for j in range(episodes) if j != i]
        rows = torch.cat([weight[mask[:, j], j] for j in others])
        for t in range(steps):
            assert alone[t, i].item() == pytest.approx(rows.mean().item())
            alive = [weight[t, j].item() for j in others if mask[t, j]]
            if mask[t, i]:
                assert per_time[t, i].item() == pytest.approx(sum(alive) / len(alive) if alive else 0.0)


def test_a_single_episode_has_no_others() -> None:
    weight, mask = ragged(1)
    for baseline in (leave_one_out_baseline, per_time_baseline):
        assert (baseline(weight, mask) == 0).all()


@pytest.mark.parametrize("baseline", [mean_baseline, leave_one_out_baseline, per_time_baseline])
def test_equal_episodes_leave_exactly_nothing(baseline) -> None:
    """In single precision too: what is left would be standardised to noise of size 1."""
    weight = reward_to_go(torch.ones(500, 7), 0.99)
    if baseline is not per_time_baseline:
        weight = weight[:1].expand(500, 7)
    mask = torch.ones(500, 7, dtype=torch.bool)
    assert (weight - baseline(weight, mask) == 0).all()
    assert (standardize(weight - baseline(weight, mask), mask) == 0).all()


def test_every_causal_weight_has_the_expectation_of_the_whole_return(exact: Problem) -> None:
    """4.0b, 4.1a: whole return and reward-to-go are ∇J; and a reward tells nothing about later actions."""
    gradient = exact.paths.gradient(exact.logits)
    for weight in (whole_return(exact.paths.reward, 1.0), reward_to_go(exact.paths.reward, 1.0)):
        torch.testing.assert_close(moments(exact, weight)[0], gradient)
    for t in range(1, 3):
        weight = torch.zeros_like(exact.paths.reward)
        weight[t] = exact.paths.reward[:t].sum(0)
        torch.testing.assert_close(moments(exact, weight)[0], torch.zeros(4, dtype=torch.float64))


def test_discount_option_two_is_a_gradient_and_option_one_is_none(exact: Problem) -> None:
    """5.3a, 5.3b, and 5.26: the whole discounted return is option 2 before causality."""
    gamma, reward = 0.7, exact.paths.reward
    gradient = exact.paths.gradient(exact.logits, gamma)
    to_go = reward_to_go(reward, gamma)
    torch.testing.assert_close(moments(exact, elapsed_discount(reward, gamma) * to_go)[0], gradient)
    torch.testing.assert_close(moments(exact, whole_return(reward, gamma))[0], gradient)
    assert (moments(exact, to_go)[0] - gradient).abs().max() > 1e-2


def test_maximum_likelihood_of_one_s_own_actions_goes_nowhere(exact: Problem) -> None:
    torch.testing.assert_close(
        moments(exact, torch.ones_like(exact.paths.reward))[0], torch.zeros(4, dtype=torch.float64)
    )


def test_any_function_of_the_state_is_a_baseline(exact: Problem) -> None:
    """5.6a: random V keeps the expectation; 5.6b: a function of the action does not."""
    generator = torch.Generator().manual_seed(0)
    to_go = reward_to_go(exact.paths.reward, 1.0)
    value = torch.randn(2, generator=generator, dtype=torch.float64)
    gradient = exact.paths.gradient(exact.logits)
    torch.testing.assert_close(moments(exact, to_go - value[exact.paths.states])[0], gradient)
    q = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    biased = moments(exact, to_go - q[exact.paths.states, exact.paths.actions])[0]
    assert (biased - gradient).abs().max() > 1e-2


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("baseline", "factor"), [(mean_baseline, 0.5), (leave_one_out_baseline, 1.0), (per_time_baseline, 1.0)]
)
def test_batch_baselines_over_all_pairs(exact: Problem, baseline, factor: float) -> None:
    """4.1.1a, two episodes: the mean of the same batch halves the gradient, leave-one-out means keep it."""
    paths, scores = exact.paths, exact.paths.scores(exact.logits)
    whole = whole_return(paths.reward, 1.0)

    def estimate(pair: Tensor) -> Tensor:
        weight = whole[:, pair]
        weight = weight - baseline(weight, torch.ones_like(weight, dtype=torch.bool))
        return weighted_scores(scores[:, pair], weight).mean(0)

    mean = expectation_over_pairs(estimate, paths.probability(exact.logits))
    torch.testing.assert_close(mean, factor * paths.gradient(exact.logits))


@pytest.mark.usefixtures("unchecked")
def test_plain_mean_at_one_time_halves_too_and_leave_one_out_does_not(exact: Problem) -> None:
    """5.0a on rewards to go; with exact Q as weight the expectation is the same and no step's variance larger."""
    paths, scores, probability = exact.paths, exact.paths.scores(exact.logits), exact.paths.probability(exact.logits)
    to_go = reward_to_go(paths.reward, 1.0)

    def estimate(pair: Tensor, leave_one_out: bool) -> Tensor:
        weight = to_go[:, pair]
        mask = torch.ones_like(weight, dtype=torch.bool)
        baseline = per_time_baseline(weight, mask) if leave_one_out else weight.mean(1, keepdim=True)
        return weighted_scores(scores[:, pair], weight - baseline).mean(0)

    gradient = paths.gradient(exact.logits)
    for leave_one_out, factor in ((False, 0.5), (True, 1.0)):
        mean = expectation_over_pairs(lambda pair, own=leave_one_out: estimate(pair, own), probability)
        torch.testing.assert_close(mean, factor * gradient)


def test_true_action_values_as_weights(exact: Problem) -> None:
    """5.0a: E[G|s, a] = Q, so that the expectation is the same and, step by step, no variance is larger."""
    from tests.fixtures import finite_horizon_values

    paths, scores, probability = exact.paths, exact.paths.scores(exact.logits), exact.paths.probability(exact.logits)
    _, q = finite_horizon_values(exact.m2.mdp, exact.logits.softmax(-1).numpy(), 1.0)
    values = torch.from_numpy(q)[torch.arange(3)[:, None], paths.states, paths.actions]
    to_go = reward_to_go(paths.reward, 1.0)
    torch.testing.assert_close(moments(exact, values)[0], paths.gradient(exact.logits))
    for t in range(3):
        exactly, sampled = (
            mean_and_variance(scores[t] * weight[t].unsqueeze(-1), probability)[1] for weight in (values, to_go)
        )
        assert (exactly <= sampled + 1e-12).all()


@pytest.mark.parametrize("whole", [True, False])
def test_the_optimal_baseline_is_the_minimum_of_every_parameter_s_variance(exact: Problem, whole: bool) -> None:
    """4.1.1b, with whole returns and with rewards to go: the exact b, from all paths weighted by their probability."""
    paths, probability = exact.paths, exact.paths.probability(exact.logits)
    scores = exact.paths.scores(exact.logits)
    weight = whole_return(paths.reward, 1.0) if whole else reward_to_go(paths.reward, 1.0)
    u, v = weighted_scores(scores, weight), scores.sum(0)
    root = probability.sqrt().unsqueeze(-1)  # moments weighted by p are plain sums of what is multiplied by √p
    b = optimal_baseline(u * root, v * root, leave_one_out=False)[0]
    mean, least = mean_and_variance(u - b * v, probability)
    torch.testing.assert_close(mean, paths.gradient(exact.logits))
    for change in (-1e-2, 1e-2):
        assert (mean_and_variance(u - (b + change) * v, probability)[1] > least).all()
    assert (mean_and_variance(u, probability)[1] > least).all()


@pytest.mark.usefixtures("unchecked")
def test_leave_one_out_optimal_baseline_keeps_the_expectation(exact: Problem) -> None:
    paths = exact.paths
    scores = paths.scores(exact.logits)
    u, v = weighted_scores(scores, whole_return(paths.reward, 1.0)), scores.sum(0)
    estimate = expectation_over_pairs(
        lambda pair: (u[pair] - optimal_baseline(u[pair], v[pair]) * v[pair]).mean(0), paths.probability(exact.logits)
    )
    torch.testing.assert_close(estimate, paths.gradient(exact.logits))


def test_parameters_that_no_episode_touched_have_no_baseline() -> None:
    u, v = torch.tensor([[0.0, 2.0], [0.0, 3.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert optimal_baseline(u, v).tolist() == [[0.0, 0.0], [0.0, 2.0]]


def test_pseudo_loss_has_the_gradient_that_it_stands_for(exact: Problem) -> None:
    """4.2.1a: autograd of −loss is Σ w ∇ log π over M; the weights get no gradient."""
    paths, logits = exact.paths, exact.logits.clone().requires_grad_()
    weight = reward_to_go(paths.reward, 0.9).requires_grad_()
    (-pseudo_loss(paths.log_prob(logits), weight, 64)).backward()
    assert logits.grad is not None and weight.grad is None
    expected = weighted_scores(paths.scores(exact.logits), weight.detach()).mean(0)
    torch.testing.assert_close(logits.grad.flatten(), expected)


def test_gradients_of_every_episode_in_one_pass(exact: Problem) -> None:
    logits = exact.logits.clone().requires_grad_()
    other = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    terms = exact.paths.log_prob(logits).sum(0)
    gradients = per_episode_gradients(terms, [logits, other])
    torch.testing.assert_close(gradients[:, :4], exact.paths.scores(exact.logits).sum(0))
    assert gradients.shape == (64, 7) and (gradients[:, 4:] == 0).all()


def test_the_estimated_variance_is_the_exact_one_on_average(exact: Problem) -> None:
    """Over all pairs, E of the estimate from two episodes is Σ_k Var(g_k)/2."""
    paths = exact.paths
    gradient = weighted_scores(paths.scores(exact.logits), whole_return(paths.reward, 1.0))
    probability = paths.probability(exact.logits)
    mean = expectation_over_pairs(lambda pair: gradient_variance(gradient[pair]), probability)
    torch.testing.assert_close(mean, mean_and_variance(gradient, probability)[1].sum() / 2)


def test_standardized_weights() -> None:
    weight, mask = ragged(seed=2)
    rows = standardize(weight, mask)
    torch.testing.assert_close(rows[mask].mean(), torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(rows[mask].std(correction=0), torch.ones((), dtype=torch.float64))
    assert (rows[~mask] == 0).all() and (standardize(torch.ones_like(weight), mask) == 0).all()


def test_ascent_loss() -> None:
    one, two = torch.ones(2, 2, requires_grad=True), torch.ones(1, requires_grad=True)
    ascent_loss([one, two], torch.arange(5.0)).backward()
    assert one.grad is not None and two.grad is not None
    assert one.grad.tolist() == [[0.0, -1.0], [-2.0, -3.0]] and two.grad.tolist() == [-4.0]
