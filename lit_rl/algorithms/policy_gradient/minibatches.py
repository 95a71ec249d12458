"""What algorithms on fresh rollouts share: advantages, and the rows of a rollout in shuffled minibatches."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_rl.batch import Observation, Rollout, map_tensors, select
from lit_rl.functional.returns import generalized_advantage, vtrace
from lit_rl.functional.statistics import explained_variance
from lit_rl.policies.actor_critic import Evaluation


class Minibatch(NamedTuple):
    """B rows of a rollout; with a memory B = T · n rows of whole segments, observations as [T, n, ...]."""

    obs: Observation
    action: Tensor  # [B] or [B, A]
    log_prob: Tensor  # [B], log π(a|s; θ_old)
    advantage: Tensor  # [B]
    target: Tensor  # [B], G
    distribution: Tensor | None = None  # [B, P], π(·|s; θ_old), where it was asked for
    state: Tensor | None = None  # [n, H]
    start: Tensor | None = None  # [T, n]


class Advantages(NamedTuple):
    """What a step was worth beyond the value of its state."""

    advantage: Tensor  # [T, N]
    target: Tensor  # [T, N], G, regression target of the value
    rho: Tensor | None  # [T, N], truncated ratio to an older policy that acted; None where there was none


def estimate_advantages(data: Rollout, now: Evaluation, gamma: float, lam: float, lagging: bool) -> Advantages:
    """GAE(λ) and its TD(λ) targets; V-trace where an older policy may have acted (``lagging``). Sheet 5.6.2a, H1."""
    discount = gamma * (~data.terminated).float()
    if not lagging:
        advantage = generalized_advantage(data.reward, now.value, now.next_value, discount, data.done, lam=lam)
        return Advantages(advantage, advantage + now.value, None)
    log_ratio = now.log_prob - data.log_prob
    target, advantage, rho = vtrace(
        data.reward, now.value, now.next_value, discount, data.done, log_ratio=log_ratio, lam=lam
    )
    return Advantages(advantage, target, rho)


def advantages_and_targets(agent: Any, data: Rollout, now: Evaluation) -> tuple[Tensor, Tensor]:
    """A and G [T, N] by the agent's γ and λ; it records how much of G the critic explains, and ρ where there is one."""
    lagging = agent.data.workers > 0
    advantage, target, rho = estimate_advantages(data, now, agent.gamma, agent.lam, lagging)
    agent.record(explained_variance=explained_variance(now.value.flatten(), target.flatten()))
    if rho is not None:
        agent.record(rho=rho.mean())
    return advantage, target


def standardized(advantage: Tensor) -> Tensor:
    """Mean 0 and variance 1 over all entries; all 0 where they are equal."""
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)


def all_rows(
    data: Rollout, now: Evaluation, advantage: Tensor, target: Tensor, distribution: Tensor | None = None
) -> Minibatch:
    """The T · N rows of a rollout in the order t · N + n, without a memory."""
    obs = map_tensors(lambda tensor: tensor[:-1].flatten(0, 1), data.obs)
    flat = None if distribution is None else distribution.flatten(0, 1)
    action = data.action.flatten(0, 1)
    return Minibatch(obs, action, now.log_prob.flatten(), advantage.flatten(), target.flatten(), flat)


def shuffled_rows(rows: Minibatch, size: int) -> Iterator[Minibatch]:
    """One epoch over ``rows``, ``size`` at a time."""
    count, device = len(rows.advantage), rows.advantage.device
    for index in torch.randperm(count, device=device).split(size):
        yield map_tensors(partial(torch.index_select, dim=0, index=index), rows)


def shuffled_segments(
    data: Rollout,
    now: Evaluation,
    advantage: Tensor,
    target: Tensor,
    size: int,
    distribution: Tensor | None = None,
) -> Iterator[Minibatch]:
    """One epoch over a rollout of a policy with memory, whole environments at a time: about ``size`` rows."""
    steps, envs = advantage.shape
    start = data.episode_step == 0
    for index in torch.randperm(envs, device=advantage.device).split(max(1, size // steps)):
        yield Minibatch(
            obs=select(data.obs, (slice(0, steps), index)),
            action=data.action[:, index].flatten(0, 1),
            log_prob=now.log_prob[:, index].flatten(),
            advantage=advantage[:, index].flatten(),
            target=target[:, index].flatten(),
            distribution=None if distribution is None else distribution[:, index].flatten(0, 1),
            state=data.state[index],
            start=start[:, index],
        )


def rows_of(obs: Observation, start: Tensor | None) -> Observation:
    """Observations of a minibatch as rows [B, ...], which segments [T, n, ...] are not yet."""
    return obs if start is None else map_tensors(lambda tensor: tensor.flatten(0, 1), obs)
