"""iLQR as an agent: exact on linear systems; near the optimum of the pendulum from almost everywhere."""

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl import DDP, ILQR, ControlTask
from lit_rl.agent import Agent
from lit_rl.data.episodes import Episodes
from lit_rl.planning.ilqr import ILQR as Descent
from lit_rl.planning.lqr import StationaryPolicy
from lit_rl.planning.pendulum import pendulum_regret
from lit_rl.planning.regulator import CostToGo, regulate

INTEGRATOR = "lit_rl.envs.double_integrator:lit_rl/DoubleIntegrator-v0"


def returns_of_lqr(agent: Agent) -> tuple[np.ndarray, np.ndarray]:
    """Costs of the agent's episodes, and what LQR would pay for the same way."""
    found = agent.evaluation.open(agent.env, agent.policy).play()
    system, problem, goal = agent.controlled
    solved: StationaryPolicy = regulate(problem.dynamics, problem.cost, goal, 1)
    to_go = CostToGo(system, solved.riccati, goal)
    return -found.returns.numpy(), (to_go(found.first_obs.double()) - to_go(found.final_obs.double())).numpy()


@pytest.mark.parametrize("kind", [ILQR, DDP])
def test_on_a_linear_system_it_is_lqr(kind: type, unchecked):
    agent = kind(
        INTEGRATOR, replan_every=6, task=ControlTask(10, final="riccati"), evaluation=Episodes(4, max_steps=15)
    )
    paid, best = returns_of_lqr(agent)
    assert paid == pytest.approx(best, rel=1e-5)


def regret(agent: Agent, seeds: range) -> torch.Tensor:
    """Of one episode from each seed's start, in the environment itself."""
    envs = [gymnasium.make("Pendulum-v1") for _ in seeds]
    obs = np.stack([env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)])
    starts = torch.tensor(np.array([env.unwrapped.state for env in envs]))
    memory, total = np.zeros((len(envs), agent.policy.state_size), np.float32), torch.zeros(len(envs)).double()
    for _ in range(200):
        act = agent.policy.act(obs, memory, np.random.default_rng(0), explore=False)
        steps = [env.step(action) for env, action in zip(envs, act.action, strict=True)]
        obs, memory = np.stack([step[0] for step in steps]), act.state
        total += torch.tensor([float(step[1]) for step in steps])
    return pendulum_regret(starts, total)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ILQR, DDP])
def test_the_pendulum_swings_up(kind: type, unchecked):
    found = regret(kind("Pendulum-v1"), range(20))
    print(kind.__name__, found.tolist())
    assert (found <= 15).double().mean() >= 0.8


def test_where_it_stands_it_stays(unchecked):
    """Seed 1 starts near the top, from where a plan without torque falls: first guesses by cost find how to stay."""
    agent = ILQR("Pendulum-v1", planner=Descent(iterations=8, starts=3), task=ControlTask(30))
    start = torch.tensor([[0.4205, -0.1385]]).double()
    fallen = ControlTask(30).open("Pendulum-v1", {}, 1.0).problem.total(start, torch.zeros(1, 30, 1).double())
    assert agent.policy.cost_to_go(start) < 3 and fallen > 30


def test_replanning_needs_a_plan():
    with pytest.raises(ValueError, match=r"ILQR\.replan_every is 51: from 1 to 50 steps"):
        ILQR("Pendulum-v1", replan_every=51)
