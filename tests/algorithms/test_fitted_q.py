"""Fitted Q-iteration: Q* of what was seen, in both shapes; targets frozen; everything stored is learnt from."""

import socket
from itertools import pairwise
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

from lit_rl import MLP, Constant, Env, EpsilonGreedy, FittedQ, GrowingBatch, QNetwork, Regression, Table
from lit_rl.algorithms.q_learning.fitted_q import squared_error
from lit_rl.batch import Transition
from lit_rl.envs.finite_mdp import FiniteMDPEnv, chain, grid
from lit_rl.nn.pairs import PairBody, chosen_value
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions

for name, world in {"Chain-v8": chain(5), "Grid-v8": grid(3)}.items():
    if name not in gymnasium.registry:
        gymnasium.register(name, lambda world=world: TimeLimit(FiniteMDPEnv(world), 30))

EXACT = Regression("least_squares")


def exact(env: str, steps: int, **changes) -> FittedQ:
    """A table, one batch of uniformly random steps, and exact regressions."""
    data = GrowingBatch(steps, steps_per_round=steps, steps_per_epoch=steps)
    arguments = {"net": QNetwork(Table()), "gamma": 0.9, "exploration": EpsilonGreedy(1.0), "regression": EXACT}
    return FittedQ(env, data, **arguments | changes)


def seen(agent: FittedQ) -> Transition:
    """All that the memory holds; kept by :func:`watched`."""
    return agent.everything


def watched(agent: FittedQ) -> FittedQ:
    """Keeps D, which training closes."""
    targets = agent.targets

    def keeping(data: Transition) -> torch.Tensor:
        agent.everything = data
        return targets(data)

    agent.targets = keeping
    return agent


def empirical_q_star(data: Transition, states: int, actions: int, gamma: float) -> np.ndarray:
    """Q* of the MDP whose probabilities are the frequencies in the data; 0 where a pair was never seen."""
    s, a, r, discount, following = (
        np.asarray(x) for x in (data.obs, data.action, data.reward, data.discount, data.next_obs)
    )
    counts, reward = np.zeros((states, actions, states)), np.zeros((states, actions))
    np.add.at(counts, (s, a, following), discount > 0)
    np.add.at(reward, (s, a), r)
    visits = np.zeros((states, actions))
    np.add.at(visits, (s, a), 1)
    q, visits = np.zeros((states, actions)), np.maximum(visits, 1)
    for _ in range(1_000):
        q = (reward + gamma * counts @ q.max(-1)) / visits
    return q


def test_the_loss_by_hand() -> None:
    """½ (2 − 5)² = 4.5."""
    assert squared_error(torch.tensor([2.0]), torch.tensor([5.0])).tolist() == [4.5]


def test_targets_by_hand_with_terminal_truncated_and_masked_rows() -> None:
    """q(s') = (1, 3): 1 + 0.9 · 3; terminated 2; a truncated row bootstraps; without the legal 3: 1 + 0.9 · 1."""
    agent = exact("Chain-v8", 10)
    with torch.no_grad():
        agent.policy.head.weight[:, 2] = torch.tensor([1.0, 3.0])
    at = torch.tensor([2, 2])
    batch = transitions(torch.tensor([0, 1]), [0, 1], [1.0, 2.0], [0.9, 0.0], at)
    torch.testing.assert_close(agent.targets(batch), torch.tensor([3.7, 2.0]))
    taxi = FittedQ("Taxi-v4", net=QNetwork(Table()))
    with torch.no_grad():
        taxi.policy.head.weight[:2, 7] = torch.tensor([1.0, 3.0])
    mask = torch.tensor([[True, False, True, False, False, False]])
    obs = {"observation": torch.tensor([7]), "action_mask": mask}
    row = transitions(obs, [0], [1.0], [0.9], obs)
    torch.testing.assert_close(taxi.targets(row), torch.tensor([1.9]))


@pytest.mark.medium
def test_with_every_pair_of_a_deterministic_world_it_is_q_star(tmp_path: Path) -> None:
    """Formula sheet 6.1.4b: a table, exactly, however often each pair was seen."""
    agent = learn(exact("Chain-v8", 400, iterations=60), tmp_path, 1)
    q = agent.q(torch.arange(5)).detach().numpy()
    np.testing.assert_allclose(q[:4], chain(5).optimal_q(0.9)[:4], atol=1e-5)
    assert agent.updates == 60 and agent.env_steps == 400


