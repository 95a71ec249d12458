import numpy as np
import pytest
import torch

from lit_rl.algorithms.bandits.ucb import UCB1
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.bandits import pseudo_regret, ucb1_bound
from tests.algorithms.table_runs import WORLD, fit, rollout

MEANS = (0.2, 0.5, 0.8)
BANDIT = Env(WORLD + "BernoulliBandit-v0", kwargs={"means": MEANS})


def pull(agent, rng=None) -> int:
    act = agent.policy.act(np.zeros(1, np.int64), np.zeros((1, 0), np.float32), rng or np.random.default_rng(0))
    return int(act.action[0])


def test_every_arm_once_and_then_the_index():
    agent = UCB1(BANDIT)
    for arm in range(3):
        assert pull(agent) == arm
        agent.sweep(rollout((0, arm, float(arm == 1), 0, False, False)))
    # t = 3: means 0, 1, 0 and equal widths √(2 ln 3).
    assert pull(agent) == 1
    for _ in range(8):
        agent.sweep(rollout((0, 1, 0.0, 0, False, False)))
    # t = 11: arm 1 has 1/9 + √(2 ln 11 / 9) = 0.841, the others √(2 ln 11) = 2.19.
    assert pull(agent) == 0
    assert agent.policy.counts.tolist() == [[1, 9, 1]] and agent.policy.total.tolist() == [[0, 1, 0]]
    assert agent.policy(torch.zeros(2, dtype=torch.int64)).tolist() == [1, 1]


@pytest.mark.medium
def test_regret_stays_below_the_bound_and_far_below_chance(tmp_path):
    agent = fit(UCB1(BANDIT, Rollouts(steps=1, steps_per_epoch=3000, rollouts_per_batch=300)), tmp_path)
    regret = pseudo_regret(np.array(MEANS), agent.policy.counts[0].numpy())
    assert agent.policy.counts.sum() == 3000
    assert regret <= ucb1_bound(np.array(MEANS), 3000) and regret < 0.2 * 3000 * 0.3
