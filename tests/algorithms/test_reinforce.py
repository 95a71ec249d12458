"""REINFORCE: each weight and baseline against the scores of every trajectory, and what the analysis logs."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from lit_rl import REINFORCE, Env, Recurrent, WholeEpisodes
from lit_rl.algorithms.policy_gradient.reinforce import Baseline, Weight, batch_baseline, learning_signal
from lit_rl.functional.policy_gradient import leave_one_out_baseline, optimal_baseline, standardize
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import learn, with_gradient
from tests.algorithms.tabular import as_trajectories, gradient_of_logits, tabular
from tests.oracles.trajectories import Problem, problem, weighted_scores


@pytest.fixture(scope="module")
def exact() -> Problem:
    return problem(5)


def test_signals_by_hand() -> None:
    """Rewards 1, 2, 4 with γ = ½: whole 1 + 1 + 1 = 3; to go 3, 4, 4."""
    reward = torch.tensor([[1.0], [2.0], [4.0]])
    expected = {"whole_return": [3, 3, 3], "reward_to_go": [3, 4, 4], "maximum_likelihood": [1, 1, 1]}
    for kind, rows in expected.items():
        assert learning_signal(reward, 0.5, kind).flatten().tolist() == rows


def test_whole_returns_are_averaged_over_episodes_and_rewards_to_go_over_steps() -> None:
    """Episodes of 1 and 3 steps worth 4 and 8: the mean return is 6; over steps it would be 7."""
    mask = torch.tensor([[True, True], [False, True], [False, True]])
    whole = torch.tensor([[4.0, 8.0]]).expand(3, 2)
    assert batch_baseline(whole, mask, "mean", whole=True)[0].tolist() == [6, 6]
    assert batch_baseline(whole, mask, "leave_one_out", whole=True)[0].tolist() == [8, 4]
    assert batch_baseline(whole, mask, "mean", whole=False)[0].tolist() == [7, 7]


@pytest.mark.parametrize("weight", get_args(Weight))
@pytest.mark.parametrize("baseline", get_args(Baseline))
def test_gradient_is_the_weighted_sum_of_scores(exact: Problem, weight: Weight, baseline: Baseline) -> None:
    gamma, paths = 0.8, exact.paths
    agent = tabular(REINFORCE, exact, weight=weight, baseline=baseline, standardize=False, gamma=gamma)
    (minibatch,) = agent.minibatches(as_trajectories(paths, exact.logits))
    terms = agent.loss(minibatch)
    sum(terms.values()).backward()
    assert terms.keys() == ({"policy_loss", "value_loss"} if baseline == "learned" else {"policy_loss"})

    to_go = torch.zeros_like(paths.reward)
    for t in range(3):
        to_go[t] = sum(gamma ** (k - t) * paths.reward[k] for k in range(t, 3))
    elapsed = torch.tensor([1.0, gamma, gamma**2], dtype=torch.float64)[:, None]
    x = {
        "whole_return": to_go[:1].expand(3, -1),
        "reward_to_go": to_go,
        "discounted_reward_to_go": elapsed * to_go,
        "maximum_likelihood": torch.ones_like(to_go),
    }[weight]
    scores = paths.scores(exact.logits)
    if baseline == "optimal":
        u, v = weighted_scores(scores, x), scores.sum(0)
        expected = (u - optimal_baseline(u, v) * v).mean(0)
    else:
        scale = elapsed if weight == "discounted_reward_to_go" else 1.0
        alone = leave_one_out_baseline(x, paths.mask)
        b = {
            "none": torch.zeros_like(x),
            "mean": x.mean().expand_as(x),
            "leave_one_out": alone,
            "per_time": (x.sum(1, keepdim=True) - x) / 63,
        }
        if baseline == "learned":
            with torch.no_grad():
                b["learned"] = scale * agent.critic.value(torch.arange(2))[paths.states].double()
        expected = weighted_scores(scores, x - b[baseline]).mean(0)
    torch.testing.assert_close(gradient_of_logits(agent), -expected, atol=1e-5, rtol=1e-4)


def test_value_loss_by_hand(exact: Problem) -> None:
    """½ mean (V − G)², which reaches the critic alone; the weights reach the policy alone."""
    agent = tabular(REINFORCE, exact, gamma=0.5)
    (minibatch,) = agent.minibatches(as_trajectories(exact.paths, exact.logits))
    terms = agent.loss(minibatch)
    value = agent.critic.value(minibatch.obs)
    torch.testing.assert_close(terms["value_loss"], ((value - minibatch.target) ** 2).mean() / 2)
    terms["value_loss"].backward(retain_graph=True)
    assert all("value_head" in name for name in with_gradient(agent))
    agent.zero_grad()
    terms["policy_loss"].backward()
    assert not any("value_head" in name for name in with_gradient(agent))


def test_scale_of_the_step(exact: Problem) -> None:
    """Averaged over steps it is a third of that over episodes of three; standardised weights have deviation 1."""
    data = as_trajectories(exact.paths, exact.logits)
    gradients = []
    for over in ("episodes", "steps"):
        agent = tabular(REINFORCE, exact, average_over=over, baseline="none")
        (minibatch,) = agent.minibatches(data)
        sum(agent.loss(minibatch).values()).backward()
        gradients.append(gradient_of_logits(agent))
        weight = learning_signal(data.reward, 1.0, "reward_to_go")
        torch.testing.assert_close(minibatch.weight, standardize(weight, data.mask)[data.mask])
    torch.testing.assert_close(gradients[0], 3 * gradients[1])


def test_analysis_orders_baselines_as_theory_says(exact: Problem) -> None:
    """On all 64 trajectories: the optimal constant is at most as noisy as none; every baseline is logged once."""
    agent = tabular(REINFORCE, exact, weight="whole_return", variance_every=2)
    data = as_trajectories(exact.paths, exact.logits)
    (minibatch,) = agent.minibatches(data)
    agent.update(minibatch)
    (minibatch,) = agent.minibatches(data)  # one update later: not its turn
    logged = {name: values for name, values in agent.metrics._pending.items() if name.startswith("gradient_variance")}
    assert {name.removeprefix("gradient_variance_") for name in logged} == set(get_args(Baseline))
    assert all(len(values) == 1 for values in logged.values())
    variance = {name.removeprefix("gradient_variance_"): float(values[0]) for name, values in logged.items()}
    assert variance["optimal"] < variance["none"]


def test_refusals() -> None:
    for arguments, words in (
        ({"data": WholeEpisodes(window=2)}, "importance weights"),
        ({"net": ActorCritic(Recurrent())}, "memory"),
        ({"variance_every": 0}, "variance_every"),
    ):
        with pytest.raises(ValueError, match=words):
            REINFORCE("CartPole-v1", **arguments)


@pytest.mark.medium
@pytest.mark.parametrize("baseline", ["none", "leave_one_out", "per_time", "optimal", "learned"])
def test_learns_a_short_task(baseline: Baseline, tmp_path: Path) -> None:
    """Name four numbers, three steps: 3 is the best return, 0.75 that of chance."""
    env = Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=4, kwargs={"horizon": 3})
    data = WholeEpisodes(4, steps_per_epoch=6_000)
    agent = learn(REINFORCE(env, data, optimizer=Optimizer(lr=1e-2), baseline=baseline), tmp_path, 1)
    assert agent.val_dataloader().play().returns.mean() > 2.7
