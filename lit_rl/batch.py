"""The notation of the library, and the tuples in which experience travels.

Letters of shapes, everywhere:

====  =====================================================================
B     batch of independent rows
T     time, steps of one rollout or window
N     parallel environments
A     discrete actions, or dimensions of a continuous action
D     features
K     updates, the leading axis of stacked minibatches
E     members of an ensemble
M     episodes that ended inside a rollout, or whole episodes side by side
====  =====================================================================

Two names, always: ``terminated`` (the world ended: no value beyond, it cuts the bootstrap) and
``done = terminated | truncated`` (the episode ended, perhaps only by a time limit: it cuts the trace).

γ meets data once: ``Transition.discount`` is already γⁿ(1 − terminated), and losses never see γ.

An observation is a tensor, or a dict of tensors for a ``Dict`` space. Legal actions, where an
environment names them, are the boolean entry ``"action_mask"`` of that dict, so that they are stored,
sampled and bootstrapped with the observation that they belong to.
"""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, NamedTuple, TypeVar, Union

import torch
from torch import Tensor

Observation = Union[Tensor, dict[str, Tensor]]
Tree = TypeVar("Tree")


class Rollout(NamedTuple):
    """T consecutive steps of N environments under the policy of the moment."""

    obs: Observation  # [T+1, N, ...]; obs[t+1] follows obs[t], or opens the next episode where done[t]
    action: Tensor  # [T, N] or [T, N, A]
    log_prob: Tensor  # [T, N], of the behaviour policy at the time of acting
    reward: Tensor  # [T, N]
    terminated: Tensor  # [T, N] bool
    truncated: Tensor  # [T, N] bool
    episode_step: Tensor  # [T, N] int, steps taken in the episode before this one
    final_obs: Observation  # [M, ...], the true last observation of each episode that ended here
    final_index: Tensor  # [M] int, t * N + n of that end
    state: Tensor  # [N, H], the policy's memory before the first step; H = 0 without memory
    version: Tensor  # [] int, updates the acting policy had seen: learner's updates − version is the lag

    @property
    def done(self) -> Tensor:
        """Where an episode ended [T, N] bool, for whatever reason."""
        return self.terminated | self.truncated


class Trajectories(NamedTuple):
    """M whole episodes in columns, each from its first step to its last; behind that it is padded."""

    obs: Observation  # [T, M, ...], T steps of the longest
    action: Tensor  # [T, M] or [T, M, A]
    log_prob: Tensor  # [T, M], of the behaviour policy at the time of acting
    reward: Tensor  # [T, M], 0 where padded
    mask: Tensor  # [T, M] bool, the steps that were taken


class Transition(NamedTuple):
    """Independent transitions, one row each: (s, a) → n-step reward, γⁿ(1 − terminated), s'."""

    obs: Observation  # [B, ...]
    action: Tensor  # [B] or [B, A]
    reward: Tensor  # [B], Σ_{k<n} γᵏ r_k
    discount: Tensor  # [B], γⁿ (1 − terminated)
    next_obs: Observation  # [B, ...], the true successor, also at an episode's end
    log_prob: Tensor  # [B], of the behaviour policy
    weight: Tensor | None  # [B], importance weight of the sampling; None where rows count alike
    index: Tensor  # type: ignore[assignment]  # [B] int, the row of the memory, for priorities


def map_tensors(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Apply ``function`` to every tensor of a (named) tuple, dict or tensor; leave the rest alone."""
    if isinstance(tree, Tensor):
        return function(tree)  # type: ignore[return-value]
    if isinstance(tree, dict):
        return {key: map_tensors(function, value) for key, value in tree.items()}  # type: ignore[return-value]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)._make(  # type: ignore[attr-defined]
            [function(value) if type(value) is Tensor else map_tensors(function, value) for value in tree]
        )
    return tree


def select(tree: Tree, index: Any) -> Tree:
    """``tensor[index]`` for every tensor of a tree."""
    return map_tensors(lambda tensor: tensor[index], tree)


def unstack(data: Any) -> Iterator[Any]:
    """Slices of a named tuple of tensors (or dicts of them) along the leading axis; what is None stays None."""
    if isinstance(data, Tensor):
        return iter(data.unbind(0))
    if data is None:
        return repeat(None)
    if length(data) == 1:  # as most rounds of a replay: half the cost
        return iter((select(data, 0),))
    if isinstance(data, dict):
        return (dict(zip(data, row, strict=True)) for row in zip(*map(unstack, data.values()), strict=True))
    return map(type(data)._make, zip(*map(unstack, data)))  # noqa: B905  what is None has no end


def to_device(tree: Tree, device: torch.device) -> Tree:
    """Move every tensor; free of charge where it is there already."""
    return map_tensors(lambda tensor: tensor.to(device, non_blocking=True), tree)


def length(tree: Any) -> int:
    """Rows of a tensor, or of the first one in a dict or named tuple."""
    if isinstance(tree, dict):
        return length(next(iter(tree.values())))
    return length(tree[0]) if isinstance(tree, tuple) else len(tree)
