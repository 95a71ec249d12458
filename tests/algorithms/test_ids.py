import numpy as np
import pytest

from lit_rl.algorithms.bandits.ids import IDS
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning import bandits
from lit_rl.planning.bandits import lai_robbins_slope, pseudo_regret
from lit_rl.policies.bandit import Belief
from tests.algorithms.table_runs import WORLD, fit, rollout

MEANS = (0.2, 0.5, 0.8)
BANDIT = Env(WORLD + "BernoulliBandit-v0", kwargs={"means": MEANS})


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("target", ["param", "optimal_action", "variance"])
@pytest.mark.parametrize("randomised", [False, True])
def test_it_minimises_the_ratio_of_its_posterior(target, randomised):
    agent = IDS(BANDIT, target=target, randomised=randomised)
    agent.sweep(rollout(*[(0, arm, pay, 0, False, False) for arm, pay in ((0, 1.0), (1, 1.0), (1, 0.0), (2, 0.0))]))
    counts, total = agent.policy.counts[0].numpy(), agent.policy.total[0].numpy()
    optimum = agent.policy.belief.optimum(counts, total)
    delta, gain = optimum.maximum - agent.policy.mean(counts, total), agent.policy.gain(optimum, counts, total)
    assert (delta > 0).all() and (gain > 0).all()
    rng = np.random.default_rng(0)
    act = agent.policy.act(np.zeros(1500, np.int64), np.zeros((1500, 0), np.float32), rng)
    often = np.bincount(act.action, minlength=3) / 1500
    simplex = np.eye(3) if not randomised else np.random.default_rng(1).dirichlet(np.full(3, 0.3), 20_000)
    ratios = (simplex @ delta) ** 2 / (simplex @ gain)
    assert bandits.information_ratio(delta, gain, often) <= ratios.min() * 1.05
    assert np.exp(act.log_prob[0]) == pytest.approx(often[act.action[0]], abs=0.05)


def test_information_needs_its_kind_of_reward():
    with pytest.raises(ValueError, match="gaussian arms"):
        IDS(BANDIT, belief=Belief("gaussian"))
    agent = IDS(BANDIT, belief=Belief("gaussian", 0.0), target="variance")
    counts, total = np.array([4.0, 1.0, 0.0]), np.array([2.0, 1.0, 0.0])
    gain = agent.policy.gain(agent.policy.belief.optimum(counts, total), counts, total)
    assert gain[2] > gain[1] > gain[0] > 0  # the less is known, the more is learnt


@pytest.mark.medium
@pytest.mark.parametrize("randomised", [False, True])
def test_regret_is_of_the_size_of_the_lower_bound(randomised, tmp_path):
    data = Rollouts(steps=1, steps_per_epoch=2000, rollouts_per_batch=200)
    agent = fit(IDS(BANDIT, data, randomised=randomised), tmp_path)
    regret = pseudo_regret(np.array(MEANS), agent.policy.counts[0].numpy())
    assert regret < 4 * lai_robbins_slope(np.array(MEANS)) * np.log(2000)
