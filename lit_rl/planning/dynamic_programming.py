"""Optimal values and policies of a known finite world. Formula sheet: 6.0a, 6.1a, 6.1.3a, 6.3a."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.evaluation import HorizonValues, action_value, evaluate_by_sweeps, greedy, improve, policy_value
from lit_rl.planning.model import Model, Successors


class Solution(NamedTuple):
    """What planning found."""

    q: Tensor  # [*batch, S, A]
    value: Tensor  # [*batch, S]
    policy: Tensor  # [*batch, S, A]
    iterations: int  # sweeps, or improvements


def bellman(model: Model, value: Float[Tensor, "*batch S"], gamma: float) -> Float[Tensor, "*batch S"]:
    """(BV)(s) = max_a r(s, a) + γ Σ_s' p(s'|s, a) V(s'): a γ-contraction in the maximum norm."""
    return action_value(model, value, gamma).amax(-1)


def sweeper(model: Model, gamma: float) -> Callable[[Tensor], Tensor]:
    """:func:`action_value` for many sweeps: V [S] ↦ Q [S, A], which each call writes over.

    Fresh memory costs a sparse sweep over 10⁵ states more than its arithmetic.
    """
    if not isinstance(model.transition, Successors) or model.reward.ndim != 2:
        return lambda value: action_value(model, value, gamma)
    q, ahead, reward = torch.empty_like(model.reward), torch.empty_like(model.reward).view(-1), model.reward.reshape(-1)
    successors = [
        (state.reshape(-1).int(), gamma * probability.reshape(-1))
        for state, probability in zip(*model.transition, strict=True)
    ]

    def sweep(value: Tensor) -> Tensor:
        total = reward
        for state, weight in successors:
            torch.index_select(value, 0, state, out=ahead)
            total = torch.addcmul(total, ahead, weight, out=q.view(-1))
        return q

    return sweep


def value_iteration(model: Model, gamma: float, tolerance: float = 1e-10, max_sweeps: int | None = None) -> Solution:
    """V ← BV from 0 until ‖Q − Q*‖∞ ≤ ``tolerance`` (or ``max_sweeps`` sweeps).

    Raises:
        ValueError: γ ≥ 1 without ``max_sweeps``: the sweeps contract nothing.
    """
    if gamma >= 1 and max_sweeps is None:
        raise ValueError(f"value_iteration: gamma is {gamma}; value iteration needs gamma < 1, or max_sweeps")
    q = torch.zeros_like(model.reward)
    value = q.amax(-1)
    sweeps, sweep = 0, sweeper(model, gamma)
    while max_sweeps is None or sweeps < max_sweeps:
        q = sweep(value)
        following = q.amax(-1)
        change = float((following - value).abs_().max())
        value, sweeps = following, sweeps + 1
        if gamma < 1 and gamma * change <= tolerance * (1.0 - gamma):
            break
        if change == 0.0:
            break
    return Solution(q, value, greedy(q), sweeps)


def horizon_value_iteration(model: Model, horizon: int, gamma: float = 1.0) -> HorizonValues:
    """V*_t and Q*_t with ``horizon`` − t steps to go: T sweeps from 0."""
    values, qs = [torch.zeros_like(model.reward[..., 0])], []
    for _ in range(horizon):
        qs.append(action_value(model, values[-1], gamma))
        values.append(qs[-1].amax(-1))
    return HorizonValues(torch.stack(values[::-1]), torch.stack(qs[::-1]))


def policy_iteration(
    model: Model, gamma: float, sweeps: int | None = None, policy: Float[Tensor, "*batch S A"] | None = None
) -> Solution:
    """Evaluate, improve, until nothing changes: at most Aˢ times, and V never falls.

    Args:
        model: the world. At γ = 1 every policy on the way must end its episodes, or ``sweeps`` be given.
        gamma: discount.
        sweeps: evaluate by so many sweeps from the last values (modified policy iteration) instead of solving.
        policy: where to begin; the action 0 everywhere by default.
    """
    if policy is None:
        policy = greedy(torch.zeros_like(model.reward))
    value = torch.zeros_like(model.reward[..., 0])
    iterations = 0
    while True:
        previous = value
        if sweeps is None:
            value = policy_value(model, policy, gamma)
        else:
            value = evaluate_by_sweeps(model, policy, gamma, sweeps=sweeps, value=value)
        q = action_value(model, value, gamma)
        better = improve(q, policy)
        iterations += 1
        settled = sweeps is None or float((value - previous).abs().max()) < 1e-12
        if torch.equal(better, policy) and settled:
            return Solution(q, value, policy, iterations)
        policy = better


def contraction_ratio(before: Float[Tensor, "2 *batch S"], after: Float[Tensor, "2 *batch S"]) -> Tensor:
    """‖after₀ − after₁‖∞ / ‖before₀ − before₁‖∞ of two value functions and what an operator made of them."""
    return (after[0] - after[1]).abs().amax(-1) / (before[0] - before[1]).abs().amax(-1)
