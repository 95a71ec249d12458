from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_rl.functional.returns import (
    discounted_returns,
    generalized_advantage,
    lambda_returns,
    linear_recursion,
    n_step_returns,
    vtrace,
)
from tests.oracles.returns import each_env, n_step_return, recursion, weighted_advantage

GAMMA = 0.9


def experience(steps: int, envs: int, seed: int, p_terminated: float = 0.15, p_truncated: float = 0.15):
    """Random (reward, value, next_value, terminated, done), V(s_{t+1}) being one number in both its roles."""
    generator = torch.Generator().manual_seed(seed)
    reward, value, final = (torch.randn(steps, envs, generator=generator, dtype=torch.float64) for _ in range(3))
    terminated = torch.rand(steps, envs, generator=generator) < p_terminated
    done = terminated | (torch.rand(steps, envs, generator=generator) < p_truncated)
    following = torch.cat([value[1:], final[-1:]])
    return reward, value, torch.where(done, final, following), terminated, done


def discount_of(terminated: torch.Tensor, gamma: float = GAMMA) -> torch.Tensor:
    return gamma * (~terminated).double()


@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 12, 16, 30, 31, 65, 200])
@pytest.mark.parametrize("last", [False, True])
def test_the_blocked_recursion_equals_the_loop(steps, envs, last):
    generator = torch.Generator().manual_seed(steps)
    a, b = (torch.randn(steps, envs, generator=generator, dtype=torch.float64) for _ in range(2))
    b[torch.rand(steps, envs, generator=generator) < 0.2] = 0.0
    tail = torch.randn(envs, generator=generator, dtype=torch.float64) if last else None
    before = a.clone(), b.clone()
    torch.testing.assert_close(linear_recursion(a, b, tail), recursion(a, b, tail))
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])  # arguments stay as they were


def test_long_products_underflow_to_zero_and_nothing_else():
    a, b = torch.ones(4096, 2), torch.full((4096, 2), 1e-3)
    torch.testing.assert_close(linear_recursion(a, b), recursion(a, b))
    assert torch.isfinite(linear_recursion(a, b)).all()


def test_no_gradient_flows_through_targets():
    reward, value, next_value, terminated, done = experience(6, 2, seed=0)
    value.requires_grad_()
    advantage = generalized_advantage(reward, value, next_value, discount_of(terminated), done, lam=0.9)
    assert not advantage.requires_grad


# Two envs would hide a transposed axis: one column, three steps, r = 1, 2, 3, V = 10, 20, 30, γ = ½, and
# V(s_3) = 40 after the rollout. Without an end: δ = 1+10−10, 2+15−20, 3+20−30 = 1, −3, −7.
HAND = [
    # terminated, truncated, λ, A_0, A_1, A_2
    ([0, 0, 0], [0, 0, 0], 0.0, [1.0, -3.0, -7.0]),
    ([0, 0, 0], [0, 0, 0], 1.0, [-2.25, -6.5, -7.0]),  # A_1 = −3 − 7/2, A_0 = 1 − 6.5/2
    ([0, 0, 0], [0, 0, 0], 0.5, [-0.1875, -4.75, -7.0]),  # A_1 = −3 − 7/4, A_0 = 1 − 4.75/4
    # terminated at the last step: δ_2 = 3 − 30 = −27
    ([0, 0, 1], [0, 0, 0], 0.0, [1.0, -3.0, -27.0]),
    ([0, 0, 1], [0, 0, 0], 1.0, [-7.25, -16.5, -27.0]),
    ([0, 0, 1], [0, 0, 0], 0.5, [-1.4375, -9.75, -27.0]),
    # terminated at step 1: δ_1 = 2 − 20 = −18, nothing of step 2 comes back
    ([0, 1, 0], [0, 0, 0], 0.0, [1.0, -18.0, -7.0]),
    ([0, 1, 0], [0, 0, 0], 1.0, [-8.0, -18.0, -7.0]),
    ([0, 1, 0], [0, 0, 0], 0.5, [-3.5, -18.0, -7.0]),
    # truncated at step 1 where V(final) = 100: δ_1 = 2 + 50 − 20 = 32
    ([0, 0, 0], [0, 1, 0], 0.0, [1.0, 32.0, -7.0]),
    ([0, 0, 0], [0, 1, 0], 1.0, [17.0, 32.0, -7.0]),
    ([0, 0, 0], [0, 1, 0], 0.5, [9.0, 32.0, -7.0]),
    # both at once counts as terminated
    ([0, 1, 0], [0, 1, 0], 1.0, [-8.0, -18.0, -7.0]),
    # truncated at step 0, V(final) = 100: δ_0 = 1 + 50 − 10 = 41
    ([0, 0, 0], [1, 0, 0], 1.0, [41.0, -6.5, -7.0]),
    ([0, 0, 0], [1, 0, 0], 0.5, [41.0, -4.75, -7.0]),
    # terminated at step 0: δ_0 = 1 − 10
    ([1, 0, 0], [0, 0, 0], 1.0, [-9.0, -6.5, -7.0]),
    # truncated at the last step: V(final) = 100 in the place of 40, δ_2 = 3 + 50 − 30 = 23
    ([0, 0, 0], [0, 0, 1], 0.0, [1.0, -3.0, 23.0]),
    ([0, 0, 0], [0, 0, 1], 1.0, [5.25, 8.5, 23.0]),
    # every step ends an episode
    ([1, 1, 1], [0, 0, 0], 1.0, [-9.0, -18.0, -27.0]),
    ([0, 0, 0], [1, 1, 1], 1.0, [41.0, 32.0, 23.0]),
    ([1, 0, 1], [0, 1, 0], 0.5, [-9.0, 32.0, -27.0]),
]


