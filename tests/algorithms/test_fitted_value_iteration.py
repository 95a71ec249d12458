"""Fitted value iteration: exactly value iteration with a table, exactly divergent with one wrong feature."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl import MLP, Env, FittedValueIteration, KnownModel, Regression, StateFeatures
from lit_rl.algorithms.dynamic_programming.fitted_value_iteration import matters, value_loss
from lit_rl.envs.finite_mdp import FiniteMDP, FiniteMDPEnv, maze, random_mdp
from lit_rl.optimizer import Optimizer
from lit_rl.planning.dynamic_programming import bellman, value_iteration
from lit_rl.planning.projection import projected_bellman
from tests.algorithms.table_runs import WORLD, fit, model_of, sweeps

RANDOM = Env(WORLD + "RandomMDP-v0", kwargs={"states": 6, "actions": 3, "seed": 1})
TWO_STATES = FiniteMDP(np.array([[[0.0, 1.0]], [[0.0, 1.0]]]), np.zeros((2, 1)), np.full(2, 0.5))
WIDE = FiniteMDP(random_mdp(np.random.default_rng(3), 6, 2).transition, np.ones((6, 2)), np.full(6, 1 / 6))

for name, world in {"TwoStates-v9": TWO_STATES, "Wide-v9": WIDE}.items():
    if name not in gymnasium.registry:
        gymnasium.register(name, lambda world=world: FiniteMDPEnv(world), max_episode_steps=20)


def test_the_loss_by_hand() -> None:
    """½ (2 − 5)² = 4.5; no gradient but by V."""
    value = torch.tensor([2.0], requires_grad=True)
    loss = value_loss(value, torch.tensor([5.0]))
    loss.sum().backward()
    assert loss.item() == 4.5 and value.grad.item() == -3.0


def test_a_table_fitted_exactly_is_value_iteration(tmp_path: Path) -> None:
    """Formula sheet 6.1.4a: the k-th fit is the k-th sweep, and the policy looks one step ahead of it."""
    agent = fit(FittedValueIteration(RANDOM, sweeps(5), gamma=0.9), tmp_path)
    model = model_of(agent)
    value = torch.zeros(6, dtype=torch.float64)
    for _ in range(5):
        value = bellman(model, value, 0.9)
    torch.testing.assert_close(agent.value(torch.arange(6)).double(), value, atol=1e-5, rtol=0)
    torch.testing.assert_close(agent.policy.q.amax(-1), bellman(model, value, 0.9), atol=1e-5, rtol=0)
    assert agent.updates == agent.env_steps == 5
    there = fit(FittedValueIteration(RANDOM, sweeps(200), gamma=0.9), tmp_path)
    torch.testing.assert_close(there.policy.q, value_iteration(model, 0.9).q, atol=1e-4, rtol=0)


def test_terminal_states_and_walls_are_not_fitted() -> None:
    """They would only draw the others towards what no backup reads."""
    assert matters(maze(["S.G", "#.X"]).model()).tolist() == [True, True, False, False, True, False]


@pytest.mark.parametrize(("gamma", "grows"), [(0.9, True), (0.8, False)])
def test_two_states_with_one_feature(gamma: float, grows: bool, tmp_path: Path) -> None:
    """Formula sheet 6.1.4a (Tsitsiklis & Van Roy 1996): V = [w, 2w], w ← (6/5) γ w, divergent for γ > 5/6.

    V = 0 is exact, and where it starts it stays; from w = 1 it leaves for ever, though each fit is the best there is.
    """
    net = StateFeatures([[1.0], [2.0]], initial=1.0)
    for count in (1, 2, 30):
        agent = fit(FittedValueIteration("TwoStates-v9", sweeps(count), net, gamma=gamma), tmp_path)
        assert agent.v[1].weight.item() == pytest.approx((1.2 * gamma) ** count, rel=1e-4)
    assert (agent.v[1].weight.item() > 1.0) == grows
    at_rest = fit(
        FittedValueIteration("TwoStates-v9", sweeps(30), StateFeatures([[1.0], [2.0]]), gamma=gamma), tmp_path
    )
    assert at_rest.v[1].weight.item() == 0.0


def test_with_features_each_fit_is_the_projected_backup(tmp_path: Path) -> None:
    """V_{k+1} = Π B V_k (6.3a), with even weights."""
    rows = np.random.default_rng(0).normal(size=(6, 3))
    agent = fit(FittedValueIteration("Wide-v9", sweeps(4), StateFeatures(rows.tolist()), gamma=0.5), tmp_path)
    features, value = torch.from_numpy(rows), torch.zeros(6, dtype=torch.float64)
    for _ in range(4):
        value = projected_bellman(model_of(agent), features, torch.ones(6, dtype=torch.float64), value, 0.5)
    torch.testing.assert_close(agent.value(torch.arange(6)).double(), value, atol=1e-5, rtol=1e-5)


def test_state_aggregation_cannot_diverge(tmp_path: Path) -> None:
    """Averagers are non-expansions (Gordon 1995): pairs of states share a value, and the fixed point is there."""
    rows = [[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    one, more = (
        fit(FittedValueIteration(RANDOM, sweeps(count), StateFeatures(rows), gamma=0.95), tmp_path).v[1].weight
        for count in (600, 601)
    )
    torch.testing.assert_close(one, more, atol=1e-4, rtol=0)


@pytest.mark.medium
def test_a_network_fitted_by_steps_gets_there_too(tmp_path: Path) -> None:
    agent = FittedValueIteration(
        RANDOM,
        KnownModel(steps_per_epoch=60, steps_per_batch=60),
        MLP((32,), "relu"),
        Optimizer(lr=3e-3),
        gamma=0.8,
        regression=Regression("gradient", steps=50, batch_size=4),
    )
    fit(agent, tmp_path)
    assert agent.updates == 3_000
    torch.testing.assert_close(agent.policy.q, value_iteration(model_of(agent), 0.8).q, atol=0.15, rtol=0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="least_squares fits the last layer"):
        FittedValueIteration(RANDOM, net=MLP((8,)))
    with pytest.raises(ValueError, match="2 rows and the space 6 states"):
        FittedValueIteration(RANDOM, net=StateFeatures([[1.0], [2.0]]))
    with pytest.raises(ValueError, match="lists of one length"):
        StateFeatures([[1.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match=r"Regression\.batch_size is 0"):
        Regression(batch_size=0)
