import math

import pytest
import torch

from lit_rl.algorithms.tabular.dyna_q import DynaQ
from lit_rl.algorithms.tabular.optimistic_value_iteration import OptimisticValueIteration, optimistic_values
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.nn.bonus import CountBonus, count_bonus
from lit_rl.planning.evaluation import greedy
from lit_rl.planning.occupancy import finite_horizon_return
from tests.algorithms.table_runs import WORLD, fit, model_of, rollout


@pytest.mark.usefixtures("unchecked")
def test_bonuses_by_hand():
    counts = torch.tensor([0.0, 1.0, 4.0]).double()
    assert count_bonus(counts, "mbie", 2.0).tolist() == [math.inf, 2.0, 1.0]
    assert count_bonus(counts, "beb", 2.0).tolist() == [math.inf, 2.0, 0.5]
    assert count_bonus(counts, "ucb", 1.0, 5.0).tolist() == pytest.approx(
        [math.inf, math.sqrt(2 * math.log(5)), math.sqrt(2 * math.log(5) / 4)]
    )
    assert count_bonus(counts, "smoothed").tolist() == pytest.approx([10.0, 1.01**-0.5, 4.01**-0.5])
    with pytest.raises(ValueError, match="form is"):
        CountBonus("other")


@pytest.mark.parametrize("per", ["pair", "state"])
def test_counts_pay_what_they_stand_for_now(per):
    env = Env(WORLD + "Chain-v0", kwargs={"n": 3}).with_spaces()
    bonus = CountBonus("beb", per=per).build(env.observation_space, env.action_space)
    obs, action, following = torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), torch.tensor([1, 1, 0])
    bonus.visit(obs, action, following)
    assert bonus(obs, action, following).tolist() == [0.5, 0.5, 1.0]
    bonus.visit(obs[:1], action[:1], following[:1])
    assert bonus(obs, action, following).tolist() == pytest.approx([1 / 3, 1 / 3, 1.0])
    with pytest.raises(ValueError, match="counts Discrete"):
        CountBonus(per=per).build(Env("CartPole-v1").with_spaces().observation_space, env.action_space)


def test_values_by_hand():
    # Pair (0, 0) tried 4 times: twice to the end, twice to state 0, paid 2 in all; (0, 1) never tried; U = 3, γ = ½.
    counts = torch.tensor([[[2.0, 2.0], [0.0, 0.0]]]).double()
    q = optimistic_values(counts, torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.5, 9.0]]), 0.5, 3.0, 100)
    assert q.tolist() == [[2 / 4 + 0.5 + 0.5 * 0.5 * 3.0, 3.0]]
    sure = optimistic_values(counts, torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[99.0, 9.0]]), 0.5, 3.0, 100)
    assert sure.tolist() == [[3.0, 3.0]]


def test_it_plans_when_an_episode_ends():
    agent = OptimisticValueIteration(Env(WORLD + "Chain-v0", kwargs={"n": 3}), bonus=CountBonus(scale=0.001))
    agent.sweep(rollout((0, 0, 0.0, 0, False, False)))
    assert (agent.policy.q == 1.0).all()
    agent.sweep(rollout((0, 1, 0.0, 1, False, True)))
    assert agent.policy.q[0, 0] < 1.0 and agent.bonus.counts.sum() == 2


def solved_after(agent, folder, episodes: int, every: int = 20) -> int | None:
    """Episodes until the greedy policy earns 0.99, looked at now and then."""
    model = model_of(agent)
    n = round(math.sqrt(len(model.reward) - 1))
    for epoch in range(1, episodes // every + 1):
        fit(agent, folder, 1, seed=epoch)
        if finite_horizon_return(model, greedy(agent.policy.q), n) > 0.98:
            return epoch * every
    return None


@pytest.mark.medium
def test_the_treasure_is_found_where_dithering_never_sees_it(tmp_path):
    env = Env(WORLD + "DeepSea-v0", kwargs={"n": 10})
    data = Rollouts(steps=1, steps_per_epoch=200, rollouts_per_batch=200)
    assert (solved_after(OptimisticValueIteration(env, data), tmp_path, 300) or 999) <= 300
    dithering = DynaQ(env, data, 0.99, planning_steps=0)
    assert solved_after(dithering, tmp_path, 300) is None
