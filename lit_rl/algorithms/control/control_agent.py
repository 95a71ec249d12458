"""What agents share that know the physics: they act by planning, and have nothing to learn."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.optimizer import Optimizer
from lit_rl.planning.task import ControlTask
from lit_rl.policies.control import ControlPolicy


class ControlAgent(Agent):
    """Builds ``self.policy`` from a task; its rounds look back at what was planned. The optimiser holds nothing.

    Needs no training: the commands that need a checkpoint of other agents take a config of these.
    """

    learns = False
    observation_spaces = ("Box",)
    policy: ControlPolicy

    def __init__(self, env: Env | str, data: Rollouts, task: ControlTask, gamma: float, evaluation: Episodes) -> None:
        super().__init__(env, data, Optimizer(lr=1.0, name="sgd"), gamma, evaluation)
        self.task = task
        self.controlled = task.open(self.env.id, self.env.kwargs, gamma)
        system, shape = self.controlled.system, self.env.observation_space.shape or ()
        wanted = tuple(system.observe(torch.zeros(len(system.state_names))).shape)
        if shape != wanted:
            raise ValueError(
                f"{type(self).__name__}: {type(system).__name__} is observed as Box{wanted}, and {self.env.id} shows "
                f"Box{shape}"
            )

    def minibatches(self, data: Rollout) -> Iterator[Rollout]:
        """The rollout as it is."""
        yield data

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Nothing to learn."""
        return {}

    @torch.no_grad()
    def update(self, minibatch: Rollout) -> None:
        """Look back at a rollout; nothing changes."""
        self.policy.count(updates=1)
        self.record(**look_back(self.policy, minibatch))


def look_back(policy: ControlPolicy, rollout: Rollout) -> dict[str, float]:
    """What to plot of a rollout [T, N]: all of it in the task's own costs, not the environment's rewards.

    Returns:
        ``cost``, of a step in the mean; ``planned_cost``, of a step in the plans that were in memory when the rollout
        began, where there were any; ``model_error``, the largest difference between an observation and the one that
        the physics predict from the observation before: 0 but for rounding where they are those of the environment.
    """
    assert isinstance(rollout.obs, Tensor)
    problem, system = policy.problem, policy.system
    states, actions = policy.state_of(rollout.obs), policy.from_env(rollout.action)
    goes_on = ~rollout.done.cpu()
    predicted = system.observe(problem.dynamics(states[:-1], actions))
    error = (predicted - rollout.obs[1:].cpu().double()).abs().amax(-1)
    found = {"cost": float(problem.cost(states[:-1], actions).mean())}
    if goes_on.any():
        found["model_error"] = float(error[goes_on].max())
    memory = rollout.state.cpu().numpy()
    plans = policy.planned(memory)
    if plans is not None and (memory[:, 0] > 0).all():
        found["planned_cost"] = float(problem.total(states[0], plans).mean() / problem.horizon)
    return found
