import numpy as np
import pytest

from lit_rl.algorithms.bandits.thompson import ThompsonSampling
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.bandits import lai_robbins_slope, pseudo_regret
from lit_rl.policies.bandit import Belief
from tests.algorithms.table_runs import WORLD, fit, rollout

MEANS = (0.2, 0.5, 0.8)
BANDIT = Env(WORLD + "BernoulliBandit-v0", kwargs={"means": MEANS})


def test_posteriors_by_hand():
    counts, total = np.array([0.0, 4.0]), np.array([0.0, 3.0])
    alpha, beta = Belief().beta(counts, total)
    assert alpha.tolist() == [1, 4] and beta.tolist() == [1, 2]
    mean, variance = Belief("gaussian", 1.0, 2.0, 0.5).gaussian(counts, total)
    # Precision 1/4 + 4/0.25 = 16.25, mean (1/4 + 3/0.25)/16.25.
    assert mean == pytest.approx([1.0, 12.25 / 16.25]) and variance == pytest.approx([4.0, 1 / 16.25])


@pytest.mark.parametrize("belief", [Belief(), Belief("gaussian", 0.0, 1.0, 1.0)])
def test_it_pulls_as_often_as_an_arm_is_the_best_of_the_posterior(belief):
    agent = ThompsonSampling(BANDIT, belief=belief)
    agent.sweep(rollout(*[(0, arm, pay, 0, False, False) for arm, pay in ((0, 1.0), (0, 0.0), (1, 1.0), (2, 0.0))]))
    obs, rng = np.zeros(40_000, np.int64), np.random.default_rng(0)
    often = np.bincount(agent.policy.act(obs, np.zeros((40_000, 0), np.float32), rng).action, minlength=3) / 40_000
    best = belief.optimum(agent.policy.counts[0].numpy(), agent.policy.total[0].numpy()).probability
    assert np.abs(often - best).max() < 5 * 0.5 / 40_000**0.5 + 1e-3


def test_rewards_beyond_a_beta_are_refused():
    agent = ThompsonSampling(BANDIT)
    with pytest.raises(ValueError, match="beta belief"):
        agent.sweep(rollout((0, 0, 2.0, 0, False, False)))
    ThompsonSampling(BANDIT, belief=Belief("gaussian")).sweep(rollout((0, 0, 2.0, 0, False, False)))


@pytest.mark.medium
def test_regret_is_of_the_size_of_the_lower_bound(tmp_path):
    agent = fit(ThompsonSampling(BANDIT, Rollouts(steps=1, steps_per_epoch=3000, rollouts_per_batch=300)), tmp_path)
    regret = pseudo_regret(np.array(MEANS), agent.policy.counts[0].numpy())
    assert regret < 4 * lai_robbins_slope(np.array(MEANS)) * np.log(3000)
