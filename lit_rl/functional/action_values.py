"""Targets and policies from the values of finitely many actions: pure, on any device.

Shapes: ``q`` [..., A] are values of all actions, ``mask`` [..., A] says which are legal. ``discount`` is
γⁿ(1 − terminated): a terminal successor may have no legal action and stays finite.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def chosen(q: Float[Tensor, "*B A"], action: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """q(s, a) of the actions taken. Formula sheet: 6.2.1a."""
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def legal_values(q: Float[Tensor, "*B A"], mask: Bool[Tensor, "*B A"] | None) -> Float[Tensor, "*B A"]:
    """q, and the least finite number where an action is illegal. Formula sheet: 7.1b."""
    return q if mask is None else torch.where(mask, q, torch.finfo(q.dtype).min)


def q_target(
    reward: Float[Tensor, "*B"],
    discount: Float[Tensor, "*B"],
    next_q: Float[Tensor, "*B A"],
    mask: Bool[Tensor, "*B A"] | None = None,
) -> Float[Tensor, "*B"]:
    """r + γ max_a' q(s', a'). Formula sheet: 6.2.1a, 7.1b (Watkins 1989)."""
    return reward + discount * legal_values(next_q, mask).amax(-1)


def double_q_value(
    selecting_q: Float[Tensor, "*B A"], evaluating_q: Float[Tensor, "*B A"], mask: Bool[Tensor, "*B A"] | None = None
) -> Float[Tensor, "*B"]:
    """q_evaluating(s, argmax_a q_selecting(s, a)). Formula sheet: 7.4a, 7.4.1a. Of equal networks, their maximum."""
    return chosen(evaluating_q, legal_values(selecting_q, mask).argmax(-1))


def double_q_target(
    reward: Float[Tensor, "*B"],
    discount: Float[Tensor, "*B"],
    selecting_q: Float[Tensor, "*B A"],
    evaluating_q: Float[Tensor, "*B A"],
    mask: Bool[Tensor, "*B A"] | None = None,
) -> Float[Tensor, "*B"]:
    """r + γ q_evaluating(s', argmax_a' q_selecting(s', a')).

    Formula sheet: 7.4a, 7.4.1a (van Hasselt 2010; van Hasselt, Guez & Silver 2016). Equal networks give
    :func:`q_target`.
    """
    return reward + discount * double_q_value(selecting_q, evaluating_q, mask)


def expected_target(
    reward: Float[Tensor, "*B"],
    discount: Float[Tensor, "*B"],
    next_q: Float[Tensor, "*B A"],
    probabilities: Float[Tensor, "*B A"],
) -> Float[Tensor, "*B"]:
    """r + γ Σ_a' π(a'|s') q(s', a'). Formula sheet: 6.1.4c."""
    return reward + discount * (probabilities * next_q).sum(-1)


def soft_value(
    q: Float[Tensor, "*B A"], temperature: float | Tensor, mask: Bool[Tensor, "*B A"] | None = None
) -> Float[Tensor, "*B"]:
    """α log Σ_a exp(q(s, a)/α): the soft maximum. Formula sheet: 15.6.1a (Haarnoja et al. 2017)."""
    value = temperature * torch.logsumexp(legal_values(q / temperature, mask), -1)
    return value if mask is None else value.clamp(min=torch.finfo(q.dtype).min)  # α > 1 overflows where none is legal


def epsilon_greedy_probabilities(
    q: Float[Tensor, "*B A"],
    epsilon: float | Tensor,
    mask: Bool[Tensor, "*B A"] | None = None,
    *,
    among: Literal["all", "others"] = "all",
) -> Float[Tensor, "*B A"]:
    """π [..., A] of the ε-greedy policy; ties go to the lowest index. Formula sheet: 6.2.1b.

    Args:
        q: values.
        epsilon: probability of a random action.
        mask: legal actions.
        among: which actions the random one is drawn from: ``all``, or the ``others`` than the greedy one.
    """
    legal = torch.ones_like(q) if mask is None else mask.to(q.dtype)
    count = legal.sum(-1, keepdim=True).clamp(min=1)
    if among == "others":  # of a single action there are none: it is taken
        epsilon = epsilon * torch.where(count > 1, count / (count - 1).clamp(min=1), 0.0)
    best = torch.nn.functional.one_hot(legal_values(q, mask).argmax(-1), q.shape[-1]).to(q.dtype)
    return epsilon * legal / count + (1 - epsilon) * best


def boltzmann_probabilities(
    q: Float[Tensor, "*B A"], temperature: float | Tensor, mask: Bool[Tensor, "*B A"] | None = None
) -> Float[Tensor, "*B A"]:
    """π [..., A] = softmax(q/temperature) over the legal actions. Formula sheet: 6.2.1c."""
    return torch.softmax(legal_values(q / temperature, mask), -1)
