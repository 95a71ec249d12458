from itertools import pairwise

import numpy as np
import pytest
import torch

from lit_rl.algorithms.tabular.psrl import PSRL, sample_world
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.evaluation import greedy, policy_value
from tests.algorithms.table_runs import WORLD, fit, model_of, rollout


def test_worlds_are_drawn_from_the_posterior():
    counts, reward = torch.zeros(2, 1, 3).double(), torch.tensor([[6.0], [0.0]]).double()
    counts[0, 0] = torch.tensor([2.0, 1.0, 0.0])
    rng = np.random.default_rng(0)
    worlds = [sample_world(counts, reward, rng, 1.0, 0.0, 2.0) for _ in range(4000)]
    mean = torch.stack([world.transition for world in worlds]).mean(0)
    assert torch.allclose(mean[0, 0], torch.tensor([3 / 6, 2 / 6]).double(), atol=0.02)  # the rest is the end
    assert torch.allclose(mean[1, 0], torch.tensor([1 / 3, 1 / 3]).double(), atol=0.02)
    pays = torch.stack([world.reward for world in worlds])
    assert pays[:, 0, 0].mean() == pytest.approx(6 / 4, abs=0.1) and pays[:, 0, 0].std() == pytest.approx(1.0, abs=0.1)


def test_a_new_world_when_an_episode_ends_or_its_time_is_over():
    agent = PSRL(Env(WORLD + "RiverSwim-v0"), resample_every=3)
    tables = []
    for step in [(0, 0, 0.0, 0, False, False)] * 8:
        agent.sweep(rollout(step))
        tables.append(agent.policy.q.clone())
    changed = [not torch.equal(a, b) for a, b in pairwise(tables)]
    assert tables[0].any() and changed == [False, False, True, False, False, True, False]
    agent.sweep(rollout((0, 0, 0.0, 0, False, True)))
    assert not torch.equal(agent.policy.q, tables[-1])


@pytest.mark.slow
def test_it_swims_where_greed_rests(tmp_path):
    data = Rollouts(steps=1, steps_per_epoch=3000, rollouts_per_batch=300)
    agent = fit(PSRL(Env(WORLD + "RiverSwim-v0"), data, resample_every=50), tmp_path)
    model = model_of(agent)
    value = policy_value(model, greedy(agent.policy.q), 0.99)[0]
    assert value >= 0.95 * value_iteration(model, 0.99).value[0]
