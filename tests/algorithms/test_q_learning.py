"""Online Q-learning: the table moves as the text books say, finds Q*, and diverges where it must."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from lit_rl import (
    MLP,
    DoubleQ,
    Env,
    EpsilonGreedy,
    Linear,
    QLearning,
    QNetwork,
    Replay,
    Rollouts,
    Table,
    TargetUpdate,
)
from lit_rl.algorithms.q_learning.dqn import td_error
from lit_rl.algorithms.q_learning.q_learning import online_loss
from lit_rl.batch import Rollout
from lit_rl.data.fresh import fresh_transitions
from lit_rl.envs.finite_mdp import FiniteMDPEnv, chain, grid
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, transitions


def tabular(kind: str) -> gymnasium.Env:
    return TimeLimit(FiniteMDPEnv(grid(3) if kind == "grid" else chain(5)), 30)


class MaximizationBias(gymnasium.Env):
    """Sutton & Barto 2018, example 6.7: in state 0 actions 0-4 end with 0, 5-9 lead to 1, where all pay N(−0.1, 1)."""

    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(10)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return 0, {}

    def step(self, action):
        if self.state == 0 and action >= 5:
            self.state = 1
            return 1, 0.0, False, False, {}
        reward = 0.0 if self.state == 0 else float(self.np_random.normal(-0.1, 1.0))
        return 2, reward, True, False, {}


for name, make in {"Grid-v9": lambda: tabular("grid"), "Chain5-v9": lambda: tabular("chain")}.items():
    if name not in gymnasium.registry:
        gymnasium.register(name, make)
if "MaximizationBias-v9" not in gymnasium.registry:
    gymnasium.register("MaximizationBias-v9", MaximizationBias)


def agent(**changes) -> QLearning:
    return detached(QLearning("Grid-v9", **{"optimizer": Optimizer(0.5, "sgd")} | changes))


def test_a_table_moves_one_entry_by_alpha_times_the_error() -> None:
    """q(2, 1) = 1 → 1 + ½ (3 + 0.9 · 4 − 1) = 3.8; a terminal step ½ (3 − 1) further; nothing else moves."""
    table = agent(gamma=0.9)
    assert table.q(torch.arange(9)).abs().sum() == 0
    with torch.no_grad():
        table.policy.head.weight[1, 2], table.policy.head.weight[3, 5] = 1.0, 4.0  # weight [A, S]
    expected = table.policy.head.weight.detach().clone()
    table.update(transitions(torch.tensor([2]), [1], [3.0], [0.9], torch.tensor([5])))
    expected[1, 2] = 3.8
    torch.testing.assert_close(table.policy.head.weight.detach(), expected)
    table.update(transitions(torch.tensor([2]), [1], [3.0], [0.0], torch.tensor([5])))
    expected[1, 2] += 0.5 * (3 - 3.8)
    torch.testing.assert_close(table.policy.head.weight.detach(), expected)


def test_optimism_is_where_the_table_begins() -> None:
    table = agent(net=QNetwork(Table(5.0)))
    assert (table.q(torch.arange(9)) == 5).all()
    with pytest.raises(ValueError, match="Table wants a Discrete observation"):
        QLearning("CartPole-v1")


def test_a_table_reads_past_the_legal_actions() -> None:
    """Taxi names them: the observation is a dict of the state and the mask, and an illegal action is never best."""
    taxi = QLearning(Env("Taxi-v4"), exploration=EpsilonGreedy(1.0))
    assert isinstance(taxi.env.observation_space, spaces.Dict) and taxi.policy.head.weight.shape == (6, 500)
    taxi.policy.refresh()
    mask = np.array([[False, True, False, False, True, False]] * 40)
    obs = {"observation": np.arange(40), "action_mask": mask}
    act = taxi.policy.act(obs, np.zeros((40, 0), np.float32), np.random.default_rng(0))
    assert set(act.action.tolist()) == {1, 4} and np.allclose(np.exp(act.log_prob), 0.5)


def test_a_network_takes_the_same_step_as_a_table() -> None:
    """One-hot features and no hidden layer: with the bias held at 0 both are the same function."""
    table, network = agent(), agent(net=QNetwork(MLP(())))
    with torch.no_grad():
        network.policy.head.weight.zero_(), network.policy.head.bias.zero_()
    data = transitions(torch.tensor([2, 3]), [1, 0], [3.0, 1.0], [0.9, 0.9], torch.tensor([5, 2]))
    table.update(data)
    network.update(data)
    torch.testing.assert_close(table.policy.head.weight, network.policy.head.weight)


def test_fresh_transitions_keep_time_order_and_the_true_successor() -> None:
    """T = 3, N = 2; environment 1 is cut after its second step (final 90), environment 0 terminates at its third."""
    obs = torch.tensor([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0], [3.0, 13.0]])
    flags = torch.zeros(3, 2, dtype=torch.bool)
    terminated, truncated = flags.clone(), flags.clone()
    terminated[2, 0] = truncated[1, 1] = True
    rollout = Rollout(
        obs=obs[..., None],
        action=torch.arange(6).view(3, 2),
        log_prob=torch.zeros(3, 2),
        reward=torch.arange(6.0).view(3, 2),
        terminated=terminated,
        truncated=truncated,
        episode_step=torch.zeros(3, 2, dtype=torch.int32),
        final_obs=torch.tensor([[90.0], [80.0]]),
        final_index=torch.tensor([3, 4]),
        state=torch.zeros(2, 0),
        version=torch.tensor(0),
    )
    found = fresh_transitions(rollout, 0.9)
    assert found.obs[:, 0].tolist() == [0, 10, 1, 11, 2, 12]
    assert found.next_obs[:, 0].tolist() == [1, 11, 2, 90, 80, 13]
    assert found.action.tolist() == [0, 1, 2, 3, 4, 5] and found.reward.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(found.discount, [0.9, 0.9, 0.9, 0.9, 0, 0.9])
    assert rollout.obs[2, 1, 0] == 12, "the rollout is left as it was"
    both = fresh_transitions(rollout._replace(obs={"x": rollout.obs}, final_obs={"x": rollout.final_obs}), 0.9)
    assert torch.equal(both.next_obs["x"], found.next_obs)


@pytest.mark.slow
def test_with_falling_rates_the_table_finds_q_star(tmp_path: Path) -> None:
    """A grid with slips: max |q − q*| < 0.05 (formula sheet 6.2.1a)."""
    table = QLearning(
        Env("Grid-v9", num_envs=16),
        Rollouts(1, steps_per_epoch=48_000, rollouts_per_batch=500),
        optimizer=Optimizer(Linear(0.3, 0.002, 48_000), "sgd"),
        gamma=0.8,
        exploration=EpsilonGreedy(1.0),
    )
    learn(table, tmp_path, 1)
    error = table.q(torch.arange(9)).detach().numpy() - grid(3).optimal_q(0.8)
    assert np.abs(error[:8]).max() < 0.05


def test_it_diverges_on_two_states_with_one_feature() -> None:
    """Formula sheet 6.1.4a: V = [w, 2w], both go to state 2, r = 0.

    Semi-gradient steps with equal weights multiply w by 1 + α (6γ − 5): they diverge for γ > 5/6.
    """
    obs, following, action = torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [2.0]]), torch.tensor([0, 0])
    for gamma, grows in ((0.99, True), (0.7, False)):
        layer = torch.nn.Linear(1, 1, bias=False)
        layer.weight.data.fill_(1.0)
        optimizer = torch.optim.SGD(layer.parameters(), 0.01)
        for _ in range(500):
            optimizer.zero_grad()
            discount = torch.full((2,), gamma)
            online_loss(td_error(layer(obs), action, torch.zeros(2), discount, layer(following))).backward()
            optimizer.step()
        assert layer.weight.item() == pytest.approx((1 + 0.01 * (6 * gamma - 5)) ** 500, rel=1e-2)
        assert (layer.weight.item() > 10) == grows


def left(agent, folder: Path, seed: int) -> float:
    """How often the way to the noisy rewards was taken, over a run of 300 episodes."""
    taken, choose = [], type(agent.policy).choose

    def watched(self, outputs, obs, rng, explore):
        action, log_prob = choose(self, outputs, obs, rng, explore)
        taken.extend(np.asarray(action)[np.asarray(obs) == 0] >= 5)
        return action, log_prob

    agent.policy.choose = watched.__get__(agent.policy)
    learn(agent, folder, 1, seed)
    return float(np.mean(taken))


@pytest.mark.slow
def test_maximization_bias_goes_left_and_two_estimators_do_not(tmp_path: Path) -> None:
    """Formula sheet 7.4a: the way left is worth −0.1, and the maximum over ten noisy values says otherwise."""
    env = "MaximizationBias-v9"
    plain, double = [], []
    for seed in range(5):
        optimizer, exploration = Optimizer(0.1, "sgd"), EpsilonGreedy(0.1)
        data = Rollouts(1, steps_per_epoch=500, rollouts_per_batch=500)
        plain.append(
            left(QLearning(env, data, optimizer=optimizer, gamma=1.0, exploration=exploration), tmp_path, seed)
        )
        online = Replay(2, 1, 1.0, warmup=0, steps_per_epoch=500, steps_per_batch=500)
        two = DoubleQ(env, online, QNetwork(Table()), optimizer, 1.0, exploration, TargetUpdate(1))
        double.append(left(two, tmp_path, seed))
    assert np.mean(plain) > np.mean(double) + 0.1, (plain, double)