@pytest.mark.medium
def test_in_a_stochastic_world_it_is_q_star_of_the_frequencies(tmp_path: Path) -> None:
    """Formula sheet 6.1.4b: which is near the true one, and not the same."""
    agent = learn(watched(exact("Grid-v8", 2_000, iterations=150)), tmp_path, 1)
    q, expected = agent.q(torch.arange(9)).detach().numpy(), empirical_q_star(seen(agent), 9, 4, 0.9)
    np.testing.assert_allclose(q, expected, atol=1e-5)
    away = np.abs(q - grid(3).optimal_q(0.9))[:8].max()
    assert 1e-3 < away < 0.3


def test_it_joins_episodes_that_never_met(tmp_path: Path) -> None:
    """A → B and B → C only: q finds A → C. The one who imitates A's episode stops at B."""
    agent = detached(exact("Chain-v8", 10, iterations=5))
    data = transitions(torch.tensor([0, 1, 0]), [1, 1, 0], [0.0, 1.0, 0.05], [0.9, 0.0, 0.0], torch.tensor([1, 2, 4]))
    for minibatch in agent.minibatches(data):
        agent.update(minibatch)
    q = agent.q(torch.arange(2)).detach()
    torch.testing.assert_close(q[0], torch.tensor([0.05, 0.9]))


def test_the_targets_of_a_regression_stand_still() -> None:
    """S steps towards the same y, then new ones."""
    agent = detached(FittedQ("CartPole-v1", net=QNetwork(MLP((8,))), iterations=3, regression=Regression(steps=4)))
    rng = torch.Generator().manual_seed(0)
    obs, following = torch.randn(50, 4, generator=rng), torch.randn(50, 4, generator=rng)
    data = transitions(obs, [0, 1] * 25, torch.randn(50, generator=rng), [0.9] * 50, following)
    targets = []
    for minibatch in agent.minibatches(data):
        agent.update(minibatch)
        targets.append(minibatch.target)
    assert len(targets) == 12 == agent.updates
    same = [torch.equal(a, b) for a, b in pairwise(targets)]
    assert same == [True, True, True, False] * 2 + [True, True, True]


def test_minibatches_use_every_row_before_any_twice() -> None:
    agent = FittedQ("Chain-v8", net=QNetwork(Table()), iterations=1, regression=Regression(steps=5, batch_size=10))
    data = transitions(
        torch.arange(50) % 5, [0] * 50, torch.arange(50.0), [0.0] * 50, torch.zeros(50, dtype=torch.int64)
    )
    rows = torch.cat([minibatch.target for minibatch in agent.minibatches(data)])
    assert sorted(rows.tolist()) == list(range(50))


def test_one_step_moves_q_alone() -> None:
    agent = detached(FittedQ("CartPole-v1", net=QNetwork(MLP((8,)), inputs="pair"), regression=Regression(steps=1)))
    before = parameters(agent)
    data = transitions(torch.randn(6, 4), [0, 1] * 3, torch.randn(6), [0.9] * 6, torch.randn(6, 4))
    agent.update(next(iter(agent.minibatches(data))))
    assert moved(agent, before) == set(before)


@pytest.mark.parametrize("space", ["CartPole-v1", "Taxi-v4", "Chain-v8"])
def test_pairs_give_every_action_its_value(space: str) -> None:
    """[..., A] of the network of pairs are its values one by one, whatever leads, also beside a mask."""
    agent = FittedQ(space, net=QNetwork(MLP((8,)), inputs="pair"))
    body, head = agent.policy.body, agent.policy.head
    assert isinstance(body, PairBody)
    env = agent.env.make_one()
    env.observation_space.seed(0)
    some = [env.observation_space.sample() for _ in range(6)]
    if isinstance(some[0], dict):
        obs = {key: torch.as_tensor(np.stack([row[key] for row in some])) for key in some[0]}
        grouped = {key: value.unflatten(0, (2, 3)) for key, value in obs.items()}
    else:
        obs = torch.as_tensor(np.stack(some))
        grouped = obs.unflatten(0, (2, 3))
    q = agent.q(obs)
    assert q.shape == (6, agent.actions)
    torch.testing.assert_close(agent.q(grouped), q.unflatten(0, (2, 3)))
    for a in range(agent.actions):
        taken = torch.full((6,), a)
        torch.testing.assert_close(chosen_value(body, head, obs, taken), q[:, a])
    torch.testing.assert_close(
        chosen_value(*FittedQ("CartPole-v1").q, torch.zeros(2, 4), torch.tensor([0, 1])).shape, torch.Size([2])
    )