@pytest.mark.parametrize(("terminated", "truncated", "lam", "expected"), HAND)
def test_hand_worked_advantages(terminated, truncated, lam, expected):
    terminated, truncated = (torch.tensor(flag, dtype=torch.bool)[:, None] for flag in (terminated, truncated))
    reward, value, following = (
        torch.tensor(row)[:, None] for row in ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [20.0, 30.0, 40.0])
    )
    done = terminated | truncated
    next_value = torch.where(done, torch.tensor(100.0), following)
    advantage = generalized_advantage(reward, value, next_value, 0.5 * (~terminated).float(), done, lam=lam)
    assert advantage[:, 0].tolist() == expected
    if not done.any():  # where V(s_{t+1}) is one number, advantage + value is the λ-return
        returns = lambda_returns(reward, next_value, 0.5 * (~terminated).float(), done, lam=lam)
        assert returns[:, 0].tolist() == (advantage + value)[:, 0].tolist()


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_gae_is_the_weighted_sum_of_n_step_advantages(steps, lam):
    reward, value, next_value, terminated, done = experience(steps, 4, seed=steps)

    oracle = partial(weighted_advantage, gamma=GAMMA, lam=lam)
    expected = each_env(oracle, reward, value, next_value, terminated, done)
    advantage = generalized_advantage(reward, value, next_value, discount_of(terminated), done, lam=lam)
    torch.testing.assert_close(advantage, expected)
    returns = lambda_returns(reward, next_value, discount_of(terminated), done, lam=lam)
    torch.testing.assert_close(returns, expected + value)


@settings(max_examples=60, deadline=None)
@given(
    flags=st.lists(st.sampled_from(["go", "terminated", "truncated", "both"]), min_size=1, max_size=20),
    lam=st.floats(0, 1),
    gamma=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_gae_on_any_pattern_of_ends(flags, lam, gamma, seed):
    reward, value, next_value, _, _ = experience(len(flags), 1, seed, 0.0, 0.0)
    terminated = torch.tensor([[flag in ("terminated", "both")] for flag in flags])
    done = torch.tensor([[flag != "go"] for flag in flags])
    next_value = torch.where(done, next_value + 5, next_value)

    oracle = partial(weighted_advantage, gamma=gamma, lam=lam)
    expected = each_env(oracle, reward, value, next_value, terminated, done)
    advantage = generalized_advantage(reward, value, next_value, discount_of(terminated, gamma), done, lam=lam)
    torch.testing.assert_close(advantage, expected)


def test_limits_of_lambda():
    reward, value, next_value, terminated, done = experience(25, 3, seed=4)
    discount = discount_of(terminated)
    delta = reward + discount * next_value - value
    torch.testing.assert_close(generalized_advantage(reward, value, next_value, discount, done, lam=0.0), delta)
    torch.testing.assert_close(
        generalized_advantage(reward, value, next_value, discount, done, lam=1.0),
        discounted_returns(reward, next_value, discount, done) - value,
    )


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_an_end_in_mid_rollout_splits_it_in_two(kind):
    reward, value, next_value, _, _ = experience(10, 2, 5, 0.0, 0.0)
    done, terminated = torch.zeros(10, 2, dtype=torch.bool), torch.zeros(10, 2, dtype=torch.bool)
    done[3] = True
    terminated[3] = kind == "terminated"
    columns = (reward, value, next_value, discount_of(terminated), done)
    whole = generalized_advantage(*columns, lam=0.9)
    first = generalized_advantage(*(column[:4] for column in columns), lam=0.9)
    second = generalized_advantage(*(column[4:] for column in columns), lam=0.9)
    torch.testing.assert_close(whole, torch.cat([first, second]))


def test_monte_carlo_returns_follow_their_definition():
    reward, _, next_value, terminated, done = experience(30, 3, seed=6)

    oracle = partial(n_step_return, gamma=GAMMA, n=len(reward))
    expected = each_env(oracle, reward, next_value, terminated, done)
    torch.testing.assert_close(discounted_returns(reward, next_value, discount_of(terminated), done), expected)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 11, 12, 50])
