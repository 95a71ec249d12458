"""AsyncQ: one environment and one step is online Q-learning; workers send what they should; every ε its own."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_rl import (
    MLP,
    Asynchronous,
    AsyncQ,
    Env,
    EpsilonGreedy,
    EpsilonSpread,
    QLearning,
    QNetwork,
    Rollouts,
    TargetUpdate,
)
from lit_rl.algorithms.q_learning.async_q import rollout_loss, squared_error
from lit_rl.batch import Rollout
from lit_rl.data.asynchronous import Contribution
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, precision_survives_autocast, with_gradient

SGD = Optimizer(lr=0.05, name="sgd")
NET = QNetwork(MLP((8,)))


def agent(data: Any = None, num_envs: int = 2, **changes: Any) -> AsyncQ:
    torch.manual_seed(0)
    data = data or Asynchronous(steps=6, steps_per_epoch=240, workers=0)
    defaults = {"net": NET, "optimizer": SGD, "n_step": 3, "target": TargetUpdate(every=4)}
    return AsyncQ(Env("CartPole-v1", num_envs), data, **defaults | changes)


def rollout_of(q: AsyncQ, steps: int = 20):
    collector = open_collector(q.env, q.policy, seed=0, rank=0)
    collector.collect(9)
    data = as_tensors(collector.collect(steps))
    collector.close()
    return data


def test_the_loss_by_hand() -> None:
    """½ ((2 − 5)² + (1 − 1)²)/2 = 2.25; no gradient to the targets."""
    q, target = torch.tensor([2.0, 1.0], requires_grad=True), torch.tensor([5.0, 1.0], requires_grad=True)
    loss = squared_error(q, target)
    loss.backward()
    assert loss.item() == 2.25 and q.grad.tolist() == [-1.5, 0.0] and target.grad is None


def test_targets_of_a_rollout_step_by_step() -> None:
    """(1) with n = 3 by a plain loop over real episodes; the target network is another one."""
    q = agent()
    with torch.no_grad():
        for parameter in q.q_target.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    data = rollout_of(q)
    assert len(data.final_index), "episodes end inside"
    steps, envs = data.reward.shape
    finals = {int(at): obs for at, obs in zip(data.final_index, data.final_obs, strict=True)}
    losses = []
    for n in range(envs):
        for t in range(steps):
            y, factor = 0.0, 1.0
            for k in range(t, min(t + 3, steps)):
                y, factor = y + factor * float(data.reward[k, n]), factor * q.gamma
                if data.done[k, n]:
                    break
            following = finals.get(k * envs + n, data.obs[k + 1, n])
            y += 0.0 if data.terminated[k, n] else factor * float(q.q_target(following[None]).max())
            losses.append(0.5 * (float(q.q(data.obs[t, n][None])[0, data.action[t, n]].detach()) - y) ** 2)
    loss, _ = rollout_loss(q.policy, q.q_target, data, q.gamma, 3)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("kind", [Rollouts(1, steps_per_epoch=120), Asynchronous(1, 120, workers=0)])
def test_one_environment_and_one_step_is_online_q_learning(kind: Any, tmp_path: Path) -> None:
    """Formula sheet H14, with θ⁻ copied after every update: the same weights after 120 steps."""
    explore = EpsilonGreedy(0.3)
    one = agent(kind, 1, n_step=1, target=TargetUpdate(every=1), exploration=explore)
    torch.manual_seed(0)
    other = QLearning(Env("CartPole-v1"), Rollouts(1, steps_per_epoch=120), NET, SGD, 0.99, explore)
    for mine, theirs in zip(one.q.parameters(), other.q.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    learn(one, tmp_path / "one", 1), learn(other, tmp_path / "other", 1)
    assert one.updates == other.updates == 120
    for mine, theirs in zip(one.q.parameters(), other.q.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_one_update_moves_q_alone() -> None:
    q = detached(agent(Rollouts(6)))
    before = parameters(q)
    q.update(rollout_of(q, 6))
    names = {name for name in before if name.startswith("policy.")}
    assert moved(q, before) == with_gradient(q) == names


def test_without_processes_too_the_gradient_keeps_its_precision_under_autocast(tmp_path: Path) -> None:
    """As in worker processes, which know nothing of the trainer: bf16-mixed leaves the same weights as 32-true."""
    precision_survives_autocast(agent, tmp_path)


@pytest.mark.medium
def test_two_processes_send_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gradient that arrives is recomputed here from its rollout at the weights, θ⁻ included, that it names."""
    q, weights, came = agent(Asynchronous(6, 240, workers=2)), {}, []
    update = AsyncQ.update

    def watched(self: AsyncQ, minibatch: Contribution) -> None:
        weights[self.updates] = {name: value.clone() for name, value in self.state_dict().items()}
        came.append(minibatch)
        update(self, minibatch)

    monkeypatch.setattr(AsyncQ, "update", watched)
    learn(q, tmp_path, 1)
    assert q.updates == 40 == len(came) and q.env_steps == 240
    processes = {int(each.process) for each in came}
    assert len(processes) == 2 and os.getpid() not in processes
    assert "lag" in q.metrics.latest and min(at - int(c.version) for at, c in zip(weights, came, strict=True)) >= 0
    check = agent()
    for contribution in came:
        check.load_state_dict(weights[int(contribution.version)])
        work = check.work()
        expected: dict[str, Tensor] = work.gradient(contribution.rollout)[0]
        assert expected.keys() == contribution.gradient.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(contribution.gradient[name], tensor, atol=1e-5, rtol=1e-4)
    assert multiprocessing.active_children() == []


