"""The residual algorithm: its step, its two ends, its known bias, and a star on which it alone converges."""

import numpy as np
import pytest
import torch

from lit_rl import ResidualQ
from lit_rl.algorithms.q_learning.residual_q import residual_loss
from lit_rl.envs.finite_mdp import chain
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, transitions
from tests.algorithms.test_q_learning import agent as q_learning

NOTHING = torch.zeros(1, dtype=torch.int64)


def agent(eta: float, **changes) -> ResidualQ:
    return detached(ResidualQ("Grid-v9", **{"optimizer": Optimizer(0.5, "sgd"), "gamma": 0.9, "eta": eta} | changes))


def test_the_step_by_hand() -> None:
    """d = 1 − 3 − 0.9·4 = −5.6: q(2, 1) moves by ½·5.6, the successor's best by −½·η·0.9·5.6."""
    table = agent(0.5)
    with torch.no_grad():
        table.policy.head.weight[1, 2], table.policy.head.weight[3, 5] = 1.0, 4.0  # weight [A, S]
    expected = table.policy.head.weight.detach().clone()
    table.update(transitions(torch.tensor([2]), [1], [3.0], [0.9], torch.tensor([5])))
    expected[1, 2] += 0.5 * 5.6
    expected[3, 5] -= 0.5 * 0.5 * 0.9 * 5.6
    torch.testing.assert_close(table.policy.head.weight.detach(), expected)
    table.update(transitions(torch.tensor([2]), [1], [3.0], [0.0], torch.tensor([5])))
    expected[1, 2] += 0.5 * (3 - 3.8)
    torch.testing.assert_close(table.policy.head.weight.detach(), expected)


def test_without_the_successor_it_is_q_learning() -> None:
    residual, plain = agent(0.0), q_learning(gamma=0.9)
    with torch.no_grad():
        plain.policy.head.weight.normal_()
        residual.policy.head.weight.copy_(plain.policy.head.weight)
    data = transitions(torch.tensor([2, 3]), [1, 0], [3.0, 1.0], [0.9, 0.0], torch.tensor([5, 2]))
    plain.update(data)
    residual.update(data)
    torch.testing.assert_close(plain.policy.head.weight, residual.policy.head.weight)


def test_with_all_of_it_the_squared_bellman_error_is_descended() -> None:
    q, next_q = (torch.randn(6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    action, reward = torch.tensor([0, 1, 2, 0, 1, 2]), torch.randn(6, dtype=torch.float64)
    discount = torch.tensor([0.9, 0.9, 0.0, 0.9, 0.5, 0.9], dtype=torch.float64)
    loss, d = residual_loss(q, action, reward, discount, next_q, 1.0)
    found = torch.autograd.grad(loss.sum(), (q, next_q))
    error = q[torch.arange(6), action] - reward - discount * next_q.amax(-1)
    torch.testing.assert_close(d, error.detach())
    for mine, true in zip(found, torch.autograd.grad(0.5 * error.square().sum(), (q, next_q)), strict=True):
        torch.testing.assert_close(mine, true)


def descend(weights: list[float], eta: float = 1.0, gamma: float = 0.9) -> np.ndarray:
    """State 0 goes to 1 or 2, each half the time; 1 ends with 1, 2 with 0. Values after many exact steps."""
    value = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    # rows: 0 → 1, 0 → 2, 1 → end, 2 → end
    start, end = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 0, 0])
    reward = torch.tensor([0, 0, 1, 0], dtype=torch.float64)
    discount = gamma * torch.tensor([1, 1, 0, 0], dtype=torch.float64)
    chance = torch.tensor([0.5, 0.5, 1, 1], dtype=torch.float64) * torch.tensor(weights, dtype=torch.float64)[start]
    for _ in range(4000):
        loss, _ = residual_loss(value[start], NOTHING.expand(4), reward, discount, value[end], eta)
        (slope,) = torch.autograd.grad((chance * loss).sum(), value)
        value = (value - 0.3 * slope).detach().requires_grad_()
    return value.detach().numpy()[:, 0]


def test_the_bias_of_a_single_successor(unchecked: None) -> None:
    """Formula sheet 6.3b: with on-policy weights, with equal ones, and what is true."""
    np.testing.assert_allclose(descend([1, 0.5, 0.5]), [0.45, 0.776, 0.224], atol=1e-3)
    np.testing.assert_allclose(descend([1, 1, 1]), [0.45, 0.856, 0.144], atol=1e-3)
    np.testing.assert_allclose(descend([1, 1, 1], eta=0.0), [0.45, 1, 0], atol=1e-3)


@pytest.mark.parametrize(("eta", "converges"), [(0.0, False), (1.0, True)])
def test_the_star(eta: float, converges: bool, unchecked: None) -> None:
    """Baird 1995: six states 2 wᵢ + w₀ and a seventh w₆ + 2 w₀, all lead to the seventh, reward 0, equal weights."""
    features = torch.zeros(7, 8, dtype=torch.float64)
    for i in range(6):
        features[i, i], features[i, 7] = 2.0, 1.0
    features[6, 6], features[6, 7] = 1.0, 2.0
    w = torch.ones(8, 1, dtype=torch.float64)
    w[6] = 10.0
    w.requires_grad_()
    zero = torch.zeros(7, dtype=torch.float64)
    for _ in range(3000):
        value = features @ w
        loss, _ = residual_loss(value, NOTHING.expand(7), zero, zero + 0.99, value[6:].expand(7, 1), eta)
        (slope,) = torch.autograd.grad(loss.sum(), w)
        w = (w - 0.02 * slope).detach().requires_grad_()
    largest = (features @ w).abs().max().item()  # 12 at first; the residual gradient is slow along the last mode
    assert largest < 5 if converges else largest > 100


def test_on_deterministic_dynamics_q_star_is_the_minimum() -> None:
    mdp = chain(5)
    q = torch.from_numpy(mdp.optimal_q(0.8)).requires_grad_()
    s, a = (torch.from_numpy(index.ravel()) for index in np.indices((4, 2)))
    following = torch.from_numpy(mdp.transition.argmax(-1))[s, a]
    reward, discount = torch.from_numpy(mdp.reward)[s, a], 0.8 * (following != 4).double()
    loss, d = residual_loss(q[s], a, reward, discount, q[following], 1.0)
    np.testing.assert_allclose(d, 0, atol=1e-9)
    assert torch.autograd.grad(loss.sum(), q)[0].abs().max() < 1e-9
