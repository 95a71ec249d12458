"""Runs from states of a rollout: they begin there, they are independent, and their mean is the value of the policy."""

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl import BatchActorCritic, Critic
from lit_rl.data.simulator import SimulatedRollouts
from lit_rl.envs.finite_mdp import FiniteMDPEnv, random_mdp
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import EnvError
from lit_rl.policies.uniform import UniformPolicy
from tests.algorithms.stand_in import detached, learn
from tests.tiny import differences

MDP = random_mdp(np.random.default_rng(0), 3, 2)
if "Random3-v9" not in gymnasium.registry:
    gymnasium.register("Random3-v9", lambda: FiniteMDPEnv(MDP), max_episode_steps=40)


def opened(recipe: SimulatedRollouts, env: str = "Random3-v9", vectorization: str = "sync", gamma: float = 0.8):
    made = Env(env, num_envs=2, vectorization=vectorization).with_spaces()  # type: ignore[arg-type]
    return recipe.open(made, UniformPolicy(made.action_space), gamma, 3)


def test_the_mean_over_runs_is_the_value_of_the_policy() -> None:
    """5.1a against (I − γ P)⁻¹ r, in states that the rollout came through; the world's dice are thrown anew."""
    experience = opened(SimulatedRollouts(steps=30, starts=30, runs=40, horizon=30))
    value = torch.from_numpy(MDP.policy_value(np.full((3, 2), 0.5), 0.8))
    sums, count = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    squares = torch.zeros(3, dtype=torch.float64)
    for _ in range(2):
        data, env_steps = experience.next_round()
        assert env_steps == 2 * 30 + 30 * 40 * 30
        assert (data.reward.std(1) > 0).all(), "runs from one state differ"
        beyond = data.discount.double() * value[data.last_obs].view_as(data.discount)
        for state in range(3):
            y = (data.reward.double() + beyond)[data.obs == state].flatten()
            sums[state] += y.sum()
            squares[state] += y.square().sum()
            count[state] += len(y)
    mean = sums / count
    error = ((squares / count - mean.square()) / count).sqrt()
    assert ((mean - value).abs() < 5 * error).all(), (mean, value, error)
    experience.close()


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_runs_begin_where_the_rollout_was(env: str) -> None:
    experience = opened(SimulatedRollouts(steps=30, starts=20, runs=2, horizon=3), env)
    for _ in range(3):
        data = experience.next_round().data
        flat = data.rollout.obs[:-1].flatten(0, 1)
        actions = data.rollout.action.flatten(0, 1)
        for obs, action in zip(data.obs, data.action, strict=True):
            (place,) = (flat == obs).all(-1).nonzero()[:, 0].tolist() or [None]
            assert place is not None and torch.equal(actions[place], action)
        cut = data.discount > 0
        assert torch.allclose(data.discount[cut], torch.tensor(0.8**3), atol=1e-6) or env == "CartPole-v1"
    experience.close()


def test_goes_on_where_the_snapshot_was_taken() -> None:
    recipe = SimulatedRollouts(steps=9, starts=4, runs=2, horizon=5)
    experience = opened(recipe)
    experience.next_round()
    state = experience.snapshot()
    following = [experience.next_round() for _ in range(3)]
    other = opened(recipe)
    other.restore(state)
    for expected in following:
        assert differences(tuple(expected.data.rollout), tuple(other.next_round().data.rollout)) == []
    experience.close(), other.close()


def test_environments_without_a_way_back_are_refused() -> None:
    experience = opened(SimulatedRollouts(), "CartPole-v1", "native")
    with pytest.raises(EnvError, match="brought back"):
        experience.next_round()
    experience.close()
    with pytest.raises(ValueError, match="runs"):
        SimulatedRollouts(runs=0)


def test_targets_are_means_over_runs_with_the_critic_beyond() -> None:
    torch.manual_seed(0)
    made = detached(BatchActorCritic("Random3-v9", SimulatedRollouts(8, 3, 2, 4), critic=Critic(updates=1), gamma=0.9))
    experience = made.data.open(made.env, made.policy, 0.9, 0)
    data = experience.next_round().data
    fit, improve = made.minibatches(data)
    assert torch.equal(fit.obs, data.obs) and len(improve.advantage) == 8
    for s in range(3):
        y = 0.0
        for r in range(2):
            last = made.networks.value(data.last_obs[2 * s + r][None])[0]
            y += float(data.reward[s, r] + data.discount[s, r] * last) / 2
        assert fit.target[s].item() == pytest.approx(y, abs=1e-5)
    experience.close()


@pytest.mark.medium
def test_learns_with_them(tmp_path) -> None:
    env = Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=8, kwargs={"horizon": 3})
    data = SimulatedRollouts(steps=16, starts=16, runs=2, horizon=3, steps_per_epoch=16_000)
    made = learn(BatchActorCritic(env, data), tmp_path, 1)
    assert made.val_dataloader().play().returns.mean() > 2.7
