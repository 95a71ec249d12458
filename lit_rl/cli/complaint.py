"""What the parser says over twenty lines, in one: where, what, and the name that was probably meant."""

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import lit_rl
from lit_rl.cli.refusal import did_you_mean

_FRAME = re.compile(
    r"Does not validate|Subtypes:|Errors?:|Given value|Problem with given class_path|Expected a path but|"
    r"Expected a <class 'NoneType'>|Unable to load config|Subclass types expect|a class path \(str\)|a dict with"
)
_KEY = re.compile(r'Parser key "([^"]+)":?\s*(.*)')
_TYPE = re.compile(r"(?:<class '|\b)(?:[\w]+\.)*(\w+)(?:'>)?")


def complaint(message: str, agent: type | None, options: Iterable[str]) -> str:
    """One line for the message of the parser.

    Args:
        message: indented lines, the frames of a union around what is wrong.
        agent: class whose arguments may have been mistyped.
        options: names of the parser's other arguments, such as ``trainer.max_epochs``.
    """
    keys, leaves, value = _walk(message)
    if keys[:1] == ["config"]:  # of a file, and put into one line before
        return "; ".join(leaves)
    where = ".".join(keys)
    names = [*options, *(f"model.{name}" for name in argument_names(agent))]
    for pattern, words in _WORDINGS:
        for leaf in leaves:
            if found := re.search(pattern, leaf):
                return words(found, where, value, names, agent)
    if not leaves:
        return _misfit(where, value or "it", agent)
    expected = [found[1] for leaf in leaves if (found := re.match(r"Expected an? (.+?)(?:\. Got value.*)?$", leaf))]
    if len(expected) == len(leaves):
        kinds = " or ".join(dict.fromkeys(_TYPE.sub(r"\1", kind) for kind in expected))
        return f"{where} is {value!r}; expected {kinds}{_wants(agent, where)}"
    said = next(leaf for leaf in leaves if not leaf.startswith("Expected a"))
    return f"{where}: {said}" if where and where.rpartition(".")[2] not in said else said


def argument_names(agent: type | None) -> list[str]:
    """Dotted names of an agent's arguments and of the fields of their default recipes."""
    if agent is None:
        return ["env.id", "env.num_envs", "gamma", "data", "optimizer.lr"]
    found = ["env", *(f"env.{field.name}" for field in fields(lit_rl.Env))]
    for name, parameter in inspect.signature(agent).parameters.items():
        found += [name, *_fields(parameter.default, name)]
    return found


def _fields(recipe: Any, name: str) -> list[str]:
    if not is_dataclass(recipe):
        return []
    found = []
    for field in fields(recipe):
        found += [f"{name}.{field.name}", *_fields(getattr(recipe, field.name), f"{name}.{field.name}")]
    return found


def _walk(message: str) -> tuple[list[str], list[str], str]:
    """Keys from the outside in, what is said about the innermost, and the value given there."""
    keys: list[str] = []
    leaves: list[str] = []
    value = ""
    for line in message.splitlines():
        said = line.strip().removeprefix("- ").strip()
        if found := _KEY.match(said):
            if not keys or keys[-1] != found[1]:
                keys.append(found[1])
            said = found[2]
        found = re.search(r"(?:Given value: |Got value: |load config ['\"])(.+?)['\"]?$", said)
        if found and not value and "Namespace" not in found[1] and "NestedArg" not in found[1]:
            value = found[1]
        if said and not _FRAME.match(said):
            leaves.append(said)
    return keys, leaves, value


def _unknown(name: str, names: list[str]) -> str:
    return f"there is no argument --{name}{did_you_mean(name, names)}"


def _unaccepted(found: re.Match, where: str, value: str, names: list[str], agent: type | None) -> str:
    if not where:
        return _unknown(found[1], names)
    inside = [known[len(where) + 1 :] for known in names if known.startswith(f"{where}.")]
    meant = did_you_mean(found[1], inside) or did_you_mean(found[1], [known.rpartition(".")[2] for known in names])
    return f"{where} has no {found[1]!r}{meant}"


def _denied(found: re.Match, where: str, value: str, names: list[str], agent: type | None) -> str:
    package = found[1].partition(".")[0]
    return f"{where or 'a class path'} names {found[1]}, which is not allowed; --allow {package} adds it"


def _unheard(found: re.Match, where: str, value: str, names: list[str], agent: type | None) -> str:
    if found[1] in _recipes():
        return _misfit(where, found[1], agent)
    return f"{where} knows no {found[1]!r}{did_you_mean(found[1], _recipes())}{_wants(agent, where)}"


def _wrong_recipe(found: re.Match, where: str, value: str, names: list[str], agent: type | None) -> str:
    parameters = inspect.signature(agent).parameters.items() if agent else ()
    wanting = [name for name, parameter in parameters if getattr(parameter.annotation, "__name__", "") == found[1]]
    place = f"model.{wanting[0]}" if len(wanting) == 1 else where
    return f"{place}: {found[2]} does not fit here; {found[1]} does"


def _misfit(where: str, value: str, agent: type | None) -> str:
    return f"{where}: {value} does not fit here{_wants(agent, where)}"


def _wants(agent: type | None, where: str) -> str:
    """What an agent's argument is annotated with, where ``where`` is one."""
    if where == "model":
        return f"; lit-rl list shows all {len(lit_rl.AGENTS)} of them, such as PPO, DQN and SAC"
    parameter = inspect.signature(agent).parameters.get(where.removeprefix("model.")) if agent else None
    kind = getattr(parameter.annotation, "__name__", None) if parameter else None
    return f"; {agent.__name__} wants {kind} there" if agent and kind else ""


def _recipes() -> list[str]:
    return [*lit_rl.AGENTS, *lit_rl.RECIPES]


_WORDINGS: list[tuple[str, Callable[[re.Match, str, str, list[str], type | None], str]]] = [
    (r"Importing '([^']+)' is not allowed", _denied),
    (r"Option '([^']+)' is not accepted", _unaccepted),
    (r"Group '([^']+)' does not accept option '([^']+)'", lambda f, w, v, names, a: _unknown(f"{f[1]}.{f[2]}", names)),
    (r"unrecognized arguments: -*([^\s=]+)", lambda f, w, v, names, a: _unknown(f[1], names)),
    (r"[Kk]ey ['\"]?([\w.]+)['\"]? is required", lambda f, w, v, n, a: f"{f[1]} is missing"),
    (
        r"the following arguments are required: (.+)",
        lambda f, w, v, n, a: f"{w}.{f[1]} is missing" if w else f"{f[1]} is missing",
    ),
    (r"Subclasses are disabled for (\w+), thus '([^']+)'", _wrong_recipe),
    (r"Expected a dot import path string: (.+)", _unheard),
    (r"Not a valid subclass of|is not a subclass of|must be a subclass", lambda f, w, v, n, a: _misfit(w, v, a)),
]
"""What the parser says, the innermost reason first, and how it is put here."""
