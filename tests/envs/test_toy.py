import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lit_rl.envs import toy

ANSWERS = {
    "Identity": int,
    "MaskedIdentity": int,
    "IdentityBox": lambda obs: obs,
    "MultiBinaryIdentity": lambda obs: obs,
    "MultiDiscreteIdentity": lambda obs: np.array([obs[:2].argmax(), obs[2:].argmax()]),
    "ImageIdentity": lambda obs: int(obs[..., 6:].mean() > obs[..., :6].mean()),
    "DictIdentity": lambda obs: 2 * int(obs["image"][..., 4:].mean() > 128) + int(obs["vector"].argmax()),
}


@pytest.mark.parametrize(
    "env", [env for env in toy.ENVS if env is not toy.MaskedIdentity], ids=lambda env: env.__name__
)
def test_gymnasium_finds_nothing_wrong(env):
    check_env(gymnasium.make(f"lit_rl/{env.__name__}-v0").unwrapped, skip_render_check=True)


def test_recipes_can_name_the_module_and_registering_twice_is_harmless():
    toy.register()
    assert isinstance(gymnasium.make("lit_rl.envs.toy:lit_rl/Identity-v0", n=7).unwrapped, toy.Identity)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_known_answer_earns_the_best_return(name):
    env = gymnasium.make(f"lit_rl/{name}-v0", horizon=3)
    for episode in range(10):
        obs, _ = env.reset(seed=episode)
        total, ended, steps = 0.0, False, 0
        while not ended:
            obs, reward, ended, truncated, _ = env.step(ANSWERS[name](obs))
            assert not truncated
            total, steps = total + reward, steps + 1
        assert steps == 3 and total == (0.0 if name == "IdentityBox" else 3.0)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_vary_and_wrong_ones_pay_less(name):
    env = gymnasium.make(f"lit_rl/{name}-v0", horizon=200)
    obs, info = env.reset(seed=0)
    first, total = ANSWERS[name](obs), 0.0
    for _ in range(200):  # one answer for ever
        action = first
        if name == "MaskedIdentity" and not info["action_mask"][first]:
            action = int(info["action_mask"].argmax())
        obs, reward, _, _, info = env.step(action)
        total += reward
    assert total < 150


def test_the_same_seed_gives_the_same_episode():
    for env in (gymnasium.make("lit_rl/DictIdentity-v0") for _ in range(2)):
        image = env.reset(seed=3)[0]["image"]
        assert np.array_equal(image, gymnasium.make("lit_rl/DictIdentity-v0").reset(seed=3)[0]["image"])


def test_illegal_actions_raise_and_are_never_the_answer():
    env = toy.MaskedIdentity(n=4, horizon=100)
    obs, info = env.reset(seed=0)
    for _ in range(99):
        assert env.observation_space.contains(obs) and info["action_mask"].sum() == 3 and info["action_mask"][obs] == 1
        with pytest.raises(ValueError, match="illegal"):
            env.step(int(np.flatnonzero(info["action_mask"] == 0)[0]))
        obs, _, _, _, info = env.step(obs)


def test_constant_is_cut_and_never_ends():
    env = toy.Constant(horizon=3)
    env.reset(seed=0)
    assert [env.step(0) for _ in range(3)] == [(0, 1.0, False, False, {})] * 2 + [(0, 1.0, False, True, {})]


def test_bandit_pays_its_means():
    env = toy.Bandit((0.0, 0.3, 1.0))
    env.reset(seed=0)
    means = [np.mean([env.step(arm)[1] for _ in range(2000)]) for arm in range(3)]
    assert means[0] == 0 and means[2] == 1 and means[1] == pytest.approx(0.3, abs=5 * (0.21 / 2000) ** 0.5)


def test_the_t_maze_needs_memory():
    env = toy.TMaze(corridor=4)
    junctions, returns = set(), []
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        sign = obs[0]
        for _ in range(4):
            obs, reward, terminated, _, _ = env.step(0)
            assert reward == 0 and not terminated
        junctions.add(tuple(obs))
        _, reward, terminated, _, _ = env.step(int(sign > 0))
        returns.append(reward)
        assert terminated
    assert junctions == {(0.0, 1.0)}  # the sign cannot be seen where it matters
    assert returns == [1.0] * 20
    with pytest.raises(ValueError, match="corridor is 0"):
        toy.TMaze(corridor=0)
