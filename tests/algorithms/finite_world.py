"""Agents on a finite MDP: one-hot states, a table of logits, and rows as often as they are visited."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_rl import MLP, Env
from lit_rl.envs.finite_mdp import FiniteMDP, random_mdp
from lit_rl.functional.improvement import discounted_occupancy
from lit_rl.policies.actor_critic import ActorCritic
from lit_rl.policies.categorical import CategoricalPolicy

SIZE, GAMMA = 4, 0.9
ENV = Env("lit_rl.envs.toy:lit_rl/Identity-v0", 1, kwargs={"n": SIZE})  # 4 states and 4 actions; never stepped
TABLE = ActorCritic(MLP(()))


class Visited(NamedTuple):
    """Rows (s, a) as often as a policy visits them, with their exact advantages."""

    obs: Tensor  # [B] int
    action: Tensor  # [B] int
    advantage: Tensor  # [B]


def mdp(seed: int) -> FiniteMDP:
    return random_mdp(np.random.default_rng(seed), SIZE, SIZE)


def table(policy: CategoricalPolicy) -> np.ndarray:
    """π [S, A]."""
    return policy.outputs(torch.arange(SIZE)).detach().softmax(-1).double().numpy()


def performance(world: FiniteMDP, policy: np.ndarray) -> float:
    """J = p_0ᵀ V."""
    return float(world.initial @ world.policy_value(policy, GAMMA))


def visited(world: FiniteMDP, policy: np.ndarray, rows: int = 20_000, least: int = 5) -> Visited | None:
    """About ``rows`` of them: (1 − γ) d(s) π(a|s) of the rows are (s, a).

    None where some pair would stand in fewer than ``least`` rows: rounding would hide what an action costs.
    """
    value = world.policy_value(policy, GAMMA)
    advantage = world.backup(value, GAMMA) - value[:, None]
    transition, initial, weights = (torch.from_numpy(x) for x in (world.transition, world.initial, policy))
    share = (1 - GAMMA) * discounted_occupancy(transition, initial, weights, GAMMA)[:, None] * weights
    count = (share * rows).round().long().flatten()
    if count.min() < least:
        return None
    pair = torch.arange(SIZE * SIZE).repeat_interleave(count)
    return Visited(pair // SIZE, pair % SIZE, torch.from_numpy(advantage).flatten()[pair].float())
