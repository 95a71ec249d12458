"""The residual algorithm: its step, its two ends, its known bias, and a star on which it alone converges."""

import numpy as np
import pytest
import torch

from lit_rl import ResidualQ
from lit_rl.algorithms.q_learning.residual_q import Successor, residual_loss
from lit_rl.envs.finite_mdp import chain, random_mdp
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


def descend(weights: list[float], eta: float = 1.0, gamma: float = 0.9, double: bool = False) -> np.ndarray:
    """State 0 goes to 1 or 2, each half the time; 1 ends with 1, 2 with 0. Values after many exact steps.

    With ``double`` all pairs of independent successors are its rows, a quarter each from state 0.
    """
    value = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    # rows: 0 → 1, 0 → 2 (and with another draw 2, 1), 1 → end, 2 → end
    start, end, other = torch.tensor([[0, 0, 0, 0, 1, 2], [1, 2, 1, 2, 0, 0], [1, 2, 2, 1, 0, 0]])
    reward = torch.tensor([0, 0, 0, 0, 1, 0], dtype=torch.float64)
    discount = gamma * (start == 0).double()
    chance = torch.where(start == 0, 0.25, 1.0) * torch.tensor(weights, dtype=torch.float64)[start]
    for _ in range(1500):
        second = Successor(discount, value[other]) if double else None
        loss, _ = residual_loss(value[start], NOTHING.expand(6), reward, discount, value[end], eta, None, second)
        (slope,) = torch.autograd.grad((chance * loss).sum(), value)
        value = (value - 0.3 * slope).detach().requires_grad_()
    return value.detach().numpy()[:, 0]


def test_the_bias_of_a_single_successor(unchecked: None) -> None:
    """Formula sheet 6.3b: with on-policy weights, with equal ones, and what is true."""
    np.testing.assert_allclose(descend([1, 0.5, 0.5]), [0.45, 0.776, 0.224], atol=1e-3)
    np.testing.assert_allclose(descend([1, 1, 1]), [0.45, 0.856, 0.144], atol=1e-3)
    np.testing.assert_allclose(descend([1, 1, 1], eta=0.0), [0.45, 1, 0], atol=1e-3)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_a_second_successor_removes_it(eta: float, unchecked: None) -> None:
    """Formula sheet 6.3b: double sampling finds what is true, whatever the weights."""
    for weights in ([1, 0.5, 0.5], [1, 1, 1]):
        np.testing.assert_allclose(descend(weights, eta, double=True), [0.45, 1, 0], atol=1e-3)


def test_the_gradients_of_one_and_of_two_successors() -> None:
    """Over all pairs of successors of a random world: that of Σ ½ (E d)²; over single ones also γ² ½ Var max q."""
    world, gamma = random_mdp(np.random.default_rng(0), 4, 3), 0.9
    chance, reward = torch.from_numpy(world.transition), torch.from_numpy(world.reward)
    q = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    s, a, first, second = torch.cartesian_prod(*(torch.arange(n) for n in (4, 3, 4, 4))).T
    weight, discount = chance[s, a, first] * chance[s, a, second], torch.full(s.shape, gamma, dtype=torch.float64)
    best = q.amax(-1)
    expected = 0.5 * (q - reward - gamma * chance @ best).square().sum()
    variance = (chance @ best.square() - (chance @ best).square()).sum()
    for other, true in ((None, expected + 0.5 * gamma**2 * variance), (Successor(discount, q[second]), expected)):
        loss, _ = residual_loss(q[s], a, reward[s, a], discount, q[first], 1.0, None, other)
        (found,) = torch.autograd.grad((weight * loss).sum(), q, retain_graph=True)
        torch.testing.assert_close(found, torch.autograd.grad(true, q, retain_graph=True)[0])
    assert torch.autograd.grad(variance, q)[0].abs().max() > 0.1


def test_a_second_successor_by_hand() -> None:
    """d = 1 − 3 − 0.9·4 = −5.6; s'' has its own end and its own legal actions: it is terminal, or its 7 is illegal."""
    q, next_q, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0, 2.0]]), torch.tensor([[5.0, 7.0]])
    for discount, mask, slope in ((0.0, None, [0, 0]), (0.9, None, [0, 1]), (0.9, [[True, False]], [1, 0])):
        other.requires_grad_().grad = None
        second = Successor(torch.tensor([discount]), other, None if mask is None else torch.tensor(mask))
        loss, d = residual_loss(
            q, NOTHING, torch.tensor([3.0]), torch.tensor([0.9]), next_q.requires_grad_(), 0.5, None, second
        )
        assert d.item() == pytest.approx(-5.6)
        loss.sum().backward()
        torch.testing.assert_close(other.grad, 0.5 * discount * 5.6 * torch.tensor([slope]).float())
        assert next_q.grad is None


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
