"""Whether a checkpoint fits this run: asked before anything of it is applied."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from lit_rl import __version__
from lit_rl.checkpoint import CheckpointError, check_arrays, way_out
from lit_rl.envs.spaces import space_from_plain
from lit_rl.hyperparameters import class_path
from lit_rl.resume import FORMAT, replay_folder, versions

if TYPE_CHECKING:
    from lit_rl.agent import Agent

_OURS = (
    "algorithm",
    "env",
    "spaces",
    "env_steps",
    "updates",
    "seed",
    "world_size",
    "ranks",
    "replay",
    "version",
    "versions",
)
_RANK = ("random", "data", "record")
_RANDOM = ("python", "numpy", "torch", "cuda")


def examine(agent: "Agent", checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """What a fit goes on from; None where only weights are asked for, as in a test.

    Raises:
        CheckpointError: the checkpoint does not fit the agent, lacks a part, or its replay is damaged.
    """
    path = Path(agent.trainer.ckpt_path or "checkpoint")
    check_kind(agent, checkpoint, path)
    check_weights(agent, checkpoint, path)
    if agent.trainer.state.fn != TrainerFn.FITTING:
        return None
    check_resumable(agent, checkpoint, path)
    check_here(agent, checkpoint, path)
    return checkpoint["lit_rl"]


def check_kind(agent: "Agent", checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint of another algorithm, environment or space, or of a later format.

    Raises:
        CheckpointError: says what both are, or what is missing.
    """
    saved = checkpoint.get("lit_rl")
    if not isinstance(saved, dict) or "_class_path" not in checkpoint.get("hyper_parameters", {}):
        raise CheckpointError(f"{path} holds no agent of lit_rl. {way_out(path)}")
    if saved.get("format", FORMAT) > FORMAT:
        raise CheckpointError(
            f"{path} was written by lit_rl {saved.get('version', '?')} in format {saved['format']}; this is lit_rl "
            f"{__version__}, which knows formats up to {FORMAT}: update lit_rl"
        )
    _need(saved, ("algorithm", "env", "spaces"), "lit_rl", path)
    theirs = (checkpoint["hyper_parameters"]["_class_path"], saved["env"], saved["spaces"])
    if theirs != (class_path(type(agent)), agent.env.id, agent.env.spaces):
        raise CheckpointError(
            f"checkpoint is {describe(saved['algorithm'], saved['env'], saved['spaces'])}; "
            f"this run is {describe(type(agent).__name__, agent.env.id, agent.env.spaces or {})}"
        )


def check_weights(agent: "Agent", checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse weights of other networks than the agent's.

    Raises:
        CheckpointError: names the first that differs.
    """
    _need(checkpoint, ("state_dict",), "", path)
    mine = {name: tuple(value.shape) for name, value in agent.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    for name in [*mine, *there]:
        if mine.get(name) != there.get(name):
            what = f"{name} is {there.get(name, 'missing')} there and {mine.get(name, 'unknown')} here"
            raise CheckpointError(f"{path}: the weights do not fit this run's networks ({what})")


def check_resumable(agent: "Agent", checkpoint: dict[str, Any], path: Path) -> None:
    """After :func:`check_kind`: refuse one that lacks a part, or is of another number of processes.

    Raises:
        CheckpointError: names the part.
    """
    _need(checkpoint, ("optimizer_states", "lr_schedulers", "loops", "callbacks"), "", path)
    _check_optimizer(agent, checkpoint, path)
    saved = checkpoint["lit_rl"]
    _need(saved, _OURS, "lit_rl", path)
    if len(saved["ranks"]) != saved["world_size"]:
        _lacks(path, f"the state of {saved['world_size'] - len(saved['ranks'])} processes (lit_rl.ranks)")
    for rank, state in enumerate(saved["ranks"]):
        _need(state, _RANK, f"lit_rl.ranks[{rank}]", path)
        _need(state["random"], _RANDOM, f"lit_rl.ranks[{rank}].random", path)
        if state["data"] is None:
            _lacks(path, "the state of environments and replay: it was written outside training")


def check_here(agent: "Agent", checkpoint: dict[str, Any], path: Path) -> None:
    """After :func:`check_resumable`: compare with this run's processes, verify this one's replay, tell of versions.

    Raises:
        CheckpointError: the number of processes differs; the replay is missing or damaged.
    """
    saved, trainer = checkpoint["lit_rl"], agent.trainer
    if saved["world_size"] != trainer.world_size:
        raise CheckpointError(
            f"the checkpoint was written by {saved['world_size']} processes and this run has {trainer.world_size}: "
            f"each has environments and a replay of its own, so resume with the same number"
        )
    if saved["replay"] is not None:
        check_arrays(replay_folder(saved["replay"], path, trainer.global_rank))  # damage: before a weight moves
    if told := skew(saved):
        rank_zero_warn(f"{path} was written with {told}: it goes on, perhaps not bit for bit")


def skew(saved: dict[str, Any]) -> str:
    """Versions that differ from ours, as in ``torch 2.12.0 (here 2.13.0)``; empty where all agree."""
    here, there = versions(), {**saved["versions"], "lit_rl": saved["version"]}
    differing = [name for name in here if there.get(name) != here[name]]
    return ", ".join(f"{name} {there.get(name, 'unknown')} (here {here[name]})" for name in differing)


def describe(algorithm: str, env: str, spaces: dict[str, Any]) -> str:
    """An algorithm, its environment and the spaces there, as in ``PPO on CartPole-v1 (obs Box(4,), …)``."""
    return f"{algorithm} on {env} (obs {_shape(spaces['observation'])}, action {_shape(spaces['action'])})"


def _shape(plain: dict[str, Any]) -> str:
    if plain["kind"] == "Box":
        return f"Box{tuple(plain['shape'])}"
    if plain["kind"] == "Dict":
        return "Dict(" + ", ".join(f"{key}: {_shape(leaf)}" for key, leaf in plain["spaces"].items()) + ")"
    return str(space_from_plain(plain))


def _check_optimizer(agent: "Agent", checkpoint: dict[str, Any], path: Path) -> None:
    """Lightning would begin with a fresh optimiser where there is none in the list, and say nothing."""
    there = [[len(group["params"]) for group in state["param_groups"]] for state in checkpoint["optimizer_states"]]
    here = [[len(list(group["params"])) for group in agent.parameter_groups()]]
    if there != here:
        _lacks(path, f"the state of the optimiser: parameters {there or 'none'} there, {here} here (optimizer_states)")
    (state,) = checkpoint["optimizer_states"]
    keeps_averages = agent.optimizer.name != "sgd" and sum(here[0]) > 0  # plain descent has none, a table no parameters
    if keeps_averages and checkpoint["lit_rl"].get("updates") and not state["state"]:
        _lacks(path, "the optimiser's averages (optimizer_states)")


def _need(held: Any, names: tuple[str, ...], where: str, path: Path) -> None:
    missing = [name for name in names if not isinstance(held, dict) or name not in held]
    if missing:
        _lacks(path, ", ".join(f"{where}.{name}" if where else name for name in missing))


def _lacks(path: Path, what: str) -> None:
    raise CheckpointError(
        f"{path} cannot be resumed, it lacks {what}. {way_out(path)}; a new run can begin with its weights: "
        f"--weights_only_start true"
    )
