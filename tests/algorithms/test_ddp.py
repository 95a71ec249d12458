"""DDP as an agent; what it shares with iLQR is tested there."""

import numpy as np
import pytest
import torch

from lit_rl import DDP, ILQR, ControlTask
from lit_rl.planning.ddp import DDP as Descent
from lit_rl.planning.ilqr import ILQR as GaussNewton


def test_a_few_iterations_are_enough_near_a_minimum(unchecked):
    """Both find the same trajectory; DDP converges where iLQR is still on its way."""
    start, task = torch.tensor([[0.4, 0.2]]).double(), ControlTask(15)
    newton = DDP("Pendulum-v1", replan_every=15, planner=Descent(iterations=6, tolerance=1e-12), task=task)
    slower = ILQR("Pendulum-v1", replan_every=15, planner=GaussNewton(iterations=100, tolerance=1e-12), task=task)
    costs = [agent.policy.cost_to_go(start).item() for agent in (newton, slower)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)


def test_the_start_of_an_episode_is_planned_for_alone(unchecked):
    """Two environments side by side act as each would by itself."""
    agent = DDP("Pendulum-v1", replan_every=4, planner=Descent(iterations=3), task=ControlTask(8))
    states = torch.tensor([[0.4, 0.2], [3.0, 1.0]]).double()
    obs = agent.controlled.system.observe(states).float().numpy()
    memory, rng = np.zeros((2, agent.policy.state_size), np.float32), np.random.default_rng(0)
    both = agent.policy.act(obs, memory, rng, explore=False).action
    alone = [agent.policy.act(obs[i : i + 1], memory[:1], rng, explore=False).action[0] for i in range(2)]
    assert both == pytest.approx(np.stack(alone), abs=1e-6)


def test_replanning_needs_a_plan():
    with pytest.raises(ValueError, match=r"DDP\.replan_every is 0"):
        DDP("Pendulum-v1", replan_every=0)
