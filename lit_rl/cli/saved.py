"""What a checkpoint says of its run, and how that differs from what was asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lit_rl.agent import Agent
from lit_rl.checkpoint import CheckpointError, load_checkpoint, way_out
from lit_rl.cli.configuration import Words, check_class_path, class_paths, directory_of, expand, names_model, take
from lit_rl.cli.directory import find_checkpoint
from lit_rl.cli.parsing import CommandLine, Options
from lit_rl.cli.refusal import Refusal
from lit_rl.examine import check_kind, check_weights
from lit_rl.hyperparameters import find_class, from_plain, to_plain

CKPT_PATH = "last or best of the run's directory (see --trainer.directory), or a file"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Verify and read.

    Raises:
        Refusal: it is damaged, foreign, remote, or was written by something else than an agent.
    """
    try:
        checkpoint = load_checkpoint(path)
    except CheckpointError as error:
        raise Refusal(str(error)) from None
    if "lit_rl" not in checkpoint or "_class_path" not in checkpoint.get("hyper_parameters", {}):
        raise Refusal(f"{path} holds no agent of lit_rl. {way_out(path)}")
    for key, name in class_paths(model_config(checkpoint)):
        check_class_path(name, f"{path}: {key}")
    return checkpoint


def model_config(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The agent as a configuration has it."""
    arguments = dict(checkpoint["hyper_parameters"])
    return {"class_path": arguments.pop("_class_path"), "init_args": arguments}


def open_agent(arguments: list[str], command: str, options: Options) -> tuple[CommandLine, Agent]:
    """The agent of ``--ckpt_path`` with its weights; other arguments override what the checkpoint says.

    An agent that does not learn may also be described by the words alone, as for ``fit``.

    Raises:
        Refusal: there is no such checkpoint, or the overrides do not fit its weights.
    """
    options = {"ckpt_path": (str | None, None, CKPT_PATH), **options}
    words, name = take(expand(arguments), "ckpt_path")
    if "--help" in words or "-h" in words:
        CommandLine(["--help"], command, options)
    if name is None:
        return _open_untrained(words, command, options)
    path = find_checkpoint(name, directory_of(words))
    checkpoint = read_checkpoint(path)
    overrides: Words = [
        {key: value for key, value in word.items() if key != "model"}
        if isinstance(word, dict)
        else word.replace("--env.", "--model.env.", 1)
        if word.startswith("--env.")
        else word
        for word in words
    ]
    line = CommandLine([{"model": model_config(checkpoint)}, *overrides], command, options)
    agent = line.agent()
    for check in (check_kind, check_weights):
        refuse_unless(check, agent, path, checkpoint)
    agent.load_state_dict(checkpoint["state_dict"])
    line.config.ckpt_path = str(path)
    return line, agent.eval()


def _open_untrained(words: Words, command: str, options: Options) -> tuple[CommandLine, Agent]:
    if names_model(words):
        line = CommandLine(words, command, options)
        if line.agent_class is not None and not line.agent_class.learns:
            return line, line.agent().eval()
    raise Refusal(f"{command} needs --ckpt_path: {CKPT_PATH}")


def refuse_unless(
    check: Callable[[Agent, dict[str, Any], Path], None], agent: Agent, path: Path, checkpoint: Any
) -> None:
    """Let a check of :mod:`lit_rl.examine` speak for the command line.

    Raises:
        Refusal: the check failed.
    """
    try:
        check(agent, checkpoint, path)
    except CheckpointError as error:
        raise Refusal(str(error)) from None


def saved_agent(checkpoint: dict[str, Any]) -> Agent:
    """The agent that a checkpoint describes, for its weights to be restored by the trainer."""
    arguments = dict(checkpoint["hyper_parameters"])
    kind = find_class(arguments.pop("_class_path"))
    return kind(**{name: from_plain(value) for name, value in arguments.items()})


def differences(agent: Agent, checkpoint: dict[str, Any]) -> list[str]:
    """``name=the checkpoint's value, not the agent's``, for each argument that differs."""
    asked = dict(_flat(to_plain(agent.arguments())))
    saved = dict(_flat(model_config(checkpoint)["init_args"]))
    return [
        f"{name}={saved.get(name, 'unset')}, not {asked.get(name, 'unset')}"
        for name in {**saved, **asked}
        if saved.get(name) != asked.get(name) or (name in saved) != (name in asked)
    ]


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Dotted names of arguments with their values; a recipe's own name stands for its class."""
    if isinstance(value, dict) and set(value) == {"class_path", "init_args"}:
        return [(name, value["class_path"].rpartition(".")[2]), *_flat(value["init_args"], name)]
    if isinstance(value, dict) and not name.endswith(("kwargs", "spaces")):
        return [pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}" if name else key)]
    return [(name, value)]
