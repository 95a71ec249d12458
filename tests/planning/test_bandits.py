"""Bandits against the figures of the formula sheet, quadrature by sampling, and brute force."""

import numpy as np
import pytest
from scipy import stats

from lit_rl.planning import bandits

GRID = (np.arange(2000) + 0.5) / 2000


def beta_optimum(alpha, beta):
    density = np.stack([stats.beta.pdf(GRID, a, b) for a, b in zip(alpha, beta, strict=True)])
    return bandits.posterior_optimum(GRID, density)


def prior_averaged(rule, horizon, runs, seed=0):
    """Mean total reward over Beta(1, 1) arms of ``rule(won, lost, rng)`` → arms [runs]."""
    rng = np.random.default_rng(seed)
    means = rng.random((runs, 2))
    won, lost, total = np.zeros((runs, 2)), np.zeros((runs, 2)), np.zeros(runs)
    rows = np.arange(runs)
    for _ in range(horizon):
        arm = rule(won, lost, rng)
        paid = rng.random(runs) < means[rows, arm]
        won[rows, arm] += paid
        lost[rows, arm] += ~paid
        total += paid
    return total.mean(), total.std() / runs**0.5


def test_bayes_optimal_play_is_worth_more_than_any_rule():
    best = bandits.bayes_optimal_value((1, 1), (1, 1), 10)
    assert best == pytest.approx(6.0218, abs=1e-4)
    assert bandits.bayes_optimal_value((1,), (1,), 7) == pytest.approx(3.5)  # one arm: nothing to learn
    thompson, error = prior_averaged(lambda w, l, rng: rng.beta(1 + w, 1 + l).argmax(-1), 10, 40_000)
    assert abs(thompson - 5.70) < 0.01 + 4 * error

    def ucb(won, lost, rng):
        counts = won + lost
        t = int(counts[0].sum())
        return np.stack([bandits.ucb1(w / np.maximum(c, 1), c, t) for w, c in zip(won, counts, strict=True)]).argmax(-1)

    greedy = lambda w, l, rng: ((1 + w) / (2 + w + l)).argmax(-1)  # noqa: E731
    for rule, runs in ((ucb, 2000), (greedy, 40_000)):
        mean, error = prior_averaged(rule, 10, runs)
        assert mean < best + 4 * error

    def optimal(won, lost, rng):
        arms = []
        for w, l in zip((1 + won).astype(int).tolist(), (1 + lost).astype(int).tolist(), strict=True):
            arms.append(bandits.bayes_optimal_arm(tuple(w), tuple(l), 10 - (sum(w) + sum(l) - 4)))
        return np.array(arms)

    played, error = prior_averaged(optimal, 10, 4000)
    assert abs(played - best) < 4 * error


def test_information_of_a_pull():
    alpha, beta = np.array([1.0, 3.0, 10.0]), np.array([1.0, 2.0, 1.0])
    gain = bandits.beta_information(alpha, beta)
    for a, b, found in zip(alpha, beta, gain, strict=True):
        before, m = stats.beta.entropy(a, b), a / (a + b)
        after = m * stats.beta.entropy(a + 1, b) + (1 - m) * stats.beta.entropy(a, b + 1)
        assert found == pytest.approx(before - after, abs=1e-10) and found > 0
    drop = stats.beta.entropy(1, 10) - stats.beta.entropy(2, 10)
    assert drop == pytest.approx(-0.44, abs=0.005)  # a single outcome may cost information
    assert bandits.gaussian_information(np.array([3.0]), 1.0)[0] == pytest.approx(0.5 * np.log(4))


def test_quadrature_over_the_best_arm_by_sampling():
    alpha, beta = np.array([2.0, 3.0, 1.0]), np.array([2.0, 5.0, 1.5])
    found = beta_optimum(alpha, beta)
    draws = np.random.default_rng(0).beta(alpha, beta, size=(400_000, 3))
    best = draws.argmax(-1)
    assert np.allclose(found.probability, np.bincount(best) / len(best), atol=4e-3)
    assert found.maximum == pytest.approx(draws.max(-1).mean(), abs=2e-3)
    for b in range(3):
        assert np.allclose(found.mean_given[b], draws[best == b].mean(0), atol=6e-3)
    mean = alpha / (alpha + beta)
    assert np.allclose(found.probability @ found.mean_given, mean, atol=1e-3)  # the tower rule
    gain, variance = bandits.optimal_action_information(found, mean), bandits.optimal_action_variance(found, mean)
    assert (gain >= 2 * variance - 1e-9).all() and (variance > 0).all()


def test_thompson_chooses_as_often_as_an_arm_is_best():
    alpha, beta = np.array([4.0, 2.0]), np.array([3.0, 2.0])
    exact = beta_optimum(alpha, beta).probability
    draws = np.random.default_rng(1).beta(alpha, beta, size=(100_000, 2)).argmax(-1)
    assert draws.mean() == pytest.approx(exact[1], abs=4 * 0.5 / 100_000**0.5 + 1e-3)


def test_randomising_pays_and_no_distribution_is_better():
    delta, gain = np.array([0.3, 0.05, 0.2]), np.array([0.5, 0.005, 0.1])
    fixed, mixed = bandits.deterministic_ids(delta, gain), bandits.randomised_ids(delta, gain)
    assert bandits.information_ratio(delta, gain, fixed) == pytest.approx(0.18)
    assert bandits.information_ratio(delta, gain, mixed) == pytest.approx(0.096, abs=5e-4)
    rng = np.random.default_rng(0)
    for _ in range(30):
        delta, gain = rng.random(4), rng.random(4)
        best = bandits.information_ratio(delta, gain, bandits.randomised_ids(delta, gain))
        simplex = np.concatenate([rng.dirichlet(np.full(4, 0.3), 3000), np.eye(4)])
        ratios = (simplex @ delta) ** 2 / (simplex @ gain)
        assert best <= ratios.min() + 1e-12
        assert bandits.randomised_ids(delta, gain).sum() == pytest.approx(1.0)


def test_known_arms():
    assert bandits.randomised_ids(np.array([0.0, 0.1]), np.array([0.0, 1.0])).tolist() == [1.0, 0.0]
    assert bandits.deterministic_ids(np.array([0.1, 0.2]), np.array([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_ucb_tries_every_arm_and_keeps_its_bound():
    assert np.isinf(bandits.ucb1(np.zeros(2), np.array([0, 3]), 3)[0])
    means, rng = np.array([0.3, 0.5, 0.8]), np.random.default_rng(0)
    regrets = []
    for _ in range(20):
        counts, total = np.zeros(3), np.zeros(3)
        for t in range(2000):
            arm = bandits.ucb1(total / np.maximum(counts, 1), counts, t).argmax()
            counts[arm] += 1
            total[arm] += rng.random() < means[arm]
        regrets.append(bandits.pseudo_regret(means, counts))
    assert np.mean(regrets) <= bandits.ucb1_bound(means, 2000)
    assert np.mean(regrets) > bandits.lai_robbins_slope(means)
    assert bandits.pseudo_regret(means, np.array([100.0, 0, 0])) == pytest.approx(50.0)
    assert bandits.lai_robbins_slope(np.array([0.5, 0.5])) == 0.0
