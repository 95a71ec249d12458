"""SARSA: which action comes next, the step of the table, and the policy whose values are the fixed point."""

import numpy as np
import pytest
import torch

from lit_rl import Boltzmann, Env, EpsilonGreedy, EpsilonSpread, Sarsa
from lit_rl.algorithms.q_learning.sarsa import SarsaBatch, next_actions, sarsa_target
from lit_rl.batch import Rollout, select
from lit_rl.envs.finite_mdp import grid
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, transitions
from tests.algorithms.test_q_learning import agent as q_learning


def rollout() -> Rollout:
    """T = 3, N = 2: environment 0 terminates at its first step."""
    done = torch.zeros(3, 2, dtype=torch.bool)
    done[0, 0] = True
    return Rollout(
        obs=torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]]),
        action=torch.tensor([[3, 1], [2, 0], [1, 3]]),
        log_prob=torch.zeros(3, 2),
        reward=torch.ones(3, 2),
        terminated=done,
        truncated=torch.zeros_like(done),
        episode_step=torch.zeros(3, 2, dtype=torch.int32),
        final_obs=torch.tensor([8]),
        final_index=torch.tensor([0]),
        state=torch.zeros(2, 0),
        version=torch.tensor(0),
    )


def agent(**changes) -> Sarsa:
    env = Env("Grid-v9", changes.pop("num_envs", 1))
    return detached(Sarsa(env, **{"optimizer": Optimizer(0.5, "sgd"), "gamma": 0.9} | changes))


def test_the_next_action_is_the_one_taken_in_the_same_episode() -> None:
    assert next_actions(rollout()).tolist() == [[-1, 0], [1, 3], [-1, -1]]


def test_targets_by_hand() -> None:
    """1 + ½·6; truncated: 0 + ½·8; terminated: 2."""
    reward, discount = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])
    next_q, action = torch.tensor([[4.0, 6.0], [8.0, 7.0], [9.0, 9.0]]), torch.tensor([1, 0, 1])
    assert sarsa_target(reward, discount, next_q, action).tolist() == [4.0, 4.0, 2.0]


def test_a_round_moves_the_table_by_its_own_next_actions() -> None:
    """Only row (1, 1): s = 3, a = 0, then a' = 3 in 5: q(3, 0) becomes ½ (1 + 0.9 q(5, 3))."""
    sarsa = agent()
    with torch.no_grad():
        sarsa.policy.head.weight[3, 5] = 4.0
    (batch,) = sarsa.minibatches(rollout())
    sarsa.update(select(batch, slice(3, 4)))
    assert sarsa.q(torch.tensor([3]))[0, 0].item() == pytest.approx(0.5 * (1 + 0.9 * 4))


def test_an_action_not_yet_taken_is_drawn_from_the_policy() -> None:
    sarsa = agent(exploration=Boltzmann(1.0), optimizer=Optimizer(1.0, "sgd"))
    values = torch.tensor([0.0, 1.0, 2.0, 0.5])
    drawn = []
    for seed in range(400):
        torch.manual_seed(seed)
        with torch.no_grad():
            sarsa.policy.head.weight.zero_()
            sarsa.policy.head.weight[:, 5] = values
        step = transitions(torch.tensor([3]), [0], [0.0], [1.0], torch.tensor([5]))
        sarsa.update(SarsaBatch(step, torch.tensor([-1])))
        drawn.append(values.tolist().index(sarsa.q(torch.tensor([3]))[0, 0].item()))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 400, torch.softmax(values, 0), atol=0.09)


def test_greedy_expected_sarsa_is_q_learning() -> None:
    expected, plain = agent(expected=True, exploration=EpsilonGreedy(0.0)), q_learning(gamma=0.9)
    with torch.no_grad():
        plain.policy.head.weight.normal_()
        expected.policy.head.weight.copy_(plain.policy.head.weight)
    data = transitions(torch.tensor([2, 3]), [1, 0], [3.0, 1.0], [0.9, 0.0], torch.tensor([5, 2]))
    plain.update(data)
    expected.update(SarsaBatch(data, torch.tensor([-1, -1])))
    torch.testing.assert_close(plain.policy.head.weight, expected.policy.head.weight)


@pytest.mark.parametrize("expected", [False, True])
def test_each_environment_has_targets_by_its_own_epsilon(expected: bool) -> None:
    """T = 2, N = 2, ε = 1 and 0: all rows lead to the values 0, 1, 2, 1, of mean 1 and maximum 2."""
    torch.manual_seed(0)
    spread = EpsilonSpread((1.0, 0.0, 0.5), steps=1)
    sarsa = agent(num_envs=2, exploration=spread, expected=expected)
    sarsa.policy.count(env_steps=1)
    with torch.no_grad():
        sarsa.policy.head.weight.zero_()
        sarsa.policy.head.weight[:, 5] = torch.tensor([0.0, 1.0, 2.0, 1.0])
    step = transitions(torch.tensor([3, 3, 3, 3]), [0] * 4, [0.0] * 4, [1.0] * 4, torch.tensor([5, 5, 5, 5]))
    losses = [
        sarsa.loss(SarsaBatch(step, torch.full((4,), -1)))["td_loss"].item() for _ in range(1 if expected else 200)
    ]
    if expected:
        assert losses == pytest.approx([0.5 * (1 + 4 + 1 + 4)])
    else:  # of a random action, the mean square is 1.5
        assert min(losses) == 0.5 * (4 + 4) and np.mean(losses) == pytest.approx(0.5 * (1.5 + 4 + 1.5 + 4), abs=0.4)


def test_the_values_of_the_exploring_policy_stay_where_they_are() -> None:
    """q = R + γ P Σ_a π(a) q with π ε-greedy in q: over the grid's successors, the mean gradient is 0 there."""
    mdp, epsilon = grid(3), 0.3
    sarsa = agent(expected=True, exploration=EpsilonGreedy(epsilon))
    q = np.zeros((9, 4))
    for _ in range(300):
        pi = epsilon / 4 + (1 - epsilon) * np.eye(4)[q.argmax(-1)]
        q = mdp.backup((pi * q).sum(-1), 0.9)
    with torch.no_grad():
        sarsa.policy.head.weight.copy_(torch.from_numpy(q.T))
    total = torch.zeros(4, 9)
    for s, a, following in zip(*np.nonzero(mdp.transition[:8]), strict=True):
        row = transitions(
            torch.tensor([s]), [a], [mdp.reward[s, a]], [0.9 * (following != 8)], torch.tensor([following])
        )
        loss = sarsa.loss(SarsaBatch(row, torch.tensor([-1])))["td_loss"]
        total += mdp.transition[s, a, following] * torch.autograd.grad(loss, sarsa.policy.head.weight)[0]
    np.testing.assert_allclose(total, 0, atol=1e-5)
