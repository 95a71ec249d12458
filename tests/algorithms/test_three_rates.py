"""One loop, three rates: online Q-learning, DQN and fitted Q-iteration are each other at the ends of their settings.

Formula sheet 7.2a: process 1 fills a memory, process 2 moves the target, process 3 regresses on it.
"""

from pathlib import Path

import gymnasium
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from lit_rl import DQN, MLP, EpsilonGreedy, FittedQ, QLearning, QNetwork, Regression, Replay, Rollouts
from lit_rl.agent import Agent
from lit_rl.batch import Transition, select
from lit_rl.envs.finite_mdp import FiniteMDPEnv, chain, grid
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, transitions

for name, world in {"Chain-v7": chain(5), "Grid-v7": grid(3)}.items():
    if name not in gymnasium.registry:
        gymnasium.register(name, lambda world=world: TimeLimit(FiniteMDPEnv(world), 30))

SGD, SQUARED = Optimizer(0.3, "sgd"), 1e30
HIDDEN = MLP((16,))


def steps_of_a_chain(count: int) -> Transition:
    """So many random steps, γ = 0.9: left and right, 1 for reaching state 4, which is terminal; left pays 0.01."""
    rng = torch.Generator().manual_seed(0)
    state, action = torch.randint(4, (count,), generator=rng), torch.randint(2, (count,), generator=rng)
    following = torch.where(action == 1, state + 1, (state - 1).clamp(min=0))
    reward = torch.where(action == 0, 0.01, (following == 4).float())
    return transitions(state, action, reward, 0.9 * (following != 4), following)


def alike(one: Agent, *others: Agent) -> None:
    """Let all begin where ``one`` does."""
    for other in others:
        other.policy.load_state_dict(one.policy.state_dict())
        if isinstance(other, DQN):
            other.q_target.follow()


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    """Networks begin as seed 0 has it."""
    torch.manual_seed(0)


def same(one: Agent, other: Agent, **tolerance: float) -> None:
    for mine, yours in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, yours, **tolerance)


@pytest.mark.parametrize("net", [MLP(()), HIDDEN])
def test_all_rates_equal_is_online_q_learning(net: MLP) -> None:
    """Each row as it comes, once, and θ⁻ ← θ after it: every step of DQN is the one of Q-learning."""
    online = detached(QLearning("Chain-v7", net=QNetwork(net), optimizer=SGD, gamma=0.9))
    deep = detached(DQN("Chain-v7", net=net, optimizer=SGD, gamma=0.9, target_update_every=1, huber_delta=SQUARED))
    late = detached(DQN("Chain-v7", net=net, optimizer=SGD, gamma=0.9, target_update_every=50, huber_delta=SQUARED))
    alike(online, deep, late)
    stream = steps_of_a_chain(200)
    for row in range(200):
        for agent in (online, deep, late):
            agent.update(select(stream, slice(row, row + 1)))
        same(online, deep, rtol=0, atol=1e-6)
    with pytest.raises(AssertionError):
        same(online, late, rtol=0, atol=1e-3)


@pytest.mark.parametrize("net", [MLP(()), HIDDEN])
def test_a_regression_inside_each_copy_inside_each_collection_is_fitted_q(net: MLP) -> None:
    """θ⁻ ← θ every S updates, each on all of D, and K times: DQN makes the S · K steps of fitted Q-iteration."""
    k, s, data = 4, 7, steps_of_a_chain(60)
    regression = Regression(steps=s, batch_size=None)
    fitted = detached(
        FittedQ("Chain-v7", net=QNetwork(net), optimizer=SGD, gamma=0.9, iterations=k, regression=regression)
    )
    deep = detached(DQN("Chain-v7", net=net, optimizer=SGD, gamma=0.9, target_update_every=s, huber_delta=SQUARED))
    alike(fitted, deep)
    for minibatch in fitted.minibatches(data):
        fitted.update(minibatch)
        deep.update(data)
        same(fitted, deep, rtol=0, atol=1e-6)
    assert fitted.updates == deep.updates == k * s


def test_a_target_held_until_the_regression_is_complete_is_an_exact_sweep() -> None:
    """S → ∞: after each copy DQN stands where least squares do, from the same begin to the same of all minimisers."""
    data = steps_of_a_chain(60)
    fitted = detached(
        FittedQ("Chain-v7", net=QNetwork(MLP(())), gamma=0.9, iterations=5, regression=Regression("least_squares"))
    )
    fast = Optimizer(1.0, "sgd")
    deep = detached(
        DQN("Chain-v7", net=MLP(()), optimizer=fast, gamma=0.9, target_update_every=300, huber_delta=SQUARED)
    )
    alike(fitted, deep)
    for minibatch in fitted.minibatches(data):
        fitted.update(minibatch)
        for _ in range(300):
            deep.update(data)
        same(fitted, deep, rtol=0, atol=1e-4)


@pytest.mark.medium
@pytest.mark.parametrize(("kept", "equal"), [(1, True), (2, False)])
def test_they_see_the_same_data_at_equal_rates(kept: int, equal: bool, tmp_path: Path) -> None:
    """Through the trainer: a replay of one row is fresh rollouts of one step, and one of two rows is not.

    The world slips, and ε = 0, since the two draw their random actions otherwise.
    """
    fresh = Rollouts(1, steps_per_epoch=150, rollouts_per_batch=50)
    memory = Replay(kept, 1, 1.0, warmup=0, steps_per_epoch=150, steps_per_batch=50)
    online = QLearning("Grid-v7", fresh, QNetwork(HIDDEN), SGD, 0.9, EpsilonGreedy(0.0))
    deep = DQN("Grid-v7", memory, HIDDEN, SGD, 0.9, 0.0, target_update_every=1, huber_delta=SQUARED)
    alike(online, deep)
    seen = set()
    loss = online.loss
    online.loss = lambda batch: seen.add((int(batch.obs), int(batch.action))) or loss(batch)
    for agent in (online, deep):
        learn(agent, tmp_path, 1)
    assert online.updates == deep.updates == 150 and len(seen) >= 8, seen
    if equal:
        same(online, deep, rtol=0, atol=1e-5)
    else:
        with pytest.raises(AssertionError):
            same(online, deep, rtol=0, atol=1e-3)
