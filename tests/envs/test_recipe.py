"""Recipes and spaces: plain data there and back, and one line for every mistake."""

import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from lit_rl.envs import allow
from lit_rl.envs.recipe import Env, Wrapper
from lit_rl.envs.spaces import space_from_plain, space_to_plain

SPACES = (
    spaces.Box(-1, 1, (3,)),
    spaces.Box(-np.inf, np.inf, (3,), np.float64),
    spaces.Box(np.array([-np.inf, 0.1], np.float32), np.array([np.inf, 0.7], np.float32)),
    spaces.Box(0, 255, (3, 8, 8), np.uint8),
    spaces.Box(0, 1, (10, 10, 4), bool),
    spaces.Box(-(2**40), 2**40, (2,), np.int64),
    spaces.Box(-2.0, 2.0, ()),
    spaces.Discrete(4),
    spaces.Discrete(4, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(5),
    spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Discrete(3)),
)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_round_trip(space: spaces.Space) -> None:
    plain = space_to_plain(space)
    back = space_from_plain(json.loads(json.dumps(plain)))
    assert back == space
    assert back.dtype == space.dtype
    assert space_to_plain(back) == plain


@pytest.mark.parametrize(
    "space",
    [
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Text(5),
        spaces.Dict(a=spaces.Dict(b=spaces.Discrete(2))),
        spaces.Box(0, 1, (0,)),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
    ],
    ids=str,
)
def test_other_spaces_are_refused_in_one_line(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match=r"use the wrapper Flatten|drop it") as caught:
        space_to_plain(space)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"id": ""}, "env.id"),
        ({"id": "CartPole-v1", "num_envs": 0}, "num_envs must be a whole number of at least 1, not 0"),
        ({"id": "CartPole-v1", "num_envs": 1.5}, "num_envs"),
        ({"id": "CartPole-v1", "step_timeout": 0.0}, "step_timeout must be more than 0"),
        ({"id": "CartPole-v1", "step_timeout": float("nan")}, "step_timeout"),
        ({"id": "CartPole-v1", "vectorization": "threads"}, "one of sync, async"),
        ({"id": "CartPole-v1", "on_error": "ignore"}, "one of raise, restart"),
        ({"id": "CartPole-v1", "wrappers": ["FlatenObservation"]}, "did you mean FlattenObservation"),
        ({"id": "CartPole-v1", "wrappers": ["np"]}, "no wrapper is called 'np'"),
        ({"id": "CartPole-v1", "wrappers": "ChannelFirst"}, "must be a list"),
        ({"id": "CartPole-v1", "wrappers": ["ChannelFirst"], "vectorization": "native"}, "do not apply"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_recipes_are_refused_when_built(arguments: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Env(**arguments)


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Env("CartPole-v7"), r"no environment is called 'CartPole-v7'; did you mean .*CartPole-v1"),
        (Env("os:CartPole-v1"), r"'os' is not on the list of packages"),
        (Env("CartPole-v1", kwargs={"gravity": 3}), r"cannot be made with kwargs \{'gravity': 3\}"),
        (Env("CartPole-v1", wrappers=["ChannelFirst"]), r"wrapper ChannelFirst does not fit CartPole-v1"),
        (Env("CartPole-v1", wrappers=[Wrapper("TimeLimit", {"steps": 3})]), r"wrapper TimeLimit does not fit"),
    ],
    ids=str,
)
def test_bad_recipes_are_refused_when_opened(recipe: Env, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        recipe.with_spaces()
    assert "\n" not in str(caught.value)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=r"HalfCheetah-v5 needs .*pip install 'lit_rl\[mujoco\]'"):
        Env("HalfCheetah-v5").make_one()


def test_allowed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allow, "ALLOWED", set(allow.ALLOWED))
    with pytest.raises(ValueError, match="allow"):
        allow.check("some_package.envs")
    allow.allow("some_package.anything")
    allow.check("some_package.envs")
    assert Env("gymnasium:CartPole-v1").make_one().observation_space.shape == (4,)


def test_spaces_are_filled_once_and_are_plain() -> None:
    recipe = Env.of("CartPole-v1")
    with pytest.raises(ValueError, match="with_spaces"):
        _ = recipe.observation_space
    filled = recipe.with_spaces()
    assert recipe.spaces is None
    assert filled.with_spaces() is filled
    assert filled.observation_space == gymnasium.make("CartPole-v1").observation_space
    assert filled.action_space == spaces.Discrete(2)
    assert json.loads(json.dumps(filled.spaces)) == filled.spaces
    assert Env.of(filled) is filled


def test_minatar_is_channel_first_and_fixed_by_its_seed() -> None:
    recipe = Env("MinAtar/SpaceInvaders-v1", wrappers=["ChannelFirst"]).with_spaces()
    assert recipe.observation_space == spaces.Box(0, 1, (6, 10, 10), np.uint8)
    env = recipe.make_one()
    raw = env.unwrapped
    obs, _ = env.reset(seed=0)
    assert obs.flags.c_contiguous
    assert (obs == np.moveaxis(raw.game.state(), -1, 0)).all()


def test_stacked_images_are_the_last_ones_and_the_first_of_an_episode_stands_for_those_before() -> None:
    plain = Env("MinAtar/Breakout-v1", wrappers=["ChannelFirst"])
    stacked = plain.replace(wrappers=["ChannelFirst", Wrapper("FrameStack", {"frames": 3})]).with_spaces()
    assert stacked.observation_space == spaces.Box(0, 1, (12, 10, 10), np.uint8)
    one, other = plain.make_one(), stacked.make_one()
    for episode in range(2):
        seen = [one.reset(seed=episode)[0]] * 3
        assert (other.reset(seed=episode)[0] == np.concatenate(seen)).all()
        for action in (0, 1, 2, 1, 0):
            seen.append(one.step(action)[0])
            assert (other.step(action)[0] == np.concatenate(seen[-3:])).all()


def test_a_replay_knows_the_stacks_it_can_take_apart() -> None:
    stack = Wrapper("FrameStack", {"frames": 2})
    assert Env("MinAtar/Breakout-v1", wrappers=["ChannelFirst", stack]).with_spaces().frames == 2
    assert Env("MinAtar/Breakout-v1", wrappers=["ChannelFirst", "FrameStack"]).with_spaces().frames == 4
    assert Env("MinAtar/Breakout-v1", wrappers=["ChannelFirst"]).with_spaces().frames == 1
    changed_after = Wrapper("TransformReward", {"func": abs})
    assert Env("MinAtar/Breakout-v1", wrappers=["ChannelFirst", stack, changed_after]).with_spaces().frames == 1


@pytest.mark.parametrize(("kwargs", "text"), [({"frames": 0}, "counts images"), ({}, "needs an image")])
def test_wrong_stacks(kwargs: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Env("CartPole-v1", wrappers=[Wrapper("FrameStack", kwargs)]).make_one()


def test_opening_an_environment_imports_no_torch() -> None:
    code = "import sys; from lit_rl.envs.recipe import Env; Env('CartPole-v1').open(1).reset(); "
    code += "print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
