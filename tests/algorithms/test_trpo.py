"""TRPO: steps that are accepted gain within the limit, and the true return of a finite MDP does not fall."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl import MLP, TRPO, CriticFit, Env, Recurrent, Rollouts
from lit_rl.algorithms.policy_gradient.trpo import SHRINK, line_search
from lit_rl.algorithms.policy_gradient.trust_region import PolicyBatch, PolicyStep, ValueBatch, value_loss
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.functional.natural_gradient import flatten
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms import finite_world
from tests.algorithms.stand_in import detached, learn, moved, parameters


def test_the_loss_of_the_critic_by_hand() -> None:
    """½ (3 − 1)² = 2, ½ (−1)² = ½."""
    loss = value_loss(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert loss.tolist() == [2.0, 0.5]


@pytest.mark.parametrize("seed", range(8))
def test_the_return_of_a_finite_mdp_never_falls(seed: int) -> None:
    """8.2c on exact advantages and occupancies, from a uniform policy to one that has left an action."""
    world, limit = finite_world.mdp(seed), 0.02
    torch.manual_seed(seed)
    agent = detached(TRPO(finite_world.ENV, net=finite_world.TABLE, max_kl=limit))
    taken: list[dict[str, Any]] = []
    agent.record = lambda **values: taken.append(values)  # type: ignore[method-assign]
    history = [finite_world.performance(world, finite_world.table(agent.policy))]
    while (rows := finite_world.visited(world, before := finite_world.table(agent.policy))) is not None:
        agent.update(PolicyBatch(*rows))
        after = finite_world.table(agent.policy)
        history.append(finite_world.performance(world, after))
        step = {name: float(value) for values in taken for name, value in values.items()}
        taken.clear()
        if step["policy_step"]:
            assert step["surrogate_gain"] > 0 and 0 < step["kl"] <= limit
        else:
            np.testing.assert_array_equal(before, after)
    assert agent.updates == len(history) - 1 >= 8
    falls = np.diff(history).min()
    assert falls > -1e-4, "but for the rounding of visits to whole rows"
    optimum = world.initial @ world.optimal_q(finite_world.GAMMA).max(-1)
    assert history[-1] > optimum - 0.3 * (optimum - history[0])


def test_the_line_search_shortens_until_it_may_stay() -> None:
    world = finite_world.mdp(0)
    agent = TRPO(finite_world.ENV, net=finite_world.TABLE)
    rows = finite_world.visited(world, finite_world.table(agent.policy), 500)
    assert rows is not None
    step = PolicyStep(agent.policy, PolicyBatch(*rows))
    full = 30 * step.gradient / step.gradient.norm()
    tried = []
    for j in range(30):
        gain, kl = step.try_step(SHRINK**j * full)
        tried.append(gain > 0 and kl <= 0.01)
    first = tried.index(True)
    assert 0 < first < 29
    gain, kl, j = line_search(step, full, 0.01, backtracks=30)
    assert j == first and gain > 0 and kl <= 0.01
    torch.testing.assert_close(flatten([p.detach() for p in step.parameters]), step.start + SHRINK**j * full)
    assert line_search(step, full, 0.01, backtracks=first) == (0.0, 0.0, first)
    torch.testing.assert_close(flatten([p.detach() for p in step.parameters]), step.start, atol=0, rtol=0)
    assert line_search(step, -full, 1e9, backtracks=10)[2] == 10, "a loss is never accepted"


def agent(env: Any = "CartPole-v1", **changes: Any) -> TRPO:
    torch.manual_seed(0)
    net = ActorCritic(MLP((8,)))
    return detached(TRPO(Env.of(env).replace(num_envs=3), **{"net": net, "optimizer": Optimizer(0.01)} | changes))


def batches(trpo: TRPO) -> list[Any]:
    collector = open_collector(trpo.env, trpo.policy, seed=0, rank=0)
    data = as_tensors(collector.collect(20))
    collector.close()
    return list(trpo.minibatches(data))


def test_a_rollout_is_one_step_of_the_policy_and_some_of_the_critic() -> None:
    trpo = agent(critic=CriticFit(epochs=3, minibatch_size=16))
    first, *rest = batches(trpo)
    assert isinstance(first, PolicyBatch) and len(first.advantage) == 60
    assert all(isinstance(one, ValueBatch) for one in rest) and len(rest) == 3 * 4
    targets = torch.cat([one.target for one in rest]).view(3, 60).sort(-1).values
    torch.testing.assert_close(targets[0], targets[1])


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_each_part_moves_its_own_parameters(env: str) -> None:
    trpo = agent(env)
    first, second, *_ = batches(trpo)
    before = parameters(trpo)
    trpo.update(first)
    of_policy = {name for name, p in trpo.named_parameters() if any(p is q for q in trpo.policy.parameters())}
    assert moved(trpo, before) == of_policy
    before = parameters(trpo)
    trpo.update(second)
    assert moved(trpo, before) == before.keys() - of_policy
    assert trpo.updates == 2


def test_equal_advantages_leave_the_policy_where_it_is() -> None:
    trpo = agent()
    first, *_ = batches(trpo)
    before = parameters(trpo)
    trpo.update(first._replace(advantage=torch.ones(60)))
    assert moved(trpo, before) == set()


def test_the_policy_shares_nothing_with_the_critic() -> None:
    for net in (ActorCritic(shared=True), ActorCritic(Recurrent(MLP((8,)), 5))):
        with pytest.raises(ValueError, match="TRPO moves the policy and the critic by different rules"):
            TRPO("CartPole-v1", net=net)


@pytest.mark.medium
@pytest.mark.parametrize("env", ["Identity", "MultiDiscreteIdentity", "MultiBinaryIdentity", "MaskedIdentity"])
def test_identity_is_learnt(env: str, tmp_path: Path) -> None:
    trpo = TRPO(
        Env(f"lit_rl.envs.toy:lit_rl/{env}-v0", num_envs=8),
        Rollouts(32, steps_per_epoch=5120),
        ActorCritic(MLP((16,))),
        Optimizer(0.01),
        max_kl=0.1,
        critic=CriticFit(2),
    )
    learn(trpo, tmp_path, 1)
    assert trpo.val_dataloader().play().returns.mean() > 0.95
