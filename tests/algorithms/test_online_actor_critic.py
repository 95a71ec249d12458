"""Online actor-critic: traces of frozen networks add up to λ-return advantages; they end with their episode."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import MLP, Env, OnlineActorCritic, Recurrent, Rollouts
from lit_rl.algorithms.actor_critic.online_actor_critic import td_error
from lit_rl.batch import Rollout, select
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.functional.policy_gradient import per_episode_gradients
from lit_rl.functional.returns import generalized_advantage
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, learn

ENVS, STEPS = 2, 60


def agent(shared: bool = False, **changes: Any) -> OnlineActorCritic:
    torch.manual_seed(0)
    sgd = Optimizer(lr=0.1, name="sgd")
    net = ActorCritic(MLP((8,)), shared)
    return detached(  # type: ignore[return-value]
        OnlineActorCritic(Env("CartPole-v1", num_envs=ENVS), net=net, **{"optimizer": sgd} | changes)
    )


def steps_of(made: OnlineActorCritic) -> tuple[Rollout, list[Rollout]]:
    """A rollout, and the same as rollouts of one step."""
    collector = open_collector(made.env, made.policy, seed=0, rank=0)
    data = as_tensors(collector.collect(STEPS))
    collector.close()
    pieces = []
    for t in range(STEPS):
        here = data.final_index // ENVS == t
        piece = {name: getattr(data, name)[t : t + 1] for name in Rollout._fields[1:7]}
        ends = {"final_obs": data.final_obs[here], "final_index": data.final_index[here] % ENVS}
        pieces.append(Rollout(data.obs[t : t + 2], **piece, **ends, state=data.state, version=data.version))
    return data, pieces


def test_td_error_by_hand() -> None:
    reward, discount = torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.0])
    delta = td_error(reward, discount, torch.tensor([2.0, 2.0]), torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(delta, torch.tensor([1.7, -1.0]))


@pytest.mark.parametrize(("lam", "discounted", "shared"), [(0.0, False, False), (0.8, True, False), (0.8, False, True)])
def test_frozen_traces_add_up_to_forward_advantages(lam: float, discounted: bool, shared: bool) -> None:
    """5.6.1b over several episodes: Σ_t δ_t e_t = Σ_t [γᵏ] ∇ log π GAE_t, and Σ_t ∇ V GAE_t for the critic."""
    made = agent(shared, lam=lam, discounted=discounted, gamma=0.9)
    data, pieces = steps_of(made)
    assert len(data.final_index) > 2
    policy, critic = torch.zeros(made.policy_trace.shape[1]), torch.zeros(made.critic_trace.shape[1])
    for piece in pieces:
        (direction,) = made.minibatches(piece)
        policy, critic = policy + direction.policy, critic + direction.critic
    now = made.networks.evaluate(data)
    discount = 0.9 * (~data.terminated).float()
    advantage = generalized_advantage(data.reward, now.value, now.next_value, discount, data.done, lam=lam)
    obs = data.obs[:-1].flatten(0, 1)
    outputs, value = made.networks(obs)
    log_prob = made.policy.log_prob(outputs, obs, data.action.flatten(0, 1))
    scale = 0.9**data.episode_step if discounted else torch.ones_like(advantage)
    forward = (advantage * scale).flatten() @ per_episode_gradients(log_prob, made.of_policy) / ENVS
    torch.testing.assert_close(policy, forward, atol=1e-4, rtol=1e-3)
    forward = advantage.flatten() @ per_episode_gradients(value, made.of_critic) / ENVS
    torch.testing.assert_close(critic, forward, atol=1e-4, rtol=1e-3)


def test_one_step_with_plain_ascent_by_hand() -> None:
    """λ = 0, SGD: θ ← θ + α δ ∇ log π, φ ← φ + 2 α δ ∇ V, in the mean over environments."""
    made = agent(lam=0.0, critic_lr_scale=2.0)
    _, (piece, *_) = steps_of(made)
    obs = select(piece.obs, 0)
    outputs, value = made.networks(obs)
    log_prob = made.policy.log_prob(outputs, obs, piece.action[0])
    next_value = made.networks.value(piece.obs[1]).detach()
    delta = piece.reward[0] + made.gamma * next_value - value.detach()
    change = {}
    for name, terms, rate in (("policy", log_prob, 0.1), ("critic", value, 0.2)):
        parameters = made.of_policy if name == "policy" else made.of_critic
        before = torch.cat([p.detach().flatten() for p in parameters])
        change[name] = before + rate * delta @ per_episode_gradients(terms, parameters) / ENVS
    (direction,) = made.minibatches(piece)
    with torch.no_grad():
        for group in made.optimizers().param_groups:  # what a run does before every round
            group["lr"] = 0.1 * group.get("lr_scale", 1.0)
    made.update(direction)
    for name, parameters in (("policy", made.of_policy), ("critic", made.of_critic)):
        torch.testing.assert_close(torch.cat([p.detach().flatten() for p in parameters]), change[name])


def test_refusals() -> None:
    for arguments, words in (
        ({"data": Rollouts(steps=2)}, "every step"),
        ({"data": Rollouts(steps=1, workers=1)}, "lag"),
        ({"net": ActorCritic(Recurrent())}, "memory"),
        ({"lam": 1.5}, "lam"),
    ):
        with pytest.raises(ValueError, match=words):
            OnlineActorCritic("CartPole-v1", **arguments)


@pytest.mark.medium
@pytest.mark.parametrize("lam", [0.0, 0.8])
def test_learns_a_short_task(lam: float, tmp_path: Path) -> None:
    env = Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=8, kwargs={"horizon": 3})
    data = Rollouts(1, steps_per_epoch=8_000, rollouts_per_batch=100)
    made = learn(OnlineActorCritic(env, data, optimizer=Optimizer(lr=3e-3), lam=lam), tmp_path, 1)
    assert made.val_dataloader().play().returns.mean() > 2.7