def test_each_environment_has_its_own_epsilon() -> None:
    """Halfway from 1 to ends ½, 0.1: ε = 0.75 and 0.55; a greedy action has 1 − ε + ε/2 of two."""
    spread = EpsilonSpread((0.5, 0.1), 100)
    level = spread.schedule(50)
    assert level == 0.5
    np.testing.assert_allclose(spread.epsilons(3, level)[:, 0], [0.75, 0.55, 0.75])
    values = np.array([[1.0, 0.0]] * 3)
    expected = [[0.625, 0.375], [0.725, 0.275], [0.625, 0.375]]
    np.testing.assert_allclose(spread.probabilities(values, None, level), expected)
    np.testing.assert_allclose(spread.of_tensor(torch.from_numpy(values), None, level), expected)
    np.testing.assert_allclose(spread.epsilons(2, spread.schedule(1_000))[:, 0], [0.5, 0.1])


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", [Rollouts, Asynchronous])
def test_each_environment_keeps_its_epsilon_whoever_steps_it(kind: Any, workers: int) -> None:
    """ε = 1, 0, 0.4 and 1 in four environments: an action of two then has ½, 1, 0.8 or 0.2, and ½."""
    spread = EpsilonSpread((1.0, 0.0, 0.4), steps=1)
    q = agent(kind(steps=5, workers=workers), 4, exploration=spread)
    q.policy.count(env_steps=1)
    experience = q.data.open(q.env, q.policy, q.gamma, seed=0)
    if kind is Asynchronous:
        experience.work = q.work()
    shares: dict[int, Rollout] = {}
    try:
        while len(shares) < (max(1, workers) if kind is Asynchronous else 1):
            data = experience.next_round().data
            shares |= {int(data.worker): data.rollout} if kind is Asynchronous else {0: data}
    finally:
        experience.close()
    probability = torch.cat([shares[worker].log_prob.exp() for worker in sorted(shares)], 1).numpy()
    expected = [{0.5}, {1.0}, {0.8, 0.2}, {0.5}]
    for column, possible in zip(probability.T, expected, strict=True):
        assert {round(float(value), 6) for value in column} <= possible
    learner = q.policy.probabilities(torch.tensor([[1.0, 0.0]] * 4), None)[:, 0]
    np.testing.assert_allclose(learner, [0.5, 1.0, 0.8, 0.5])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"AsyncQ\.n_step is 0"):
        agent(n_step=0)
    with pytest.raises(ValueError, match=r"EpsilonSpread\.ends is \(2\.0,\)"):
        EpsilonSpread((2.0,))
    with pytest.raises(ValueError, match=r"EpsilonSpread\.steps is 0"):
        EpsilonSpread(steps=0)
