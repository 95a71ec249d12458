"""Configuration files and command lines, read with care and brought into one shape before parsing.

A file may hold plain YAML only: no tags, no aliases (a few lines of which can unfold to gigabytes), at most
1 MB. ``env: CartPole-v1`` becomes ``env: {id: CartPole-v1}`` everywhere, so that later layers add to it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lit_rl.cli.refusal import Refusal
from lit_rl.envs.allow import ALLOWED

Words = list[str | dict[str, Any]]  # of a command line; a dict is the contents of a configuration file
MAXIMUM = 1_000_000  # bytes of a file
PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class _Plain(yaml.SafeLoader):
    """YAML without tags and aliases, where ``1e-3`` is a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read: write the value out")
        event = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.YAMLError(f"tags such as {event.tag} are not read: configurations are plain data")
        return super().compose_node(parent, index)


_Plain.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def read(path: str | Path) -> dict[str, Any]:
    """The contents of a configuration file.

    Raises:
        Refusal: it cannot be read, is too large or empty, or is not a mapping of plain data.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAXIMUM:
            raise Refusal(f"{path} has {path.stat().st_size:,} bytes; a configuration has at most {MAXIMUM:,}")
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise Refusal(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    found = parse(text, str(path))
    if found is None:
        raise Refusal(f"{path} is empty; see lit-rl list for configurations")
    if not isinstance(found, dict):
        raise Refusal(f"{path} holds a {type(found).__name__}; a configuration has keys such as model and trainer")
    return normalise(found, str(path))


def parse(text: str, where: str) -> Any:
    """YAML to plain data.

    Raises:
        Refusal: it is not plain YAML.
    """
    try:
        return yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}" if mark else where
        raise Refusal(f"{place}: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{where}: {error}") from None


def normalise(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Write an environment's bare id out, and check every class path.

    Raises:
        Refusal: a class path outside the allowed packages.
    """
    model = config.get("model")
    if isinstance(model, str):
        config["model"] = {"class_path": model}
    for key, path in class_paths(config):
        check_class_path(path, f"{where}: {key}")
    if isinstance(model, dict):
        arguments = model.get("init_args", model)
        if isinstance(arguments, dict) and isinstance(arguments.get("env"), str):
            arguments["env"] = {"id": arguments["env"]}
    return config


def class_paths(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every ``class_path`` in a configuration, with its place."""
    if isinstance(value, dict):
        for name, item in value.items():
            place = f"{key}.{name}" if key else str(name)
            if name == "class_path" and isinstance(item, str):
                yield place, item
            else:
                yield from class_paths(item, place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from class_paths(item, f"{key}[{index}]")


def check_class_path(path: str, where: str) -> None:
    """Refuse a dotted path into a package that was never allowed; short names are looked up later.

    Raises:
        Refusal: names the package and how to allow it.
    """
    package = path.partition(".")[0]
    if "." in path and package not in ALLOWED:
        raise Refusal(
            f"{where} names {path}: class paths may name {', '.join(sorted(ALLOWED))}; --allow {package} adds it"
        )


def expand(arguments: list[str]) -> Words:
    """Words of a command line, each ``--config FILE`` and ``--model NAME`` replaced by a dict of its contents.

    ``--model.env ID`` becomes ``--model.env.id ID``.

    Raises:
        Refusal: see :func:`read`.
    """
    words: Words = []
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in ("-c", "--config", "--model", "--model.class_path", "--model.env", "--model.init_args.env"):
            value = value if equals else next(rest, "")
            if not value:
                raise Refusal(f"{name} needs a value")
            words += _pair(name, value)
        elif (value or word).endswith((".yaml", ".yml", ".json")):
            raise Refusal(f"{value or word}: only --config reads files; write the file's contents below its key there")
        else:
            if "class_path" in (value or word):
                _check_data(value or word, name)
            words.append(word)
    return words


def _pair(name: str, value: str) -> Words:
    if name in ("-c", "--config"):
        return [read(value)]
    data = parse(value, name)
    if name in ("--model", "--model.class_path"):
        return [normalise({"model": data}, name)]
    return [name, value] if isinstance(data, dict) else [f"{name}.id", value]


def _check_data(written: str, where: str) -> None:
    if written.lstrip().startswith(("{", "[")):
        for key, path in class_paths(parse(written, where)):
            check_class_path(path, f"{where} {key}")


def to_yaml(data: Any) -> str:
    """Plain data as YAML."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def take(words: Words, name: str) -> tuple[Words, str | None]:
    """The words without the option ``--name``, and its last value, from the command line or else from a file."""
    rest: Words = []
    given: str | None = None
    filed: str | None = None
    following = iter(words)
    for word in following:
        if isinstance(word, dict):
            filed = word.get(name, filed)
            rest.append({key: value for key, value in word.items() if key != name})
        elif word.partition("=")[0] == f"--{name}":
            given = word.partition("=")[2] or str(next(following, ""))
            if not given or given.startswith("-"):
                raise Refusal(f"--{name} needs a value")
        else:
            rest.append(word)
    return rest, given or filed


def directory_of(words: Words) -> str | None:
    """The run's directory, where the words say it."""
    directory = None
    for word in words:
        if isinstance(word, dict) and isinstance(word.get("trainer"), dict):
            directory = word["trainer"].get("directory", directory)
    return take(words, "trainer.directory")[1] or directory


def names_model(words: Words) -> bool:
    """Whether the words say which algorithm."""
    return any(key == "model.class_path" for word in words if isinstance(word, dict) for key, _ in class_paths(word))
