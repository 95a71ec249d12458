"""Recipes as plain data and back: what checkpoints hold instead of objects."""

import inspect
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, get_origin

from lit_rl.envs.allow import check

_PLAIN = (bool, int, float, str)


def to_plain(value: Any, where: str = "hyper_parameters") -> Any:
    """Numbers, strings, lists and dicts as they are; a recipe as ``{class_path, init_args}``.

    Raises:
        TypeError: anything else, named by ``where``.
    """
    if value is None or type(value) in _PLAIN:
        return value
    for kind in _PLAIN:
        if isinstance(value, kind):  # numpy's float64 and str_ are such; files hold plain ones only
            return kind(value)
    if is_dataclass(value) and not isinstance(value, type):
        arguments = {f.name: to_plain(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value) if f.init}
        return {"class_path": class_path(type(value)), "init_args": arguments}
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): to_plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{where} is a {type(value).__name__}: an agent's arguments are numbers, strings, lists, dicts and recipes "
        f"(frozen dataclasses)"
    )


def from_plain(value: Any) -> Any:
    """The inverse of :func:`to_plain`; only allowed packages are imported from, only dataclasses are built.

    Raises:
        ValueError: a class path that names something else.
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"class_path", "init_args"}:
        return {key: from_plain(item) for key, item in value.items()}
    recipe = find_class(value["class_path"])
    if not is_dataclass(recipe):
        raise ValueError(f"{value['class_path']} is no recipe (a frozen dataclass)")
    arguments = {key: from_plain(item) for key, item in value["init_args"].items()}
    tuples = [field.name for field in fields(recipe) if get_origin(field.type) is tuple]  # a file holds lists
    return recipe(**arguments | {name: tuple(arguments[name]) for name in tuples if name in arguments})


def find_class(path: str) -> type:
    """Import ``package.module.Class`` from an allowed package.

    Raises:
        ValueError: the package is not allowed, or there is no such class.
    """
    module, _, name = path.rpartition(".")
    check(module)
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"there is no {path}; was it renamed?") from None
    if not inspect.isclass(found):
        raise ValueError(f"{path} is no class")
    return found


def class_path(kind: type) -> str:
    """Where a class can be imported from."""
    return f"{kind.__module__}.{kind.__qualname__}"