def test_n_step_returns_follow_their_definition(n):
    reward, value, next_value, terminated, done = experience(12, 4, seed=n)

    oracle = partial(n_step_return, gamma=GAMMA, n=n)
    expected = each_env(oracle, reward, next_value, terminated, done)
    returns = n_step_returns(reward, next_value, discount_of(terminated), done, n=n)
    torch.testing.assert_close(returns, expected)
    if n == 1:  # minus V: the TD error
        delta = reward + discount_of(terminated) * next_value - value
        torch.testing.assert_close(returns - value, delta)
    if n >= 12:
        torch.testing.assert_close(returns, discounted_returns(reward, next_value, discount_of(terminated), done))


def test_n_below_one_is_refused():
    reward, _, next_value, terminated, done = experience(3, 1, seed=0)
    with pytest.raises(ValueError, match="n is 0"):
        n_step_returns(reward, next_value, discount_of(terminated), done, n=0)


@pytest.mark.parametrize("estimator", ["gae", "lambda", "monte carlo", "n-step", "v-trace"])
def test_reward_one_forever_under_a_time_limit_is_worth_one_over_one_minus_gamma(estimator):
    # Truncated every 5 steps, never terminated; with the true V = 1/(1−γ) = 10 every estimate is exact.
    steps, true = 23, torch.full((23, 2), 10.0, dtype=torch.float64)
    done = (torch.arange(1, steps + 1) % 5 == 0)[:, None].expand(steps, 2)
    reward, discount = torch.ones_like(true), torch.full_like(true, GAMMA)
    estimates = {
        "gae": lambda: true + generalized_advantage(reward, true, true, discount, done, lam=0.8),
        "lambda": lambda: lambda_returns(reward, true, discount, done, lam=0.8),
        "monte carlo": lambda: discounted_returns(reward, true, discount, done),
        "n-step": lambda: n_step_returns(reward, true, discount, done, n=3),
        "v-trace": lambda: vtrace(reward, true, true, discount, done, log_ratio=reward - 1.5).target,
    }
    torch.testing.assert_close(estimates[estimator](), true)


class TestVTrace:
    def test_on_policy_it_is_gae(self):
        reward, value, next_value, terminated, done = experience(40, 3, seed=7)
        columns = (reward, value, next_value, discount_of(terminated), done)
        result = vtrace(*columns, log_ratio=torch.zeros_like(reward), lam=0.9)
        torch.testing.assert_close(result.target - value, generalized_advantage(*columns, lam=0.9))
        assert (result.rho == 1).all()

    def test_on_policy_with_lambda_one_the_target_is_the_return(self):
        reward, value, next_value, terminated, done = experience(40, 3, seed=8)
        columns = (reward, value, next_value, discount_of(terminated), done)
        result = vtrace(*columns, log_ratio=torch.zeros_like(reward))
        returns = discounted_returns(reward, next_value, discount_of(terminated), done)
        torch.testing.assert_close(result.target, returns)
        torch.testing.assert_close(result.advantage, returns - value)

    def test_off_policy_it_is_the_published_sum(self):
        # v_s = V_s + Σ_{t≥s} γ^{t−s} (Π_{s≤i<t} c_i) ρ_t δ_t up to the end of the episode.
        reward, value, next_value, terminated, done = experience(9, 3, seed=9)
        log_ratio = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        rho_bar, c_bar, lam = 1.5, 0.8, 0.9

        def oracle(*rows, start):
            r, v, nv, term, d, log = rows
            total, weight = v[start], 1.0
            for t in range(start, len(r)):
                ratio = torch.tensor(log[t], dtype=torch.float64).exp().item()
                delta = r[t] + (0.0 if term[t] else GAMMA * nv[t]) - v[t]
                total += weight * min(rho_bar, ratio) * delta
                weight *= GAMMA * lam * min(c_bar, ratio)
                if d[t]:
                    break
            return total

        expected = each_env(oracle, reward, value, next_value, terminated, done, log_ratio)
        discount = discount_of(terminated)
        result = vtrace(
            reward, value, next_value, discount, done, log_ratio=log_ratio, lam=lam, rho_bar=rho_bar, c_bar=c_bar
        )
        torch.testing.assert_close(result.target, expected)
        for t in range(9):  # the advantage looks one target ahead, at an end at V of the true successor
            ahead = torch.where(done[t], next_value[t], expected[t + 1]) if t < 8 else next_value[t]
            advantage = log_ratio[t].exp().clamp(max=rho_bar) * (reward[t] + discount[t] * ahead - value[t])
            torch.testing.assert_close(result.advantage[t], advantage)

    def test_bars_in_the_wrong_order_are_refused(self):
        reward, value, next_value, terminated, done = experience(3, 1, seed=0)
        with pytest.raises(ValueError, match="c_bar"):
            vtrace(reward, value, next_value, discount_of(terminated), done, log_ratio=reward, rho_bar=0.5)
