"""KL-PPO: the Lagrangian by hand, and multipliers that end at the constrained optimum."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import KLPPO, MLP, Env, KLConstraint, Recurrent, Rollouts
from lit_rl.algorithms.policy_gradient.kl_ppo import penalized_surrogate_loss
from lit_rl.algorithms.policy_gradient.minibatches import Minibatch, standardized
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, learn, moved, parameters
from tests.tiny import ENVS


def test_the_loss_by_hand() -> None:
    """β = 2: ρ = 1.5, A = 2, KL = 0.1 → −3 + 0.2; ρ = 0.5, A = −1, KL = 0 → 0.5."""
    log_ratio = torch.tensor([1.5, 0.5]).log()
    loss = penalized_surrogate_loss(log_ratio, torch.tensor([2.0, -1.0]), torch.tensor([0.1, 0.0]), torch.tensor(2.0))
    torch.testing.assert_close(loss, torch.tensor([-2.8, 0.5]))


def test_multipliers_follow_their_rules() -> None:
    dual = KLConstraint(target=0.1, rule="dual", rate=10.0, limit=3.0)
    assert dual.next_multiplier(1.0, 0.15) == pytest.approx(1.5)
    assert dual.next_multiplier(0.5, 0.01) == 0.0 and dual.next_multiplier(2.0, 1.0) == 3.0
    adaptive = KLConstraint(target=0.1, rule="adaptive")
    assert [adaptive.next_multiplier(1.0, kl) for kl in (0.16, 0.14, 0.07, 0.06)] == [2.0, 1.0, 1.0, 0.5]
    assert adaptive.next_multiplier(1e-9, 0.0) == 1e-4


@pytest.mark.parametrize("rate", [3.0, 30.0])
def test_dual_descent_reaches_the_constraint(rate: float) -> None:
    """8.1.1a: one state, where π' ∝ π exp(A/β) solves the inner problem for KL(π'‖π): KL = δ to 1e-12."""
    constraint, multiplier = KLConstraint(target=0.05, rate=rate), 1.0
    old = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    advantage = torch.tensor([1.0, -0.5, -0.1], dtype=torch.float64)
    for _ in range(2000):
        new = (old.log() + advantage / multiplier).softmax(-1)
        kl = (new * (new.log() - old.log())).sum().item()
        multiplier = constraint.next_multiplier(multiplier, kl)
    assert kl == pytest.approx(0.05, abs=1e-12)


def test_the_agent_s_own_steps_reach_the_constrained_optimum(unchecked: None) -> None:
    """The same by gradient steps of the agent: KL = δ and π' ∝ π exp(A/β), from a uniform policy on three actions."""
    torch.manual_seed(0)
    constraint = KLConstraint(target=0.05, rate=1.0, of="new")
    bandit = Env("lit_rl.envs.toy:lit_rl/Bandit-v0", 1)
    agent = detached(KLPPO(bandit, net=ActorCritic(MLP(())), optimizer=Optimizer(0.01), constraint=constraint))
    with torch.no_grad():
        agent.policy.head.weight.zero_()
    obs, action, advantage = torch.zeros(3, dtype=torch.int64), torch.arange(3), torch.tensor([1.0, -0.5, -0.1])
    old = agent.policy.distribution(agent.policy.outputs(obs)).detach()
    batch = Minibatch(obs, action, torch.full((3,), -math.log(3)), advantage, torch.zeros(3), old)
    for _ in range(600):
        for _ in range(3):
            agent.update(batch)
        new = agent.policy.outputs(obs).detach()
        kl = agent.policy.kl(new, old, obs).mean().item()
        agent.multiplier.fill_(constraint.next_multiplier(float(agent.multiplier), kl))
    assert kl == pytest.approx(0.05, rel=0.02)
    best = (standardized(advantage) / agent.multiplier).softmax(-1)
    torch.testing.assert_close(new[0].softmax(-1), best, atol=0.01, rtol=0.01)


def agent(env: Any = "CartPole-v1", body: Any = MLP((8,)), **changes: Any) -> KLPPO:
    torch.manual_seed(0)
    net = ActorCritic(body)
    return detached(KLPPO(Env.of(env).replace(num_envs=3), **{"net": net, "optimizer": Optimizer(0.02)} | changes))


def rollout(kl_ppo: KLPPO) -> Any:
    collector = open_collector(kl_ppo.env, kl_ppo.policy, seed=0, rank=0)
    data = as_tensors(collector.collect(20))
    collector.close()
    return data


@pytest.mark.parametrize("space", sorted(ENVS))
@pytest.mark.parametrize("body", [MLP((8,)), Recurrent(MLP((8,)), 5)])
@pytest.mark.parametrize("of", ["old", "new"])
def test_before_the_first_step_nothing_has_diverged(space: str, body: Any, of: Any) -> None:
    """ρ = 1 and KL = 0, so that the policy's loss is minus the mean of standardised advantages; then both grow."""
    kl_ppo = agent(ENVS[space], body, constraint=KLConstraint(of=of), epochs=2, minibatch_size=40)
    data = rollout(kl_ppo)
    old = kl_ppo.policy.distribution(kl_ppo.networks.evaluate(data).outputs)
    assert kl_ppo.divergence(data, old) == pytest.approx(0, abs=1e-6)
    before, count = parameters(kl_ppo), 0
    for minibatch in kl_ppo.minibatches(data):
        if count == 0:
            assert kl_ppo.loss(minibatch)["policy_loss"].item() == pytest.approx(0, abs=1e-5)
        kl_ppo.update(minibatch)
        count += 1
    still = before.keys() - moved(kl_ppo, before)
    assert count == kl_ppo.updates
    assert all(name.endswith("weight_hh") for name in still), "episodes of one step remember nothing"
    assert kl_ppo.divergence(data, old) > 1e-5


@pytest.mark.parametrize(("rule", "changes"), [("dual", 3), ("adaptive", 1)])
def test_the_multiplier_moves_once_an_epoch_or_once_a_rollout(rule: Any, changes: int) -> None:
    kl_ppo = agent(constraint=KLConstraint(1e3, rule, rate=1e-4), epochs=3, minibatch_size=60)
    seen = [float(kl_ppo.multiplier)]
    for minibatch in kl_ppo.minibatches(rollout(kl_ppo)):
        seen.append(float(kl_ppo.multiplier))
        kl_ppo.update(minibatch)
    seen.append(float(kl_ppo.multiplier))
    assert sum(one != two for one, two in itertools.pairwise(seen)) == changes


def test_epochs_end_early_far_beyond_the_target() -> None:
    kl_ppo = agent(constraint=KLConstraint(1e-7), epochs=9, minibatch_size=60)
    for minibatch in kl_ppo.minibatches(rollout(kl_ppo)):
        kl_ppo.update(minibatch)
    assert kl_ppo.updates == 1


@pytest.mark.parametrize("wrong", [{"target": 0.0}, {"start": -1.0}, {"rate": 0.0}])
def test_wrong_constraints_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="KLConstraint needs"):
        KLConstraint(**wrong)


@pytest.mark.medium
@pytest.mark.parametrize("rule", ["dual", "adaptive"])
def test_identity_is_learnt(rule: Any, tmp_path: Path) -> None:
    kl_ppo = KLPPO(
        Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=8),
        Rollouts(32, steps_per_epoch=5120),
        ActorCritic(MLP((32,))),
        Optimizer(0.02),
        minibatch_size=64,
        constraint=KLConstraint(0.05, rule),
    )
    learn(kl_ppo, tmp_path, 1)
    assert kl_ppo.val_dataloader().play().returns.mean() > 0.95
