"""Recipes to plain data and back; nothing but recipes of allowed packages comes back."""

from dataclasses import fields

import numpy as np
import pytest

import lit_rl
from lit_rl import CNN, MLP, PPO, Env, Linear, Recurrent, Replay, Wrapper
from lit_rl.data.priority import Prioritized
from lit_rl.hyperparameters import class_path, find_class, from_plain, to_plain
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic

RECIPES = [
    Env("CartPole-v1", 3, {"gravity": 9.0}, ["ClipReward", Wrapper("FrameStackObservation", {"stack_size": 2})]),
    Replay(prioritized=Prioritized(beta=Linear(0.4, 1, 10)), storage="memmap"),
    ActorCritic(Recurrent(CNN("small"), 7, "gru"), log_std=-1.0),
    MLP((3, 4), normalize=True),
    Optimizer(Linear(1e-3, 0, 10), max_grad_norm=1.0),
]


def only_plain(value) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and only_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(only_plain, value))
    return value is None or type(value) in (bool, int, float, str)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: type(recipe).__name__)
def test_there_and_back(recipe) -> None:
    plain = to_plain(recipe)
    assert only_plain(plain)
    again = from_plain(plain)
    assert again == recipe and type(again) is type(recipe)
    assert [getattr(again, f.name) for f in fields(again)] == [getattr(recipe, f.name) for f in fields(recipe)]


def test_numpy_numbers_become_plain_ones() -> None:
    """np.float64 is a float to Python, and no plain number to a file that is read with weights_only."""
    for value, kind in ((np.float64(0.5), float), (np.str_("x"), str), (True, bool), (3, int)):
        assert type(to_plain(value)) is kind and to_plain(value) == value


@pytest.mark.parametrize("value", [np.zeros(2), np.int64(3), object(), len, {"a": [np.float32(1)]}, PPO])
def test_anything_else_is_named(value) -> None:
    with pytest.raises(TypeError, match="hyper_parameters"):
        to_plain(value)


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.eval", "lit_rl.not.Here", "", "lit_rl"])
def test_foreign_classes_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"list of packages|there is no|is no class"):
        find_class(path)


def test_only_recipes_are_built() -> None:
    with pytest.raises(ValueError, match="no recipe"):
        from_plain({"class_path": "lit_rl.agent.Agent", "init_args": {}})
    assert find_class(class_path(lit_rl.PPO)) is lit_rl.PPO
