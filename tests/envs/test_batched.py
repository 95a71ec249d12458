"""Environments that step in batches by themselves: the same convention, checked against the single environment."""

import io
import warnings

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl.envs.recipe import Env
from tests.envs.scripted import register

register()


def test_native_cartpole_follows_the_single_environment_and_never_shows_a_reset_row() -> None:
    env = Env("CartPole-v1", vectorization="native", kwargs={"max_episode_steps": 30}).open(6, seed=5)
    single = gymnasium.make("CartPole-v1", disable_env_checker=True).unwrapped
    obs, rng = env.reset(), np.random.default_rng(0)
    length, ends, cut = np.zeros(6, int), 0, 0
    for step_number in range(200):
        # env 0 is steered, and so lives until its time limit; the others fall
        action = rng.integers(0, 2, 6)
        action[0] = int(obs[0, 2] + obs[0, 3] > 0)
        before = env.env.state.T.copy()
        step = env.step(action)
        done = step.terminated | step.truncated
        true_next = step.obs.copy()
        if done.any():
            true_next[done] = step.final_obs
        length += 1
        for index in range(6):
            single.reset()
            single.state = before[index]
            expected, _, terminated, _, _ = single.step(int(action[index]))
            np.testing.assert_allclose(true_next[index], expected, rtol=1e-5, atol=1e-6)
            assert terminated == step.terminated[index], step_number
        assert (step.reward == 1).all()
        assert (step.truncated == (length >= 30)).all()
        assert (np.abs(step.obs[done]) <= 0.05).all()  # an episode's first observation
        ends, cut = ends + int(done.sum()), cut + int(step.truncated.sum())
        length[done] = 0
        obs = step.obs
    assert ends > 20
    assert cut > 3


def test_native_snapshot_is_exact() -> None:
    recipe = Env("CartPole-v1", vectorization="native")
    env, other = recipe.open(4, seed=1), recipe.open(4, seed=99)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 2, (120, 4))
    for action in actions[:50]:
        obs = env.step(action).obs
    file = io.BytesIO()
    torch.save(env.snapshot(), file)
    file.seek(0)
    assert np.array_equal(other.restore(torch.load(file, weights_only=True)), obs)
    for action in actions[50:]:
        for left, right in zip(env.step(action), other.step(action), strict=True):
            assert left is right is None or np.array_equal(left, right)
    env.close()
    env.close()


def test_native_refuses_what_it_cannot_resume() -> None:
    with pytest.raises(ValueError, match="Pendulum-v1 has no batched form"):
        Env("Pendulum-v1", vectorization="native").open(2)
    if "Unreadable-v0" not in gymnasium.registry:
        gymnasium.register(
            "Unreadable-v0",
            "gymnasium.envs.classic_control:CartPoleEnv",
            vector_entry_point=lambda num_envs: gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="sync"),
        )
    with pytest.raises(ValueError, match="does not keep its state in state, steps, prev_done"):
        Env("Unreadable-v0", vectorization="native").open(2)


def test_envpool_in_the_same_step_convention() -> None:
    pytest.importorskip("envpool")
    recipe = Env(
        "CartPole-v1", vectorization="envpool", kwargs={"num_threads": 1, "max_episode_steps": 15}
    ).with_spaces()
    env, again = recipe.open(4, seed=3), recipe.open(4, seed=3)
    assert np.array_equal(env.reset(), again.reset())
    rng, length, ends = np.random.default_rng(0), np.zeros(4, int), 0
    for _ in range(100):
        action = rng.integers(0, 2, 4)
        step, same = env.step(action), again.step(action)
        assert np.array_equal(step.obs, same.obs)
        done = step.terminated | step.truncated
        length += 1
        assert (step.reward == 1).all()  # a reset row would have none
        assert (length[step.truncated] == 15).all()
        assert (np.abs(step.obs[done]) <= 0.05).all()
        if done.any():
            assert (np.abs(step.final_obs) > 0.05).any(axis=1).all()
            fell = (np.abs(step.final_obs[:, 0]) > 2.4) | (np.abs(step.final_obs[:, 2]) > 0.209)
            assert (fell == step.terminated[done]).all()
        ends += int(done.sum())
        length[done] = 0
    assert ends > 20
    with pytest.warns(UserWarning, match="cannot save its state"):
        again.restore(env.snapshot())
    env.close()
    again.close()
    with pytest.raises(ValueError, match="envpool has no environment called 'Nothing-v0'"):
        Env("Nothing-v0", vectorization="envpool").open(1)


@pytest.mark.parametrize("kind", ["native", "envpool"])
def test_batched_environments_are_quiet(kind: str) -> None:
    if kind == "envpool":
        pytest.importorskip("envpool")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = Env("CartPole-v1", vectorization=kind).open(2)
        env.reset()
        env.step(np.array([0, 1]))
        env.close()
