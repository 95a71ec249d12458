"""What the end of a run leaves on the table, where the exact answer is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lit_rl import load
from lit_rl.agent import Agent
from lit_rl.envs.finite_mdp import finite_mdp_of
from lit_rl.planning import occupancy
from lit_rl.planning.bandits import pseudo_regret
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.evaluation import policy_value
from lit_rl.planning.pendulum import HORIZON, pendulum_regret
from lit_rl.planning.regulator import CostToGo, regulate
from lit_rl.planning.task import ControlTask
from lit_rl.policies.bandit import BanditPolicy
from lit_rl.policies.table import TablePolicy

EPISODES = 50
PENDULUM, INTEGRATOR = "Pendulum-v1", "lit_rl/DoubleIntegrator-v0"


def regret_of(checkpoint: Path) -> float:
    """Of a checkpoint; see :func:`regret_of_agent`."""
    return regret_of_agent(load(checkpoint))


def regret_of_agent(agent: Agent) -> float:
    """How far the agent is from the exact answer, by the kind of its policy.

    A bandit: T max μ − Σ μ of all pulls of training. A table on a finite MDP: J* − J^π of the greedy policy, from
    the environment's tables at the agent's γ; for an agent that learns the ``value`` of a fixed policy, the error
    of V in the mean over the states visited. A policy of Pendulum-v1 or of the double integrator: mean of
    optimum(start) − return over 50 or more greedy episodes from the evaluation's fixed starts.

    Raises:
        ValueError: the exact answer is not known for this environment.
    """
    policy = agent.policy
    if isinstance(policy, BanditPolicy | TablePolicy):
        opened = agent.env.make_one()
        mdp = finite_mdp_of(opened)
        opened.close()
        if isinstance(policy, BanditPolicy):
            return sum(pseudo_regret(*row) for row in zip(mdp.reward, policy.counts.numpy(), strict=True))
        return _regret_of_table(agent, policy, mdp)
    name = agent.env.id.rpartition(":")[2]
    if name not in (PENDULUM, INTEGRATOR) or agent.env.wrappers or agent.env.kwargs:
        raise ValueError(
            f"the optimum is known for plain {PENDULUM} and {INTEGRATOR}, not for {agent.env.id} as it is here"
        )
    episodes = replace(agent.evaluation, count=max(EPISODES, agent.evaluation.count), max_steps=HORIZON)
    results = episodes.open(agent.env, agent.policy).play()
    if name == INTEGRATOR:  # after its 100 steps nothing is left to pay
        system, problem, goal = ControlTask().open(name, {}, 1.0)
        best = CostToGo(system, regulate(system, problem.cost, goal, 1).riccati, goal)(results.first_obs.double())
        return float((-best - results.returns).mean())
    cos, sin, speed = results.first_obs.unbind(-1)
    starts = torch.stack([torch.atan2(sin, cos), speed], dim=-1)
    return float(pendulum_regret(starts, results.returns).mean())


def _regret_of_table(agent: Agent, policy: TablePolicy, mdp) -> float:
    model, states = mdp.model(), np.arange(mdp.states)
    if type(agent).__name__ == "TDLambda":
        acts = torch.from_numpy(policy.distribution(states))
        visited = occupancy.discounted_occupancy(model, acts, agent.gamma)
        error = agent.value - policy_value(model, acts, agent.gamma)
        return float((visited * error.square()).sum().div(visited.sum()).sqrt())
    optimum = value_iteration(model, agent.gamma, 1e-12).value
    reached = policy_value(model, torch.from_numpy(policy.distribution(states, explore=False)), agent.gamma)
    return float(model.initial @ (optimum - reached))
