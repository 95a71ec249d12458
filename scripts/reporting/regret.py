"""What a policy of Pendulum-v1 leaves on the table."""

from dataclasses import replace
from pathlib import Path

from lit_rl import load
from lit_rl.planning.pendulum import pendulum_regret

EPISODES = 50


def regret_of(checkpoint: Path) -> float:
    """Mean of optimum(start) − return over 50 or more greedy episodes from the evaluation's fixed starts.

    Raises:
        ValueError: the environment is not Pendulum-v1 as it comes.
    """
    agent = load(checkpoint)
    if agent.env.id != "Pendulum-v1" or agent.env.wrappers:
        raise ValueError(f"{checkpoint}: the optimum is known for plain Pendulum-v1 only, not for {agent.env}")
    episodes = replace(agent.evaluation, count=max(EPISODES, agent.evaluation.count))
    results = episodes.open(agent.env, agent.policy).play()
    cos, sin, speed = results.first_obs.unbind(-1)
    starts = results.first_obs.new_empty(len(results.returns), 2)
    starts[:, 0], starts[:, 1] = sin.atan2(cos), speed
    return float(pendulum_regret(starts, results.returns).mean())
