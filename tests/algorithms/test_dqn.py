"""DQN: targets by hand, gradients where they belong, a chain whose Q* is known, a pair of states it cannot learn."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from lit_rl import DQN, MLP, Constant, Env, Linear, Replay, StateFeatures
from lit_rl.algorithms.q_learning.dqn import td_error
from lit_rl.data.priority import Prioritized
from lit_rl.envs.finite_mdp import FiniteMDP, FiniteMDPEnv
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient

Q = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, -1.0]])
NEXT = torch.tensor([[4.0, 6.0], [8.0, 7.0], [9.0, 9.0]])


def test_td_errors_by_hand() -> None:
    """Row 0: 1 − (1 + ½·6) = −3. Row 1, truncated: bootstraps too, 5 − (0 + ½·8) = 1. Row 2, terminated: 0 − 2 = −2."""
    action, reward, discount = torch.tensor([0, 1, 0]), torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])
    assert td_error(Q, action, reward, discount, NEXT).tolist() == [-3.0, 1.0, -2.0]


def test_illegal_actions_are_left_out_of_the_maximum() -> None:
    """Row 0 without its 6: 1 − (1 + ½·4) = −2. A terminal row has no legal action and is finite all the same."""
    action, reward, discount = torch.tensor([0, 1, 0]), torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert td_error(Q, action, reward, discount, NEXT, mask).tolist() == [-2.0, 1.0, -2.0]


def test_no_gradient_reaches_the_target() -> None:
    q, next_q = Q.clone().requires_grad_(), NEXT.clone().requires_grad_()
    td_error(q, torch.tensor([0, 1, 0]), torch.zeros(3), torch.ones(3), next_q).sum().backward()
    assert next_q.grad is None
    assert q.grad.tolist() == [[1, 0], [0, 1], [1, 0]], "only the action taken"


def agent(**changes) -> DQN:
    torch.manual_seed(0)
    return detached(DQN("CartPole-v1", **{"net": MLP((8,)), "optimizer": Optimizer(lr=0.01)} | changes))


def batch(rows: int = 5, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    obs, next_obs = (torch.randn(rows, 4, generator=rng) for _ in range(2))
    action = torch.randint(2, (rows,), generator=rng)
    return transitions(obs, action, torch.randn(rows, generator=rng), torch.full((rows,), 0.9), next_obs)


def test_the_loss_is_the_weighted_mean_of_hubers() -> None:
    """δ = 2: ½x² where |x| ≤ 2, else 2|x| − 2 (7.6a)."""
    dqn = agent(huber_delta=2.0)
    data = batch()._replace(
        reward=torch.tensor([0.0, 9.0, -9.0, 1.0, 0.1]), weight=torch.tensor([1.0, 0.5, 0.2, 0.0, 0.3])
    )
    q, next_q = dqn.q(data.obs), dqn.q_target(data.next_obs)
    x = (q[torch.arange(5), data.action] - data.reward - 0.9 * next_q.max(-1).values).detach().numpy()
    huber = np.where(np.abs(x) <= 2, x**2 / 2, 2 * np.abs(x) - 2)
    assert (np.abs(x) > 2).any() and (np.abs(x) < 2).any()
    assert dqn.loss(data)["td_loss"].item() == pytest.approx((data.weight.numpy() * huber).mean(), rel=1e-5)
    np.testing.assert_allclose(dqn.experience.td_error, x, rtol=1e-4)


@pytest.mark.parametrize("duelling", [False, True])
def test_one_update_moves_q_alone(duelling: bool) -> None:
    dqn = agent(duelling=duelling, target_update_every=100)
    before = parameters(dqn)
    dqn.update(batch())
    names = {name for name in before if name.startswith("policy.")}
    assert moved(dqn, before) == with_gradient(dqn) == names
    assert {name for name in before if name.startswith("q_target.")} == before.keys() - names
    assert dqn.updates == 1


def test_the_target_is_copied_every_so_many_updates() -> None:
    dqn, copies = agent(target_update_every=3), []
    for _ in range(7):
        dqn.update(batch())
        pairs = zip(dqn.q.parameters(), dqn.q_target.parameters(), strict=True)
        copies.append(all(torch.equal(a, b) for a, b in pairs))
    assert copies == [False, False, True, False, False, True, False]


def test_polyak_average() -> None:
    dqn = agent(tau=0.25)
    before = [p.clone() for p in dqn.q_target.parameters()]
    dqn.update(batch())
    for old, new, target in zip(before, dqn.q.parameters(), dqn.q_target.parameters(), strict=True):
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)


def test_acting_reads_the_network_that_learns() -> None:
    dqn = agent(epsilon=Constant(0.0))
    dqn.policy.refresh()
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    for _ in range(20):
        dqn.update(batch())
    action = dqn.policy.act(obs, np.zeros((50, 0), np.float32), np.random.default_rng(0)).action
    assert np.array_equal(action, dqn.q(torch.from_numpy(obs)).argmax(-1))


def q_star(gamma: float) -> np.ndarray:
    """Of the chain by value iteration: right moves on, and pays 1 into state 4, which is terminal; left pays 0.1."""
    q = np.zeros((5, 2))
    for _ in range(500):
        value = q.max(-1)
        for s in range(4):
            q[s] = 0.1 + gamma * value[max(0, s - 1)], float(s == 3) + gamma * value[s + 1] * (s < 3)
        q[4] = 0
    return q


@pytest.mark.medium
@pytest.mark.parametrize("fields", [{}, pytest.param({"prioritized": Prioritized(beta=1.0)}, marks=pytest.mark.slow)])
def test_the_chain_is_solved_to_q_star(fields: dict, tmp_path: Path) -> None:
    """Formula sheet 7.1b: one-hot features, max |q − q*| < 0.05; it fails where truncation cuts the bootstrap."""
    data = Replay(2400, 256, 0.25, warmup=400, steps_per_epoch=2400, steps_per_batch=1000, **fields)
    dqn = DQN(
        Env("Chain-v9", num_envs=4),
        data,
        MLP(()),
        Optimizer(Linear(0.05, 0.002, 2400)),
        gamma=0.8,
        epsilon=Constant(1.0),
        target_update_every=10,
    )
    learn(dqn, tmp_path, 1)
    error = (dqn.q(torch.eye(5)).detach().numpy() - q_star(0.8))[:4]
    assert np.abs(error).max() < 0.05, error


@pytest.mark.medium
@pytest.mark.parametrize("n_step", [1, 3])
def test_truncation_bootstraps(n_step: int, tmp_path: Path) -> None:
    """Reward 1 for ever behind a time limit: q = 1/(1 − 0.9) = 10, not the 6.5 of 10 steps."""
    data = Replay(1000, 32, 0.25, warmup=100, n_step=n_step, steps_per_epoch=1500, steps_per_batch=1000)
    dqn = DQN("lit_rl.envs.toy:lit_rl/Constant-v0", data, MLP(()), Optimizer(0.1), 0.9, Constant(1.0), 4)
    learn(dqn, tmp_path, 1)
    np.testing.assert_allclose(dqn.q(torch.tensor([0])).detach().numpy(), 10, atol=0.3)


@pytest.mark.medium
def test_masked_identity_is_learnt(tmp_path: Path) -> None:
    """An illegal action raises, in warm-up, exploring and greedy acting alike."""
    data = Replay(1000, 64, 0.25, warmup=100, steps_per_epoch=1200, steps_per_batch=500)
    env = Env("lit_rl.envs.toy:lit_rl/MaskedIdentity-v0", num_envs=4)
    dqn = DQN(env, data, MLP((32,), "relu"), Optimizer(0.01), 0.9, Linear(1, 0.1, 500), 20)
    learn(dqn, tmp_path, 1)
    assert dqn.val_dataloader().play().returns.mean() == 1
    assert isinstance(dqn.env.observation_space, spaces.Dict)


def two_states(steps: int) -> gymnasium.Env:
    """States 0 and 1, both lead to 1, reward 0, cut after so many steps."""
    return TimeLimit(FiniteMDPEnv(FiniteMDP(np.array([[[0.0, 1.0]]] * 2), np.zeros((2, 1)), np.full(2, 0.5))), steps)


for steps in (1, 20):
    if f"TwoStates{steps}-v9" not in gymnasium.registry:
        gymnasium.register(f"TwoStates{steps}-v9", lambda steps=steps: two_states(steps))


def one_weight(gamma: float, every: int, tau: float = 1.0, steps: int = 1, data: Replay = Replay()) -> DQN:
    """q = [w, 2w] with w = w⁻ = 1 and no bias, under squared errors and a rate of 0.1."""
    dqn = DQN(
        f"TwoStates{steps}-v9",
        data,
        StateFeatures([[1.0], [2.0]]),
        Optimizer(0.1, "sgd"),
        gamma,
        target_update_every=every,
        tau=tau,
        huber_delta=1e30,
    )
    with torch.no_grad():
        dqn.policy.head.weight.fill_(1.0)
        dqn.policy.head.bias.zero_().requires_grad_(False)
    dqn.q_target.follow()
    return dqn


BOTH = transitions(torch.tensor([0, 1]), [0, 0], [0.0, 0.0], [1.0, 1.0], torch.tensor([1, 1]))


@pytest.mark.parametrize(("gamma", "grows"), [(0.9, True), (0.8, False)])
@pytest.mark.parametrize("every", [1, 5, 100])
def test_a_target_network_does_not_save_two_states_with_one_feature(gamma: float, grows: bool, every: int) -> None:
    """Formula sheet 7.1b: however seldom θ⁻ ← θ, w diverges for γ > 5/6, from as near to the truth as one likes.

    Each update leads w by a share 5α/2 of the way to (6/5) γ w⁻. So a period of k updates multiplies both by
    c + (1 − 5α/2)ᵏ (1 − c) with c = (6/5) γ: above 1 with c, and c itself once the regression is complete.
    """
    dqn = detached(one_weight(gamma, every))
    c = 1.2 * gamma
    factor = c + 0.75**every * (1 - c)
    data = BOTH._replace(discount=torch.full((2,), gamma))
    for period in range(1, 6):
        for _ in range(every):
            dqn.update(data)
        expected = pytest.approx(factor**period, rel=1e-4)
        assert dqn.policy.head.weight.item() == expected and dqn.q_target.slow[1].weight.item() == expected
    assert (factor > 1) == grows and abs(factor - 1) > 0.01
    assert every < 100 or factor == pytest.approx(c)


@pytest.mark.parametrize(("gamma", "grows"), [(0.9, True), (0.8, False)])
def test_a_slow_average_does_not_save_them_either(gamma: float, grows: bool) -> None:
    """(w, w⁻) is multiplied by [[1 − 5α/2, 3αγ], [τ (1 − 5α/2), 1 − τ + 3αγτ]], of spectral radius > 1 for γ > 5/6."""
    tau = 0.05
    dqn, data = detached(one_weight(gamma, 1, tau)), BOTH._replace(discount=torch.full((2,), gamma))
    step = np.array([[0.75, 0.3 * gamma], [tau * 0.75, 1 - tau + 0.3 * gamma * tau]])
    for _ in range(400):
        dqn.update(data)
    weights = dqn.policy.head.weight.item(), dqn.q_target.slow[1].weight.item()
    np.testing.assert_allclose(weights, np.linalg.matrix_power(step, 400) @ [1, 1], rtol=1e-3)
    assert (weights[0] > 3) == grows and (weights[0] < 0.5) == (not grows)


@pytest.mark.medium
@pytest.mark.parametrize(("steps", "grows"), [(1, True), (20, False)])
def test_what_the_memory_holds_decides(steps: int, grows: bool, tmp_path: Path) -> None:
    """The whole agent, γ = 0.9: with as many rows of either state it diverges, with those of long episodes it does not.

    Those lie in state 1. With a share p from state 0 the factor of a complete regression is γ (4 − 2p)/(4 − 3p), which
    is 1.08 for p = ½ and 0.906 for p = 1/40.
    """
    data = Replay(600, 64, 1.0, warmup=400, steps_per_epoch=1400, steps_per_batch=500)
    dqn = learn(one_weight(0.9, 20, steps=steps, data=data), tmp_path, 1)
    periods = dqn.updates // 20
    assert periods == 50
    share = {1: 0.5, 20: 1 / 40}[steps]
    factor = 0.9 * (4 - 2 * share) / (4 - 3 * share)
    w = dqn.policy.head.weight.item()
    assert (w > 1) == grows
    assert w ** (1 / periods) == pytest.approx(factor, abs=0.02)
