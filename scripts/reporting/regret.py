"""What a policy of Pendulum-v1 leaves on the table."""

from dataclasses import replace
from pathlib import Path

import torch

from lit_rl import load
from lit_rl.agent import Agent
from lit_rl.planning.pendulum import HORIZON, pendulum_regret

EPISODES = 50


def regret_of(checkpoint: Path) -> float:
    """Of a checkpoint; see :func:`regret_of_agent`."""
    return regret_of_agent(load(checkpoint))


def regret_of_agent(agent: Agent) -> float:
    """Mean of optimum(start) − return over 50 or more greedy episodes from the evaluation's fixed starts.

    Raises:
        ValueError: the environment is not Pendulum-v1 as it comes.
    """
    if agent.env.id != "Pendulum-v1" or agent.env.wrappers or agent.env.kwargs:
        raise ValueError(f"the optimum is known for plain Pendulum-v1 only, not for {agent.env.id} as it is here")
    episodes = replace(agent.evaluation, count=max(EPISODES, agent.evaluation.count), max_steps=HORIZON)
    results = episodes.open(agent.env, agent.policy).play()
    cos, sin, speed = results.first_obs.unbind(-1)
    starts = torch.stack([torch.atan2(sin, cos), speed], dim=-1)
    return float(pendulum_regret(starts, results.returns).mean())
