"""Agents whose policy is a table of logits, so that the exact trajectories of M2 can be their batch."""

from typing import Any

import torch

from lit_rl import MLP, Env
from lit_rl.agent import Agent
from lit_rl.batch import Trajectories
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached
from tests.oracles.trajectories import Paths, Problem

TWO_BY_TWO = Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=2, kwargs={"n": 2, "horizon": 3})


def tabular(kind: Any, exact: Problem, **arguments: Any) -> Agent:
    """An agent of two states and two actions with the logits of the problem: one-hot observations, no hidden layer."""
    torch.manual_seed(0)
    sgd = Optimizer(lr=0.1, name="sgd")
    agent = kind(TWO_BY_TWO, net=ActorCritic(MLP(())), **{"optimizer": sgd, "gamma": 1.0} | arguments)
    with torch.no_grad():
        agent.policy.head.weight.copy_(exact.logits.T)
        agent.policy.head.bias.zero_()
    return detached(agent)


def as_trajectories(paths: Paths, behaviour: torch.Tensor) -> Trajectories:
    """The paths as whole episodes, played by the policy with these logits."""
    log_prob = paths.log_prob(behaviour).float()
    return Trajectories(paths.states, paths.actions, log_prob, paths.reward.float(), paths.mask)


def gradient_of_logits(agent: Agent) -> torch.Tensor:
    """∇ by the logits [S·A], after a backward."""
    weight = agent.policy.head.weight  # type: ignore[union-attr]
    assert isinstance(weight, torch.Tensor) and weight.grad is not None
    return weight.grad.T.flatten().double()
