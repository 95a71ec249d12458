"""A known finite world as tensors, and the two ways through it: values flow backwards, probability forwards.

Shapes: S states, A actions, K successors, any leading batch. Rows of a kernel sum to at most 1: what is missing
ends the episode and is worth 0, so that no function here needs a mask. Formula sheet: 0.1, 3.2.
"""

from typing import NamedTuple, Union

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Successors(NamedTuple):
    """A sparse kernel: where each (s, a) may lead, filled up with probability 0. K stands first: it is looped over."""

    state: Int[Tensor, "K *batch S A"]
    probability: Float[Tensor, "K *batch S A"]


Kernel = Union[Tensor, Successors]  # [*batch, S, A, S], or its sparse form


class Model(NamedTuple):
    """A finite MDP without names."""

    transition: Kernel  # p(s'|s, a) where the episode goes on
    reward: Tensor  # [*batch, S, A], expected reward of a step
    initial: Tensor  # [*batch, S]


def expectation(transition: Kernel, value: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S A"]:
    """Σ_s' p(s'|s, a) V(s')."""
    if isinstance(transition, Successors):
        rows, total = value.unsqueeze(-1), torch.zeros_like(transition.probability[0])
        for state, probability in zip(*transition, strict=True):  # a sum over a short last axis is ten times slower
            if value.ndim == 1:
                total.addcmul_(value.index_select(0, state.reshape(-1)).view_as(state), probability)
            else:
                total.addcmul_(rows.expand(*value.shape, state.shape[-1]).gather(-2, state), probability)
        return total
    if transition.ndim == 3 and value.ndim == 1:
        return (transition.flatten(0, 1) @ value).view(transition.shape[:2])
    return (transition @ value[..., None, :, None]).squeeze(-1)


def flow(transition: Kernel, weight: Float[Tensor, "*batch S A"]) -> Float[Tensor, "*batch S"]:
    """Σ_{s,a} p(s'|s, a) w(s, a): where mass ``weight`` is after one step."""
    if isinstance(transition, Successors):
        total = torch.zeros_like(weight[..., 0])
        for state, probability in zip(*transition, strict=True):
            total.scatter_add_(-1, state.flatten(-2), (probability * weight).flatten(-2))
        return total
    return torch.einsum("...sat,...sa->...t", transition, weight)


def policy_chain(transition: Kernel, policy: Float[Tensor, "*batch S A"]) -> Float[Tensor, "*batch S S"]:
    """P_π[s, s'] = Σ_a π(a|s) p(s'|s, a)."""
    if isinstance(transition, Successors):
        dense = policy.new_zeros(*policy.shape[:-1], policy.shape[-2])
        for state, probability in zip(*transition, strict=True):
            dense.scatter_add_(-1, state, probability * policy)
        return dense
    return torch.einsum("...sa,...sat->...st", policy, transition)


def pair_chain(transition: Float[Tensor, "S A S"], policy: Float[Tensor, "S A"]) -> Float[Tensor, "SA SA"]:
    """P^π[(s, a), (s', a')] = p(s'|s, a) π(a'|s'), on pairs in row-major order."""
    return torch.einsum("sat,tb->satb", transition, policy).flatten(2).flatten(0, 1)


def policy_reward(
    reward: Float[Tensor, "*batch S A"], policy: Float[Tensor, "*batch S A"]
) -> Float[Tensor, "*batch S"]:
    """r_π(s) = Σ_a π(a|s) r(s, a)."""
    return (policy * reward).sum(-1)


def deterministic(action: Int[Tensor, "*batch S"], actions: int) -> Float[Tensor, "*batch S A"]:
    """π(a|s) = 1[a = ``action``[s]] in float64."""
    return torch.nn.functional.one_hot(action, actions).double()
