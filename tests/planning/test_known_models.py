"""Planners on environments that they know exactly: scores of whole episodes, against dynamic programming."""

from random import Random

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl.planning.gradient_shooting import GradientShooting
from lit_rl.planning.model import Model
from lit_rl.planning.mppi import MPPI
from lit_rl.planning.pendulum import pendulum_regret
from lit_rl.planning.planner import Planner
from lit_rl.planning.search_model import TabularWorld, random_rollout
from lit_rl.planning.shooting import CEM, ICEM, RandomShooting
from lit_rl.planning.trajectory import ControlProblem
from lit_rl.planning.tree_rules import UCT
from lit_rl.planning.tree_search import Tree, TreeSearch

PLANNERS: dict[str, tuple[Planner, int, float]] = {  # planner, horizon, most regret
    "cem": (CEM(4, 200, 20, 0.1), 25, 30.0),
    "icem": (ICEM(3, 100), 25, 30.0),
    "mppi": (MPPI(500, 1, 0.1, 0.75), 25, 30.0),
    "random": (RandomShooting(800), 15, 129.0),
    "gradient": (GradientShooting(8, 20), 25, 60.0),
}


def step(state, action):
    """(θ, θ̇) of Pendulum-v1, its equations (2) in :mod:`lit_rl.planning.pendulum`."""
    angle, speed = state.unbind(-1)
    speed = (speed + 0.05 * (15.0 * angle.sin() + 3.0 * action[..., 0])).clamp(-8.0, 8.0)
    return torch.stack([angle + 0.05 * speed, speed], -1)


def cost(state, action):
    angle = torch.remainder(state[..., 0] + torch.pi, 2 * torch.pi) - torch.pi
    return angle**2 + 0.1 * state[..., 1] ** 2 + 0.001 * action[..., 0] ** 2


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANNERS)
def test_pendulum_in_receding_horizon(name, unchecked):
    """20 starts side by side, 200 steps of the environment itself."""
    planner, horizon, most = PLANNERS[name]
    bound = torch.tensor([2.0])
    problem = ControlProblem(step, cost, -bound, bound, horizon)
    envs = [gymnasium.make("Pendulum-v1") for _ in range(20)]
    starts = [env.reset(seed=seed)[0] for seed, env in enumerate(envs)]
    state = torch.tensor(np.array([env.unwrapped.state for env in envs]), dtype=torch.float32)
    first, draws, memory = state, torch.Generator().manual_seed(0), None
    returns = torch.zeros(20)
    assert len(starts) == 20
    for _ in range(200):
        plan = planner.plan(problem, state, memory, draws)
        memory = plan.memory
        rewards = [env.step(action.numpy())[1] for env, action in zip(envs, plan.actions[:, 0], strict=True)]
        returns += torch.tensor(rewards, dtype=torch.float32)
        following = torch.tensor(np.array([env.unwrapped.state for env in envs]), dtype=torch.float32)
        assert torch.allclose(following, step(state, plan.actions[:, 0]), atol=1e-4)
        state = following
    regret = pendulum_regret(first, returns).mean()
    print(name, "return", returns.mean().item(), "regret", regret.item())
    assert regret < most


def frozen_lake() -> tuple[gymnasium.Env, TabularWorld]:
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    transition, reward = torch.zeros(16, 4, 16, dtype=torch.float64), torch.zeros(16, 4, dtype=torch.float64)
    for state, by_action in env.unwrapped.P.items():
        for action, outcomes in by_action.items():
            for probability, following, paid, over in outcomes:
                reward[state, action] += probability * paid
                if not over:
                    transition[state, action, following] += probability
    return env, TabularWorld(Model(transition, reward, torch.eye(16, dtype=torch.float64)[0]))


def play(env, world, simulations, seed, depth=100, gamma=0.99):
    rng = Random(seed)
    state, _ = env.reset(seed=seed)
    search = TreeSearch(UCT(1.0), value_range=(0, 1))
    tree, evaluate = Tree(search, world, int(state), gamma), random_rollout(world, depth, gamma)
    while True:
        tree.search(evaluate, simulations, rng)
        action = tree.best_action()
        state, reward, over, late, _ = env.step(action)
        if over or late:
            return reward
        tree.advance(action, int(state))


def test_frozen_lake_without_slipping():
    env, world = frozen_lake()
    assert [play(env, world, 2000, seed) for seed in range(2)] == [1.0, 1.0]
