"""Backward views against forward views: sums of traces are sums of λ-returns."""

import pytest
import torch

from lit_rl.functional.returns import generalized_advantage, lambda_returns
from lit_rl.functional.traces import TrueOnline, accumulating_trace, replacing_trace, true_online_td

GAMMA, LAM, STEPS, ENVS = 0.9, 0.7, 25, 3


def test_frozen_values_make_backward_and_forward_view_equal_over_several_episodes() -> None:
    """Σ_t δ_t e_t = Σ_t ∇_t GAE_t, with ends in mid-rollout, of both kinds."""
    g = torch.Generator().manual_seed(0)
    reward, value, next_value = torch.randn(3, STEPS, ENVS, generator=g, dtype=torch.float64)
    done = torch.rand(STEPS, ENVS, generator=g) < 0.2
    terminated = done & (torch.rand(STEPS, ENVS, generator=g) < 0.5)
    gradient = torch.randn(STEPS, ENVS, 4, generator=g, dtype=torch.float64)
    discount = GAMMA * (~terminated).double()

    trace, backward = torch.zeros(ENVS, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for t in range(STEPS):
        before = done[t - 1] if t else torch.ones(ENVS, dtype=torch.bool)
        trace = accumulating_trace(trace, gradient[t], GAMMA * LAM * (~before).double())
        backward = backward + (reward[t] + discount[t] * next_value[t] - value[t]) @ trace
    advantage = generalized_advantage(reward, value, next_value, discount, done, lam=LAM)
    torch.testing.assert_close(backward, (advantage.unsqueeze(-1) * gradient).sum((0, 1)))


def test_a_replacing_trace_counts_a_state_once() -> None:
    features = torch.tensor([[1.0, 0.0]])
    trace = replacing_trace(torch.tensor([[0.5, 0.8]]), features, torch.tensor([0.5]))
    assert trace.tolist() == [[1.0, pytest.approx(0.4)]]
    assert accumulating_trace(torch.tensor([[0.5, 0.8]]), features, torch.tensor([0.5]))[0, 0] == 1.25


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_true_online_td_is_the_online_lambda_return_algorithm(lam: float) -> None:
    """At every horizon h, starting afresh from w_0, one pass of λ-returns cut at h ends in the same weights."""
    g = torch.Generator().manual_seed(1)
    steps, size, lr = 6, 4, 0.1
    x = torch.randn(steps + 1, size, generator=g, dtype=torch.float64)
    reward = torch.randn(steps, generator=g, dtype=torch.float64)
    zeros = torch.zeros(size, dtype=torch.float64)
    start = torch.randn(size, generator=g, dtype=torch.float64)

    carry, after = TrueOnline(start, zeros, torch.zeros((), dtype=torch.float64)), [start]
    for t in range(steps):
        discount = GAMMA if t + 1 < steps else 0.0  # the last step terminates
        carry = true_online_td(carry, x[t], x[t + 1], reward[t].item(), discount, GAMMA * lam, lr)
        after.append(carry.weights)

    discount = torch.full((steps, 1), GAMMA, dtype=torch.float64)
    discount[-1] = 0.0
    for horizon in range(1, steps + 1):
        bootstrap = torch.stack([after[t] @ x[t + 1] for t in range(horizon)]).unsqueeze(-1)  # V under w_t
        done = torch.zeros(horizon, 1, dtype=torch.bool)
        done[-1] = horizon == steps
        returns = lambda_returns(reward[:horizon, None], bootstrap, discount[:horizon], done, lam=lam)
        weights = start
        for t in range(horizon):
            weights = weights + lr * (returns[t, 0] - weights @ x[t]) * x[t]
        torch.testing.assert_close(after[horizon], weights)
