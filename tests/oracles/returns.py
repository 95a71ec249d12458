"""The estimators written out from their definitions: plain loops over Python floats, sums of weighted terms."""

import torch
from torch import Tensor


def recursion(a: Tensor, b: Tensor, last: Tensor | None = None) -> Tensor:
    """x_t = a_t + b_t x_{t+1}, one step at a time."""
    x = torch.zeros_like(a[0]) if last is None else last
    out = []
    for a_t, b_t in zip(reversed(a.unbind()), reversed(b.unbind()), strict=True):
        x = a_t + b_t * x
        out.append(x)
    return torch.stack(out[::-1])


def n_step_return(
    reward: list[float],
    next_value: list[float],
    terminated: list[bool],
    done: list[bool],
    *,
    gamma: float,
    n: int,
    start: int,
) -> float:
    """Σ_{k<m} γᵏ r + γᵐ (1 − terminated) V, the window m ≤ n ending at the first done or at the rollout's end."""
    total = 0.0
    for k in range(n):
        t = start + k
        total += gamma**k * reward[t]
        if done[t] or t == len(reward) - 1 or k == n - 1:
            return total + gamma ** (k + 1) * (0.0 if terminated[t] else next_value[t])
    raise AssertionError("n is at least 1")


def window(done: list[bool], start: int) -> int:
    """Steps from ``start`` to the end of its episode or of the rollout."""
    return next((t for t in range(start, len(done)) if done[t]), len(done) - 1) - start + 1


def weighted_advantage(
    reward: list[float],
    value: list[float],
    next_value: list[float],
    terminated: list[bool],
    done: list[bool],
    *,
    gamma: float,
    lam: float,
    start: int,
) -> float:
    """Σ_{n<M} (1 − λ) λⁿ⁻¹ A⁽ⁿ⁾ + λᴹ⁻¹ A⁽ᴹ⁾ with M the steps that remain: GAE as a mean of n-step advantages."""
    longest = window(done, start)
    total = 0.0
    for n in range(1, longest + 1):
        weight = lam ** (n - 1) * (1.0 if n == longest else 1.0 - lam)
        one = n_step_return(reward, next_value, terminated, done, gamma=gamma, n=n, start=start)
        total += weight * (one - value[start])
    return total


def each_env(function, *columns: Tensor) -> Tensor:
    """Apply ``function(*lists, start=t)`` to every (t, n) of columns [T, N]."""
    steps, envs = columns[0].shape
    lists = [[column[:, n].tolist() for column in columns] for n in range(envs)]
    return torch.tensor(
        [[function(*lists[n], start=t) for n in range(envs)] for t in range(steps)], dtype=torch.float64
    )
