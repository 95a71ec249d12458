"""TD3: smoothed targets, the smaller critic, the delayed actor; without all three it is DDPG."""

from pathlib import Path

import pytest
import torch

from lit_rl import DDPG, MLP, TD3, GaussianNoise, Linear, Replay
from lit_rl.algorithms.actor_critic.td3 import smoothed_action
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, with_gradient
from tests.algorithms.test_ddpg import batch


def agent(**changes) -> TD3:
    torch.manual_seed(0)
    return detached(TD3("Pendulum-v1", **{"net": MLP((8,)), "optimizer": Optimizer(lr=0.01)} | changes))


def test_smoothing_by_hand() -> None:
    """σ̃ = ½, c = 0.6: noises −1, 0.5 and 2 become −0.5, 0.25 and 0.6; the sum stays in the box."""
    action, normal = torch.tensor([[0.1], [0.9], [0.3]]), torch.tensor([[-1.0], [0.5], [2.0]])
    torch.testing.assert_close(smoothed_action(action, normal, 0.5, 0.6), torch.tensor([[-0.4], [1.0], [0.9]]))


def test_without_its_three_changes_it_is_ddpg() -> None:
    """d = 1, σ̃ = 0, one critic: the same losses and the same parameters after five updates (formula sheet H4)."""
    torch.manual_seed(0)
    ddpg = detached(DDPG("Pendulum-v1", net=MLP((8,)), optimizer=Optimizer(lr=0.01)))
    td3 = agent(policy_delay=1, target_noise=0.0, critics=1)
    td3.load_state_dict(ddpg.state_dict())
    for seed in range(5):
        data = batch(seed=seed)
        torch.testing.assert_close(td3.loss(data), ddpg.loss(data))
        td3.update(data)
        ddpg.update(data)
    torch.testing.assert_close(dict(td3.named_parameters()), dict(ddpg.named_parameters()))


def test_the_smaller_critic_counts() -> None:
    td3, data = agent(target_noise=0.0), batch(40)
    with torch.no_grad():
        for parameter in td3.critics_target.parameters():
            parameter.normal_(0, 0.5)
    action = 2 * torch.tanh(td3.actor_target(data.next_obs))
    both = td3.critics_target(data.next_obs, action)
    assert (both[0] < both[1]).any() and (both[0] > both[1]).any()
    y = data.reward + 0.9 * both.min(0).values
    expected = 0.5 * (td3.critics(data.obs, data.action) - y).square().sum(0).mean()
    assert td3.loss(data)["critic_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_target_is_smoothed_with_fresh_noise() -> None:
    td3, data = agent(target_noise=0.5), batch()
    assert td3.loss(data)["critic_loss"].item() != td3.loss(data)["critic_loss"].item()


def test_the_actor_and_the_copies_move_every_d_updates() -> None:
    td3, history = agent(policy_delay=3), []
    for _ in range(6):
        before = parameters(td3)
        td3.update(batch())
        parts = {name.split(".")[0] for name in moved(td3, before)}
        assert parts == {name.split(".")[0] for name in with_gradient(td3)} | (
            parts & {"actor_target", "critics_target"}
        )
        history.append(sorted(parts))
    everything = ["actor_target", "critics", "critics_target", "policy"]
    assert history == [["critics"], ["critics"], everything] * 2


def test_the_actor_climbs_the_first_critic_alone() -> None:
    td3, data = agent(policy_delay=1), batch()
    losses = td3.loss(data)
    expected = -td3.critics.members[0](data.obs, td3.policy.greedy(data.obs)).mean()
    assert losses["actor_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    losses["actor_loss"].backward()
    assert with_gradient(td3) == {name for name, _ in td3.named_parameters() if name.startswith("policy.")}


@pytest.mark.medium
def test_a_quadratic_bandit_is_solved(tmp_path: Path) -> None:
    """Reward −(a − 0.3)²: the action is 0.3."""
    data = Replay(1500, 64, 0.5, warmup=200, steps_per_epoch=1500, steps_per_batch=1000)
    td3 = TD3(
        "Quadratic-v9", data, MLP((32,), "relu"), Optimizer(Linear(3e-3, 1e-4, 1500)), 0.9, 0.1, GaussianNoise(0.3)
    )
    learn(td3, tmp_path, 1)
    assert td3.policy.greedy(torch.zeros(1, 1)).item() == pytest.approx(0.3, abs=0.1)
