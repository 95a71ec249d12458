import numpy as np
import pytest
import torch

from lit_rl.algorithms.tabular.dyna_q import DynaQ, expected_target
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.finite_mdp import finite_mdp_of
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import bellman, policy_iteration
from lit_rl.planning.occupancy import finite_horizon_return
from tests.algorithms.table_runs import WORLD, fit, model_of, rollout

MAZE = {"rows": [".......#G", "..#....#.", "S.#....#.", "..#......", ".....#...", "........."]}
RANDOM = Env(WORLD + "RandomMDP-v0", kwargs={"states": 4, "actions": 2})


def test_the_target_by_hand():
    # r̂ = 1, half of the time to a state worth 4, half of the time the end: 1 + 0.5 (0.5 · 4 + 0.5 · 0).
    assert expected_target(1.0, np.array([0.5, 0.5]), np.array([4.0, 0.0]), 0.5) == 2.0


def test_without_planning_it_is_q_learning():
    agent = DynaQ(RANDOM, gamma=0.5, step_size=0.5, planning_steps=0)
    agent.policy.q[1] = torch.tensor([2.0, 4.0])
    agent.sweep(rollout((0, 1, 1.0, 1, False, False), (1, 0, 8.0, 2, True, False)))
    assert agent.policy.q[0].tolist() == [0.0, 1.5]  # ½ (1 + ½ · 4)
    assert agent.policy.q[1].tolist() == [5.0, 4.0]  # 2 + ½ (8 − 2): the end is worth 0
    assert agent.seen.transitions[1, 0].tolist() == [0, 0, 0, 0, 1]
    agent.sweep(rollout((0, 0, 0.0, 1, False, True)))
    assert agent.policy.q[0, 0] == 0.5 * 0.5 * 5.0  # a time limit bootstraps


def test_planning_with_the_true_model_is_asynchronous_value_iteration():
    agent = DynaQ(RANDOM, gamma=0.9, step_size=1.0, planning_steps=2000)
    opened = RANDOM.make_one()
    mdp = finite_mdp_of(opened)
    agent.seen.transitions[..., :4] = torch.from_numpy(mdp.transition) * 100
    agent.seen.reward.copy_(torch.from_numpy(mdp.reward) * 100)
    torch.manual_seed(0)
    agent._sweep_uniformly(agent.policy.q.numpy())
    assert torch.allclose(agent.policy.q, policy_iteration(mdp.model(), 0.9).q, atol=1e-5)
    swept = DynaQ(RANDOM, gamma=0.9, step_size=1.0, priority=1e-9, planning_steps=20_000)
    swept.seen.load_state_dict(agent.seen.state_dict())
    for s, a in np.ndindex(4, 2):
        swept._sweep_by_priority(swept.policy.q.numpy(), s, a)
    assert torch.allclose(swept.policy.q, agent.policy.q, atol=1e-5)
    value = agent.policy.q.amax(-1)
    assert torch.allclose(bellman(mdp.model(), value, 0.9), value, atol=1e-5)


def test_sampled_backups_have_the_expected_ones_as_their_mean():
    agent = DynaQ(RANDOM, gamma=0.9, step_size=0.002, planning_steps=40_000, backup="sample")
    opened = RANDOM.make_one()
    mdp = finite_mdp_of(opened)
    agent.seen.transitions[..., :4] = torch.from_numpy(mdp.transition)
    agent.seen.reward.copy_(torch.from_numpy(mdp.reward))
    exact = policy_iteration(mdp.model(), 0.9).q
    agent.policy.q.copy_(exact)
    torch.manual_seed(0)
    agent._sweep_uniformly(agent.policy.q.numpy())
    assert torch.allclose(agent.policy.q, exact, atol=0.1)


def test_dyna_q_plus_is_drawn_to_what_it_has_not_tried_for_long():
    agent = DynaQ(RANDOM, gamma=0.5, step_size=1.0, planning_steps=200, kappa=0.1)
    torch.manual_seed(0)
    agent.sweep(rollout(*[(0, 0, 0.0, 0, False, False)] * 100))
    # The untried action is a loop that pays κ √100 = 1 a step: 1/(1 − ½).
    assert agent.policy.q[0, 1] == pytest.approx(2.0, abs=0.05) and agent.policy.q[0, 0] < agent.policy.q[0, 1]


def steps_to_optimum(folder, seed: int, **arguments) -> int:
    """Real steps until the greedy policy takes the shortest way of 14 steps, looked at every 250."""
    data = Rollouts(steps=1, steps_per_epoch=250, rollouts_per_batch=250)
    agent = DynaQ(Env(WORLD + "Maze-v0", kwargs=MAZE | {"max_episode_steps": 1000}), data, **arguments)
    model = model_of(agent)
    for epoch in range(1, 61):
        fit(agent, folder, 1, seed + 100 * epoch)
        greedy = torch.nn.functional.one_hot(agent.policy.q.argmax(-1), 4).double()
        if finite_horizon_return(model, greedy, 14) == pytest.approx(1.0):
            break
    return 250 * epoch


@pytest.mark.slow
def test_planning_saves_steps(tmp_path):
    without = np.median([steps_to_optimum(tmp_path, seed, planning_steps=0) for seed in range(3)])
    for settings in ({"planning_steps": 50}, {"planning_steps": 50, "priority": 1e-4}):
        planned = np.median([steps_to_optimum(tmp_path, seed, **settings) for seed in range(3)])
        assert planned * 3 <= without, settings
