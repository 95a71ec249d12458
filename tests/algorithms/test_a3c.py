"""A3C: what a delayed worker sends, one worker against the plain actor-critic, and real processes."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl import A3C, MLP, Asynchronous, Env
from lit_rl.agent import Agent
from lit_rl.algorithms.actor_critic.a3c import actor_critic_loss, linear_loss
from lit_rl.batch import Rollout
from lit_rl.data.asynchronous import Contribution
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.functional.returns import n_step_returns
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, learn, precision_survives_autocast
from tests.oracles.trajectories import problem

SGD = Optimizer(lr=0.1, name="sgd")


def agent(env: Any = "CartPole-v1", workers: int = 0, **changes: Any) -> A3C:
    torch.manual_seed(0)
    data = Asynchronous(steps=6, steps_per_epoch=240, workers=workers, reread=changes.pop("reread", True))
    return A3C(Env.of(env).replace(num_envs=2), data, ActorCritic(MLP((8,))), **{"optimizer": SGD} | changes)


def rollout_of(a3c: A3C, policy: Any) -> Rollout:
    collector = open_collector(a3c.env, policy, seed=0, rank=0)
    collector.collect(9)
    data = as_tensors(collector.collect(20))
    collector.close()
    return data


def by_hand(networks: Any, data: Rollout, gamma: float, entropy_weight: float) -> dict[str, Tensor]:
    """The advantage actor-critic's gradient at these networks, with n-step returns to the rollout's end."""
    steps = len(data.reward)
    now = networks.evaluate(data)
    discount = gamma * (~data.terminated).float()
    target = n_step_returns(data.reward, now.next_value, discount, data.done, n=steps)
    outputs, value = networks(data.obs[:-1].flatten(0, 1))
    law = torch.distributions.Categorical(logits=outputs)
    advantage = (target - now.value).flatten()
    loss = -(advantage * law.log_prob(data.action.flatten())).mean() + 0.5 * (value - target.flatten()).square().mean()
    loss = loss - entropy_weight * law.entropy().mean()
    named = dict(networks.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-5, rtol=1e-4)


def test_losses_by_hand() -> None:
    """A = 2, log π = −0.5: 1; V = 1 against v = 3: 4. Gradients −A and 2(V − v), none to A and v."""
    log_prob, value, advantage, target = (torch.tensor([[x]], requires_grad=True) for x in (-0.5, 1.0, 2.0, 3.0))
    policy_loss, value_loss = actor_critic_loss(log_prob, value, advantage, target)
    assert (policy_loss.item(), value_loss.item()) == (1.0, 4.0)
    (policy_loss + value_loss).sum().backward()
    assert (log_prob.grad.item(), value.grad.item()) == (-2.0, -4.0)
    assert advantage.grad is None and target.grad is None


def test_the_linear_loss_has_the_gradient_it_is_given() -> None:
    parameters = {"a": torch.randn(3, requires_grad=True), "b": torch.randn(2, 2, requires_grad=True)}
    gradient = {name: torch.randn_like(tensor) for name, tensor in parameters.items()}
    linear_loss(parameters, gradient).backward()
    for name, tensor in parameters.items():
        assert torch.equal(tensor.grad, gradient[name])


def shifted(a3c: A3C, by: float) -> None:
    """As if updates had been made meanwhile."""
    with torch.no_grad():
        for number, parameter in enumerate(a3c.networks.parameters()):
            parameter.add_(by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    a3c.policy.version += 3


@pytest.mark.parametrize("entropy_weight", [0.0, 0.1])
def test_the_gradient_of_fresh_data_is_the_actor_critic_s(entropy_weight: float) -> None:
    """5.5b: no lag, so that all ratios are 1 and (2) are the n-step returns; episodes end inside the window."""
    a3c = agent(entropy_weight=entropy_weight)
    work = a3c.work()
    data = rollout_of(a3c, work.policy)
    assert len(data.final_index)
    assert_equal(work.gradient(data)[0], by_hand(a3c.networks, data, a3c.gamma, entropy_weight))


def test_a_delayed_gradient_is_the_one_at_the_old_weights() -> None:
    """5.5b, injected delay: what moves θ_k is g(θ_{k−d}) of data of θ_{k−d}, and SGD steps by exactly that."""
    a3c = detached(agent())
    work = a3c.work()
    work.read()
    data = rollout_of(a3c, work.policy)
    old = by_hand(a3c.networks, data, a3c.gamma, 0.0)
    shifted(a3c, 0.3)
    gradient, scalars = work.gradient(data)
    assert_equal(gradient, old)
    assert scalars["rho"].item() == pytest.approx(1.0, abs=1e-5)
    before = {name: p.detach().clone() for name, p in a3c.networks.named_parameters()}
    zero = torch.zeros((), dtype=torch.int64)
    Agent.update(a3c, Contribution(data, gradient, scalars, work.policy.version, zero, zero))
    for name, p in a3c.networks.named_parameters():
        torch.testing.assert_close(p, before[name] - 0.1 * old[name], atol=1e-6, rtol=1e-5)
    assert a3c.updates - int(work.policy.version) == 4, "three updates of others, and this one"


def test_rereading_corrects_the_lag_of_the_data() -> None:
    """The gradient is then taken at θ_k, with ratios π_k/π_{k−d} below 1 where θ_k finds the action less likely."""
    a3c = agent()
    work = a3c.work()
    data = rollout_of(a3c, work.policy)
    shifted(a3c, 0.3)
    work.read()
    _, scalars = work.gradient(data)
    ratio = (a3c.networks.evaluate(data).log_prob - data.log_prob).exp()
    assert scalars["rho"].item() == pytest.approx(ratio.clamp(max=1).mean().item(), rel=1e-4)
    assert scalars["rho"].item() < 0.99 and int(work.policy.version) == 3


def test_the_expectation_of_a_delayed_gradient() -> None:
    """5.5b over all 64 trajectories of M2: E[g of data and weights θ_{k−d}] = ∇J(θ_{k−d}), which is not ∇J(θ_k)."""
    p = problem()
    old = p.logits.clone().requires_grad_()
    returns = p.paths.reward.flip(0).cumsum(0).flip(0)
    value = torch.randn(p.paths.reward.shape, dtype=torch.float64)[:, :1].expand_as(returns)
    policy_loss, _ = actor_critic_loss(p.paths.log_prob(old), value, returns - value, returns)
    expected = -torch.autograd.grad(p.paths.probability(old).detach() @ policy_loss.sum(0), old)[0].flatten()
    torch.testing.assert_close(expected, p.paths.gradient(p.logits), atol=1e-12, rtol=0)
    assert (expected - p.paths.gradient(p.other)).norm() > 0.01


class Ledger:
    """Keeps the weights after every update, and what came."""

    def __init__(self, a3c: A3C, patch: pytest.MonkeyPatch) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}
        self.came: list[Contribution] = []
        update = A3C.update

        def watched(agent: A3C, minibatch: Contribution) -> None:
            self.keep(agent)
            self.came.append(minibatch)
            update(agent, minibatch)

        patch.setattr(A3C, "update", watched)

    def keep(self, a3c: A3C) -> None:
        self.weights[a3c.updates] = {name: value.clone() for name, value in a3c.networks.state_dict().items()}


@pytest.mark.medium
@pytest.mark.parametrize("reread", [False, True])
def test_two_processes_send_what_they_should(reread: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gradient that arrives is recomputed here from its rollout at the weights that it names."""
    a3c = agent(workers=2, reread=reread)
    ledger = Ledger(a3c, monkeypatch)
    learn(a3c, tmp_path, 1)
    assert a3c.updates == 40 == len(ledger.came) and a3c.env_steps == 240
    processes = {int(c.process) for c in ledger.came}
    assert len(processes) == 2 and os.getpid() not in processes
    lags = [updates - int(c.version) for updates, c in zip(ledger.weights, ledger.came, strict=True)]
    assert min(lags) >= 0 and max(lags) >= (0 if reread else 1), "the other was faster at least once"
    assert {"lag", "lag_of_data", "rho"} <= a3c.metrics.latest.keys()
    check = agent()
    work = check.work()
    for contribution in ledger.came:
        version = int(contribution.version)
        assert version >= int(contribution.rollout.version) and (reread or version == int(contribution.rollout.version))
        work.copy.load_state_dict(ledger.weights[version])
        assert_equal(contribution.gradient, work.gradient(contribution.rollout)[0])
    assert multiprocessing.active_children() == []


