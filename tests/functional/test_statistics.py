import numpy as np
import pytest
import torch
from scipy import stats

from lit_rl.functional.statistics import approx_kl, explained_variance, iqm, stratified_bootstrap_interval


def test_explained_variance_by_hand():
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])  # variance 1.25
    assert explained_variance(returns + 7, returns) == 1  # an offset costs nothing
    assert explained_variance(torch.zeros(4), returns) == 0
    assert explained_variance(-returns, returns) == -3  # errors 2G: 1 − 4
    assert torch.isnan(explained_variance(returns, torch.ones(4)))


def test_approx_kl_is_the_kl_in_expectation():
    # Exact over a categorical: Σ p [(q/p − 1) − log(q/p)] = KL(p‖q). Rows stand as often as p says: 1/2, 1/4, 1/4.
    p, q = torch.tensor([0.5, 0.5, 0.25, 0.25]), torch.tensor([0.2, 0.2, 0.3, 0.5])
    kl = (torch.tensor([0.25, 0.25, 0.25, 0.25]) * (p / q).log()).sum()
    torch.testing.assert_close(approx_kl((q / p).log()), kl)
    assert approx_kl(torch.zeros(2, 3)) == 0
    assert approx_kl(torch.tensor([1e-4])) >= 0


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 20])
def test_iqm_is_the_quarter_trimmed_mean(n):
    scores = np.random.default_rng(n).normal(size=n)
    assert iqm(scores) == pytest.approx(stats.trim_mean(scores, 0.25))
    if n == 4:
        assert iqm(np.array([[0.0, 1.0], [3.0, 1000.0]])) == 2.0  # (1 + 3)/2: outliers do not count


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(150):
        low, high = stratified_bootstrap_interval(rng.normal(size=(20, 2)), rng, np.mean, resamples=150)
        hits += low <= 0 <= high
    assert 0.87 <= hits / 150 <= 0.99  # 95 %, slightly less for 20 runs; standard error 0.017


def test_strata_stay_apart():
    # Two tasks, no spread within either: every resample is the same, the interval a point.
    scores = np.array([[0.0, 100.0]] * 5)
    assert stratified_bootstrap_interval(scores, np.random.default_rng(0), np.mean) == (50.0, 50.0)
    with pytest.raises(ValueError, match="1 run"):
        stratified_bootstrap_interval(np.array([3.0]), np.random.default_rng(0))
