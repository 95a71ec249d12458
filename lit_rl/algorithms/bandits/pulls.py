"""Counting pulls and pay: all that a bandit rule remembers."""

import numpy as np

from lit_rl.algorithms.tabular.table_agent import steps_of
from lit_rl.batch import Rollout
from lit_rl.policies.bandit import BanditPolicy


def count_pulls(policy: BanditPolicy, rollout: Rollout, bounded: bool) -> dict[str, float]:
    """N(s, a) and Σ r of the pulls of a round, into the policy; returns what to plot.

    Args:
        policy: whose counts grow.
        rollout: [T, N].
        bounded: whether the rule needs rewards in [0, 1].

    Raises:
        ValueError: a reward outside [0, 1] where the rule needs it inside.
    """
    steps = steps_of(rollout)
    if bounded and (steps.reward.min() < 0 or steps.reward.max() > 1):
        raise ValueError(
            f"a reward is {steps.reward.min():g} … {steps.reward.max():g}, and a beta belief is about rewards in "
            f"[0, 1]: use a gaussian one, or scale the rewards"
        )
    counts, total = policy.counts.numpy(), policy.total.numpy()
    np.add.at(counts, (steps.state, steps.action), 1.0)
    np.add.at(total, (steps.state, steps.action), steps.reward)
    return {"reward": float(steps.reward.mean()), "arms_tried": float((counts > 0).mean())}