@pytest.mark.medium
def test_one_worker_is_the_agent_without_processes(tmp_path: Path) -> None:
    """5.5b: it waits until its gradient has been applied, so that nothing lags: the same weights in the end."""
    alone, here = (learn(agent(workers=workers), tmp_path / str(workers), 1) for workers in (1, 0))
    assert alone.updates == here.updates == 20
    for name, p in here.networks.named_parameters():
        torch.testing.assert_close(dict(alone.networks.named_parameters())[name], p, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reread", [False, True])
def test_without_processes_it_is_the_plain_actor_critic(reread: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """Twenty steps in a row, each by the gradient that is worked out by hand at the weights of the moment."""
    a3c = agent(reread=reread)
    ledger = Ledger(a3c, monkeypatch)
    learn(a3c, tmp_path, 1)
    ledger.keep(a3c)
    check = agent()
    for number, contribution in enumerate(ledger.came):
        check.networks.load_state_dict(ledger.weights[number])
        gradient = by_hand(check.networks, contribution.rollout, a3c.gamma, 0.0)
        for name in gradient:
            moved_by = ledger.weights[number + 1][name] - ledger.weights[number][name]
            torch.testing.assert_close(moved_by, -0.1 * gradient[name], atol=2e-6, rtol=1e-3)


def test_without_processes_too_the_gradient_keeps_its_precision_under_autocast(tmp_path: Path) -> None:
    """As in worker processes, which know nothing of the trainer: bf16-mixed leaves the same weights as 32-true."""
    precision_survives_autocast(agent, tmp_path)


def test_refusals() -> None:
    for data, text in (({"workers": -1}, "Asynchronous.workers is -1"), ({"steps": 0}, "Asynchronous.steps is 0")):
        with pytest.raises(ValueError, match=text):
            Asynchronous(**data)
    a3c = agent()
    apart = Env("CartPole-v1", 2, vectorization="async")
    for env, text in ((Env("CartPole-v1", 3), "must be a multiple"), (apart, "may start no processes")):
        with pytest.raises(ValueError, match=text):
            Asynchronous().open(env, a3c.policy, 0.99, 0)
    with pytest.raises(ValueError, match=r"A3C\.lam is 2"):
        agent(lam=2.0)
