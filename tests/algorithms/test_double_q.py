"""Double Q-learning: one estimator learns at a time, both find Q*."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl import MLP, Constant, DoubleQ, Env, EpsilonGreedy, Linear, QNetwork, Replay, TargetUpdate
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters
from tests.algorithms.test_double_dqn import batch
from tests.algorithms.test_dqn import q_star


def agent(**changes) -> DoubleQ:
    torch.manual_seed(0)
    small = {"net": QNetwork(MLP((8,))), "optimizer": Optimizer(lr=0.01), "huber_delta": 100.0}
    return detached(DoubleQ("CartPole-v1", **small | changes))


def test_a_coin_says_which_one_learns() -> None:
    double, sides = agent(), []
    for _ in range(20):
        before = parameters(double)
        double.update(batch())
        (side,) = {name.split(".")[3] for name in moved(double, before)}
        sides.append(side)
    assert {"0", "1"} == set(sides) and 4 < sides.count("0") < 16


def test_the_other_one_evaluates() -> None:
    double, data = agent(), batch()
    one, other = (network(data.obs)[torch.arange(5), data.action] for network in double.policy.estimators)
    next_one, next_other = (network(data.next_obs) for network in double.q_target.slow)
    y = [
        data.reward + 0.9 * evaluate.gather(1, select.argmax(1, keepdim=True))[:, 0]
        for select, evaluate in ((next_one, next_other), (next_other, next_one))
    ]
    possible = [0.5 * (q - t).square().mean().item() for q, t in zip((one, other), y, strict=True)]
    found = {round(double.loss(data)["td_loss"].item(), 5) for _ in range(20)}
    assert found == {round(value, 5) for value in possible}


@pytest.mark.medium
def test_both_tables_find_q_star(tmp_path: Path) -> None:
    data = Replay(2400, 256, 0.25, warmup=400, steps_per_epoch=2400, steps_per_batch=1000)
    double = DoubleQ(
        Env("Chain-v9", num_envs=4),
        data,
        QNetwork(MLP(())),
        Optimizer(Linear(0.05, 0.002, 2400)),
        0.8,
        EpsilonGreedy(Constant(1.0)),
        TargetUpdate(5),
    )
    learn(double, tmp_path, 2)
    for estimator in double.policy.estimators:
        assert np.abs((estimator(torch.eye(5)).detach().numpy() - q_star(0.8))[:4]).max() < 0.05