def rows_of_rank(rank: int) -> Transition:
    """Nine steps with a mask; the ranks see other states."""
    rng = torch.Generator().manual_seed(rank)
    place, following = torch.randint(500, (2, 9), generator=rng)
    mask = torch.rand(2, 9, 6, generator=rng) < 0.8
    obs, next_obs = ({"observation": x, "action_mask": m} for x, m in zip((place, following), mask, strict=True))
    return transitions(obs, [0, 1, 2] * 3, torch.randn(9, generator=rng), [0.9] * 9, next_obs)._replace(weight=None)


def fitted_to(data: Transition) -> torch.Tensor:
    """The table after three exact regressions."""
    agent = detached(FittedQ("Taxi-v4", net=QNetwork(Table()), iterations=3, regression=EXACT))
    for minibatch in agent.minibatches(data):
        agent.update(minibatch)
    return agent.policy.head.weight.detach()


def solve_on_rank(rank: int, port: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(fitted_to(rows_of_rank(rank)), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.medium
def test_two_processes_solve_for_the_rows_of_both(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.start_processes(solve_on_rank, (port, tmp_path), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first, second)
    both = [rows_of_rank(rank) for rank in range(2)]
    obs, next_obs = (
        {key: torch.cat([getattr(part, name)[key] for part in both]) for key in both[0].obs}
        for name in ("obs", "next_obs")
    )
    action, reward, discount = (
        torch.cat([getattr(part, name) for part in both]) for name in ("action", "reward", "discount")
    )
    torch.testing.assert_close(first, fitted_to(transitions(obs, action, reward, discount, next_obs)))


@pytest.mark.medium
def test_pairs_learn_the_chain_too(tmp_path: Path) -> None:
    """(s, a) → one number, by steps: the same Q*."""
    data = GrowingBatch(400, steps_per_round=400, steps_per_epoch=400)
    net = QNetwork(MLP((64,), "relu"), inputs="pair")
    agent = FittedQ(
        Env("Chain-v8"), data, net, Optimizer(lr=3e-3), 0.8, EpsilonGreedy(Constant(1.0)), 40, Regression(steps=40)
    )
    learn(agent, tmp_path, 1)
    q = agent.q(torch.arange(5)).detach().numpy()
    assert np.abs(q[:4] - chain(5).optimal_q(0.8)[:4]).max() < 0.05


@pytest.mark.medium
def test_the_batch_grows_and_forgets_the_oldest(tmp_path: Path) -> None:
    agent, sizes = exact("Chain-v8", 100, iterations=1), []
    agent.data = GrowingBatch(70, steps_per_round=30, steps_per_epoch=120, steps_per_batch=30)
    targets = agent.targets
    agent.targets = lambda data: sizes.append(len(data.reward)) or targets(data)
    learn(agent, tmp_path, 1)
    assert sizes == [30, 60, 70, 70]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="least_squares fits the last layer"):
        FittedQ("CartPole-v1", regression=EXACT)
    with pytest.raises(ValueError, match="a duelling head has two"):
        FittedQ("CartPole-v1", net=QNetwork(MLP(()), duelling=True), regression=EXACT)
    with pytest.raises(ValueError, match=r"FittedQ\.iterations is 0"):
        FittedQ("CartPole-v1", iterations=0)
    with pytest.raises(ValueError, match="it goes with an MLP or CNN"):
        QNetwork(Table(), inputs="pair")
    with pytest.raises(ValueError, match=r"GrowingBatch\.capacity is 0"):
        GrowingBatch(0)
