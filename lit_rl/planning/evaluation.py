"""Exact values of a given policy. Formula sheet: 3.4a, 6.0a, 6.1.1a, 5.6.1b."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.model import Model, Successors, expectation, policy_chain, policy_reward


class HorizonValues(NamedTuple):
    """Values that depend on the step."""

    value: Tensor  # [T+1, *batch, S], V_T = 0
    q: Tensor  # [T, *batch, S, A]


def action_value(model: Model, value: Float[Tensor, "*batch S"], gamma: float) -> Float[Tensor, "*batch S A"]:
    """Q(s, a) = r(s, a) + γ Σ_s' p(s'|s, a) V(s')."""
    return torch.add(model.reward, expectation(model.transition, value), alpha=gamma)


def policy_value(model: Model, policy: Float[Tensor, "*batch S A"], gamma: float) -> Float[Tensor, "*batch S"]:
    """V^π = (I − γ P_π)⁻¹ r_π. Needs γ < 1, or a policy under which every episode ends."""
    reward = policy_reward(model.reward, policy)
    if isinstance(model.transition, Successors) and reward.shape[-1] > 2_000:
        return evaluate_by_sweeps(model, policy, gamma, tolerance=1e-10)
    step = policy_chain(model.transition, policy)
    identity = torch.eye(step.shape[-1], dtype=step.dtype, device=step.device)
    return torch.linalg.solve(identity - gamma * step, reward)


def evaluate_by_sweeps(
    model: Model,
    policy: Float[Tensor, "*batch S A"],
    gamma: float,
    tolerance: float = 1e-10,
    sweeps: int | None = None,
    value: Float[Tensor, "*batch S"] | None = None,
) -> Float[Tensor, "*batch S"]:
    """V ← r_π + γ P_π V from ``value`` (0 if None), ``sweeps`` times or until ‖V − V^π‖∞ ≤ ``tolerance``.

    The error shrinks by γ with every sweep, so that a change below ε(1 − γ)/γ is an error below ε.

    Raises:
        ValueError: γ ≥ 1 without a number of sweeps.
    """
    if gamma >= 1 and sweeps is None:
        raise ValueError(f"evaluate_by_sweeps: gamma is {gamma}; say how many sweeps, or solve with policy_value")
    reward = policy_reward(model.reward, policy)
    if value is None:
        value = torch.zeros_like(reward)
    made = 0
    while sweeps is None or made < sweeps:
        previous = value
        value = reward + gamma * (policy * expectation(model.transition, value)).sum(-1)
        made += 1
        if sweeps is None and gamma * float((value - previous).abs().max()) <= tolerance * (1.0 - gamma):
            break
    return value


def advantage(q: Float[Tensor, "*batch S A"], value: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S A"]:
    """A(s, a) = Q(s, a) − V(s); Σ_a π A = 0."""
    return q - value.unsqueeze(-1)


def horizon_values(model: Model, policy: Float[Tensor, "..."], horizon: int, gamma: float = 1.0) -> HorizonValues:
    """V_t and Q_t by backward induction, for π [*batch, S, A] or π_t [T, *batch, S, A]."""
    timed = policy.ndim > model.reward.ndim
    values, qs = [torch.zeros_like(model.reward[..., 0])], []
    for t in range(horizon - 1, -1, -1):
        qs.append(action_value(model, values[-1], gamma))
        values.append(((policy[t] if timed else policy) * qs[-1]).sum(-1))
    return HorizonValues(torch.stack(values[::-1]), torch.stack(qs[::-1]))


def greedy(q: Float[Tensor, "*batch S A"]) -> Float[Tensor, "*batch S A"]:
    """π(a|s) = 1[a = argmax Q(s, ·)], the lowest among equals: the policy implicit in Q (or in an advantage)."""
    return torch.nn.functional.one_hot(q.argmax(-1), q.shape[-1]).double()


def improve(q: Float[Tensor, "*batch S A"], policy: Float[Tensor, "*batch S A"], gain: float = 1e-10) -> Tensor:
    """Greedy in Q, but a state keeps its action unless another is better by more than ``gain``: ties cannot cycle."""
    better = q.amax(-1) > (policy * q).sum(-1) + gain
    return torch.where(better.unsqueeze(-1), greedy(q), policy)


def lambda_value_change(
    delta: Float[Tensor, " T"], state: Tensor, states: int, trace_decay: float, step_size: float = 1.0
) -> Float[Tensor, " S"]:
    """Σ_t α δ_t e_t of one episode with frozen values: the offline backward view of TD(λ).

        e_t = γλ e_{t−1} + 1[s = s_t]

    Args:
        delta: TD errors δ_t.
        state: s_t [T] int.
        states: S.
        trace_decay: γλ.
        step_size: α.
    """
    trace, change = delta.new_zeros(states), delta.new_zeros(states)
    for t in range(len(delta)):
        trace *= trace_decay
        trace[state[t]] += 1.0
        change += step_size * delta[t] * trace
    return change
