"""PPO: the surrogate by hand, its gradient against the plain policy gradient, acting against learning."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl import MLP, PPO, Env, Linear, Recurrent, Rollouts
from lit_rl.algorithms.policy_gradient.minibatches import advantages_and_targets
from lit_rl.algorithms.policy_gradient.ppo import clipped_surrogate_loss
from lit_rl.batch import Rollout
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, learn, moved, parameters
from tests.tiny import ENVS, tiny, trainer


def test_surrogate_by_hand() -> None:
    """c = 0.2. A = 2: ρ = 1.5 counts as 1.2, ρ = 0.5 as it is. A = −1: ρ = 1.5 as it is, ρ = 0.5 counts as 0.8."""
    log_ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.0]).log().requires_grad_()
    loss = clipped_surrogate_loss(log_ratio, torch.tensor([2.0, 2.0, -1.0, -1.0, 3.0]), 0.2)
    torch.testing.assert_close(loss, torch.tensor([-2.4, -1.0, 1.5, 0.8, -3.0]))
    loss.sum().backward()
    # d(−ρA)/d log ρ = −ρA where not clipped, 0 where it is
    torch.testing.assert_close(log_ratio.grad, torch.tensor([0.0, -1.0, 1.5, 0.0, -3.0]))


def agent(env: Any = "CartPole-v1", body: Any = MLP((8,)), **changes: Any) -> PPO:
    torch.manual_seed(0)
    sgd = Optimizer(lr=0.5, name="sgd")
    return detached(PPO(Env.of(env).replace(num_envs=3), net=ActorCritic(body), **{"optimizer": sgd} | changes))


def rollout(ppo: PPO, steps: int = 20) -> Rollout:
    collector = open_collector(ppo.env, ppo.policy, seed=0, rank=0)
    collector.collect(7)
    data = as_tensors(collector.collect(steps))
    collector.close()
    return data


@pytest.mark.parametrize("space", sorted(ENVS))
@pytest.mark.parametrize("body", [MLP((8,)), Recurrent(MLP((8,)), 5)])
def test_ratio_is_one_before_the_first_step(space: str, body: Any) -> None:
    """What acting said, what the batched forward says and what the minibatch says are one number; KL = 0."""
    ppo = agent(ENVS[space], body, minibatch_size=40)
    data = rollout(ppo)
    now = ppo.networks.evaluate(data)
    np.testing.assert_allclose(now.log_prob, data.log_prob, atol=2e-5)
    for minibatch in ppo.minibatches(data):
        loss = ppo.loss(minibatch)
        assert abs(float(ppo._last_kl)) < 1e-6
        # ρ = 1 everywhere: the loss is minus the mean of standardised advantages, 0
        assert loss["policy_loss"].item() == pytest.approx(0, abs=1e-5)
    assert len(data.final_index) or space == "Box"


@pytest.mark.parametrize("body", [MLP((8,)), Recurrent(MLP((8,)), 5)])
def test_rows_keep_together(body: Any) -> None:
    """Shuffled or cut into segments, every row comes once an epoch, with its own advantage and target."""
    ppo = agent(body=body, epochs=2, minibatch_size=20)
    data = rollout(ppo)
    now = ppo.networks.evaluate(data)
    advantage, target = advantages_and_targets(ppo, data, now)
    table = {}
    for t in range(20):
        for n in range(3):
            key = tuple(data.obs[t, n].tolist())
            table[key] = (data.action[t, n], now.log_prob[t, n], advantage[t, n], target[t, n])
    seen = []
    for minibatch in ppo.minibatches(data):
        obs = minibatch.obs if minibatch.start is None else minibatch.obs.flatten(0, 1)
        for b, row in enumerate(obs.tolist()):
            expected = table[tuple(row)]
            got = (minibatch.action[b], minibatch.log_prob[b], minibatch.advantage[b], minibatch.target[b])
            torch.testing.assert_close(got, expected)
            seen.append(tuple(row))
    assert len(seen) == 120 and all(seen.count(key) == 2 for key in table)


def test_advantages_bootstrap_from_the_true_successor() -> None:
    """λ = 0: A = r + γ (1 − terminated) V(s′) − V(s), s′ the final observation where an episode ended."""
    ppo = agent(lam=0.0, gamma=0.9)
    data = rollout(ppo, 60)
    assert len(data.final_index)
    data = data._replace(truncated=data.terminated.clone(), terminated=data.terminated.clone())
    data.terminated[:, 0] = False  # environment 0 is cut by time, the others end
    advantage, target = advantages_and_targets(ppo, data, ppo.networks.evaluate(data))
    final = dict(zip(data.final_index.tolist(), data.final_obs, strict=True))
    with torch.no_grad():
        for t in range(60):
            for n in range(3):
                successor = final.get(t * 3 + n, data.obs[t + 1, n])
                value, following = (ppo.networks.value(obs[None])[0] for obs in (data.obs[t, n], successor))
                y = data.reward[t, n] + 0.9 * (not data.terminated[t, n]) * following
                torch.testing.assert_close(target[t, n], y)
                torch.testing.assert_close(advantage[t, n], y - value, atol=1e-5, rtol=1e-5)


def test_the_first_gradient_is_the_policy_gradient() -> None:
    """8.3a: before the first step ∇L = −mean A ∇ log π + ½·2·½ … of the value, with A standardised."""
    ppo = agent(epochs=1, minibatch_size=1000, entropy_weight=0.3)
    data = rollout(ppo)
    (minibatch,) = ppo.minibatches(data)
    sum(ppo.loss(minibatch).values()).backward()
    got = {name: p.grad.clone() for name, p in ppo.named_parameters()}
    ppo.zero_grad()
    advantage = (minibatch.advantage - minibatch.advantage.mean()) / minibatch.advantage.std(correction=0)
    logits, value = ppo.networks(minibatch.obs)
    law = torch.distributions.Categorical(logits=logits)
    loss = -(advantage * law.log_prob(minibatch.action)).mean() + 0.25 * ((value - minibatch.target) ** 2).mean()
    (loss - 0.3 * law.entropy().mean()).backward()
    for name, p in ppo.named_parameters():
        torch.testing.assert_close(got[name], p.grad, atol=1e-5, rtol=1e-4)


def test_updates_move_policy_and_critic() -> None:
    ppo = agent()
    before = parameters(ppo)
    (minibatch, *_) = ppo.minibatches(rollout(ppo))
    ppo.update(minibatch)
    assert moved(ppo, before) == before.keys()


@pytest.mark.parametrize("target_kl", [None, 1e-5, 1e5])
def test_epochs_stop_at_the_target_divergence(target_kl: float | None) -> None:
    ppo = agent(epochs=5, minibatch_size=30, target_kl=target_kl)
    ppo._trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda value, reduce_op: value))
    for minibatch in ppo.minibatches(rollout(ppo)):
        ppo.update(minibatch)
    assert ppo.updates == (2 if target_kl == 1e-5 else 10), "the first epoch is always whole"


def test_equal_advantages_make_no_noise() -> None:
    ppo = agent(epochs=1)
    (minibatch,) = ppo.minibatches(rollout(ppo))
    one = minibatch._replace(
        **{k: getattr(minibatch, k)[:1] for k in ("obs", "action", "log_prob", "advantage", "target")}
    )
    assert ppo.loss(one)["policy_loss"].item() == 0


def test_the_clip_range_follows_its_schedule() -> None:
    ppo = agent(clip=Linear(0.4, 0.0, 100), epochs=1)
    ppo.policy.env_steps += 50
    next(iter(ppo.minibatches(rollout(ppo))))
    assert ppo._clip_now == pytest.approx(0.2)


@pytest.mark.medium
@pytest.mark.parametrize("env", ["Identity", "MultiDiscreteIdentity", "MultiBinaryIdentity", "MaskedIdentity"])
def test_identity_is_learnt(env: str, tmp_path: Path) -> None:
    ppo = PPO(
        Env(f"lit_rl.envs.toy:lit_rl/{env}-v0", num_envs=8),
        Rollouts(32, steps_per_epoch=2560),
        ActorCritic(MLP((32,))),
        Optimizer(0.02),
        minibatch_size=64,
    )
    learn(ppo, tmp_path, 1)
    assert ppo.val_dataloader().play().returns.mean() > 0.95


@pytest.mark.medium
def test_truncation_bootstraps(tmp_path: Path) -> None:
    """Reward 1 for ever behind a time limit: V = 1/(1 − 0.9) = 10, not the 6.5 of 10 steps."""
    data = Rollouts(16, steps_per_epoch=2500)
    env = Env("lit_rl.envs.toy:lit_rl/Constant-v0", num_envs=4)
    ppo = PPO(env, data, ActorCritic(MLP(())), Optimizer(0.05), gamma=0.9, minibatch_size=64)
    learn(ppo, tmp_path, 1)
    assert ppo.networks.value(torch.tensor([0])).item() == pytest.approx(10, abs=0.5)
    assert math.isfinite(ppo.metrics.latest["value_loss"])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_memory_learns_in_double_precision(cell, tmp_path):
    """The memory of acting is in float32, the cell is not."""
    ppo = tiny("PPO", net=ActorCritic(Recurrent(MLP((8,)), 8, cell)))
    trainer(tmp_path, precision="64-true").fit(ppo)
    assert ppo.updates > 0 and ppo.policy.body.cell.weight_hh.dtype == torch.float64
