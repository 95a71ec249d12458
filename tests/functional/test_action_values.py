"""Targets from action values: by hand, in their limits, fitted until they stay, and why a maximum is too high."""

import numpy as np
import pytest
import torch

from lit_rl.envs.finite_mdp import FiniteMDP, random_mdp
from lit_rl.functional.action_values import double_q_target, expected_target, q_target, soft_value
from lit_rl.metrics.overestimation import overestimation
from lit_rl.nn.regression import least_squares_

REWARD, DISCOUNT = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])
NEXT = torch.tensor([[4.0, 6.0], [8.0, 7.0], [9.0, 9.0]])
OTHER = torch.tensor([[1.0, 2.0], [3.0, 30.0], [5.0, 5.0]])
MASK = torch.tensor([[True, False], [True, True], [False, False]])


def test_targets_by_hand() -> None:
    """Row 1 is truncated and bootstraps, row 2 terminated: 2, also where no action is legal."""
    assert q_target(REWARD, DISCOUNT, NEXT).tolist() == [1 + 3, 4, 2]
    assert q_target(REWARD, DISCOUNT, NEXT, MASK).tolist() == [1 + 2, 4, 2]
    # NEXT selects 1, 0; OTHER says 2 and 3
    assert double_q_target(REWARD, DISCOUNT, NEXT, OTHER).tolist() == [2, 1.5, 2]
    assert (
        double_q_target(REWARD, DISCOUNT, NEXT, NEXT, MASK).tolist() == q_target(REWARD, DISCOUNT, NEXT, MASK).tolist()
    )
    assert expected_target(REWARD, DISCOUNT, NEXT, torch.full((3, 2), 0.5)).tolist() == [3.5, 3.75, 2]


def test_the_soft_maximum_hardens_as_it_cools() -> None:
    assert soft_value(NEXT, 1e-3).tolist() == pytest.approx([6, 8, 9], abs=1e-3)
    expected = 2 * np.log(np.exp(NEXT.numpy() / 2).sum(-1))
    np.testing.assert_allclose(soft_value(NEXT, 2.0), expected, rtol=1e-6)
    masked = soft_value(NEXT, 0.5, MASK)
    assert masked[0] == 4 and masked.isfinite().all()
    assert soft_value(NEXT, 5.0, MASK).isfinite().all()
    np.testing.assert_allclose(soft_value(NEXT + 3, 0.7), soft_value(NEXT, 0.7) + 3, rtol=1e-6)


@pytest.mark.parametrize(("actions", "expected"), [(2, 0.564), (10, 1.539)])
def test_the_maximum_of_noise_is_too_high_and_two_estimators_cure_it(actions: int, expected: float) -> None:
    """Formula sheet 7.3.1a: true values 0, noise N(0, 1)."""
    rng = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 200_000, actions, generator=rng)
    nothing, once = torch.zeros(200_000), torch.ones(200_000)
    assert q_target(nothing, once, one).mean().item() == pytest.approx(expected, abs=0.01)
    assert double_q_target(nothing, once, one, other).mean().item() == pytest.approx(0, abs=0.01)


def test_overestimation_counts_what_lies_beyond_a_time_limit() -> None:
    """Values of starts 3, 5. Episode 0 terminated with 2; episode 1, cut, earned 1 and 0.5 · 4 beyond: 3 − 2, 5 − 3."""
    numbers = [3.0, 5.0], [2.0, 1.0], [100.0, 4.0], [0.0, 0.5]
    found = overestimation(*(torch.tensor(row) for row in numbers))
    assert (found["start_value"].item(), found["overestimation"].item()) == (4.0, 1.5)


def fitted_policy_value(data: tuple[torch.Tensor, ...], policy: torch.Tensor, sweeps: int = 60) -> torch.Tensor:
    """Q [S, A] after so many exact regressions on one-hot states, each on the targets of the one before."""
    state, action, reward, discount, following = data
    q = torch.nn.Linear(*policy.shape, bias=False, dtype=torch.float64)  # a table
    torch.nn.init.zeros_(q.weight)
    one_hot = torch.eye(len(policy), dtype=torch.float64)
    for _ in range(sweeps):
        target = expected_target(reward, discount, q(one_hot[following]).detach(), policy[following])
        least_squares_(q, one_hot[state], target, action)
    return q.weight.detach().T


def sampled(world: FiniteMDP, rows: int, gamma: float) -> tuple[torch.Tensor, ...]:
    """Transitions from uniformly random pairs; every third end terminates."""
    rng = np.random.default_rng(1)
    state, action = rng.integers(world.states, size=rows), rng.integers(world.actions, size=rows)
    following = np.array([rng.choice(world.states, p=p) for p in world.transition[state, action]])
    reward = world.reward[state, action] + rng.normal(size=rows)
    discount = gamma * (rng.random(rows) < 2 / 3)
    return tuple(torch.from_numpy(column) for column in (state, action, reward, discount, following))


def solved(data: tuple[torch.Tensor, ...], policy: torch.Tensor) -> torch.Tensor:
    """Q = (I − P^π)⁻¹ r on pairs, of the frequencies in the data; γ and the ends are inside P."""
    state, action, reward, discount, following = data
    states, actions = policy.shape
    pair, pairs = state * actions + action, states * actions
    visits = torch.bincount(pair, minlength=pairs)
    assert int(visits.min()) > 0
    onward = torch.zeros(pairs, states, dtype=torch.float64).index_put_((pair, following), discount, accumulate=True)
    earned = torch.zeros(pairs, dtype=torch.float64).index_put_((pair,), reward, accumulate=True)
    step = (onward / visits[:, None])[:, :, None] * policy  # [S A, S, A]
    eye = torch.eye(pairs, dtype=torch.float64)
    return torch.linalg.solve(eye - step.flatten(1), earned / visits).unflatten(0, policy.shape)


def test_fitted_policy_evaluation_is_the_linear_solve() -> None:
    """Formula sheet 6.1.4c, 14.1.1b: with one-hot features, of the empirical world; terminal rows bootstrap nothing."""
    data = sampled(random_mdp(np.random.default_rng(0), 5, 3), 400, 0.9)
    soft = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
    for policy in (soft, torch.eye(3, dtype=torch.float64)[[0, 2, 1, 1, 0]]):
        exact = solved(data, policy)
        torch.testing.assert_close(fitted_policy_value(data, policy), exact, atol=1e-9, rtol=0)
        other = fitted_policy_value((*data[:3], torch.full_like(data[3], 0.9), data[4]), policy)
        assert (other - exact).abs().max() > 0.1, "where ends are overlooked"


def test_with_greedy_improvement_between_it_is_policy_iteration() -> None:
    """Formula sheet 6.1.4c: the policy that stays has the fixed point of max targets, and each step improved it."""
    data = sampled(random_mdp(np.random.default_rng(0), 5, 3), 400, 0.9)
    state, action, reward, discount, following = data
    policy, last = torch.full((5, 3), 1 / 3, dtype=torch.float64), torch.full((5, 3), -torch.inf, dtype=torch.float64)
    for _ in range(10):
        q = fitted_policy_value(data, policy)
        assert (q >= last - 1e-9).all()
        better = torch.nn.functional.one_hot(q.argmax(-1), 3).double()
        if torch.equal(better, policy):
            break
        policy, last = better, q
    assert torch.equal(better, policy)
    table = torch.nn.Linear(5, 3, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(table.weight)
    least_squares_(table, torch.eye(5, dtype=torch.float64)[state], q_target(reward, discount, q[following]), action)
    torch.testing.assert_close(table.weight.detach().T, q, atol=1e-9, rtol=0)
