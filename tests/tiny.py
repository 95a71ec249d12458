"""A tiny valid recipe of every algorithm, derived from its signature, so that new ones enter by themselves."""

import inspect
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback

import lit_rl
from lit_rl.agent import Agent
from lit_rl.algorithms.actor_critic.actor_critic import Critic
from lit_rl.data.asynchronous import Asynchronous
from lit_rl.data.demonstrations import Demonstrations
from lit_rl.data.episodes import Episodes
from lit_rl.data.growing import GrowingBatch
from lit_rl.data.known_model import KnownModel
from lit_rl.data.rehearsal import Rehearsal
from lit_rl.data.replay import Replay
from lit_rl.data.rollouts import Rollouts
from lit_rl.data.self_play import SelfPlay
from lit_rl.data.sequences import SequenceReplay
from lit_rl.data.whole_episodes import WholeEpisodes
from lit_rl.data.windows import WindowReplay
from lit_rl.envs.recipe import Env
from lit_rl.nn.body import MLP, Recurrent
from lit_rl.nn.q_network import QNetwork
from lit_rl.nn.regression import Regression
from lit_rl.planning.ddp import DDP
from lit_rl.planning.ilqr import ILQR
from lit_rl.planning.shooting import CEM
from lit_rl.planning.task import ControlTask
from lit_rl.policies.actor_critic import ActorCritic
from lit_rl.resume import random_state

ENVS = {
    "Discrete": "CartPole-v1",
    "Box": "Pendulum-v1",
    "MultiDiscrete": "lit_rl.envs.toy:lit_rl/MultiDiscreteIdentity-v0",
    "MultiBinary": "lit_rl.envs.toy:lit_rl/MultiBinaryIdentity-v0",
}
SMALL = {
    Rollouts: Rollouts(steps=8, steps_per_epoch=80),  # 5 rounds of 16
    WholeEpisodes: WholeEpisodes(episodes_per_env=2, steps_per_epoch=80, steps_per_batch=20),
    Replay: Replay(capacity=60, batch_size=4, replay_ratio=0.5, warmup=20, steps_per_epoch=80, steps_per_batch=16),
    WindowReplay: WindowReplay(
        60, batch_size=4, replay_ratio=0.5, warmup=20, steps_per_epoch=80, steps_per_batch=16, window=2
    ),
    GrowingBatch: GrowingBatch(capacity=60, steps_per_round=10, steps_per_epoch=80, steps_per_batch=10),
    Regression: Regression("gradient", steps=2, batch_size=8),
    SequenceReplay: SequenceReplay(
        60, batch_size=4, replay_ratio=0.5, warmup=20, steps_per_epoch=80, steps_per_batch=16, length=3, burn_in=2
    ),
    Rehearsal: Rehearsal(steps=8, capacity=60, batch_size=4, replay_ratio=0.25, steps_per_epoch=80),
    SelfPlay: SelfPlay(60, batch_size=4, replay_ratio=0.5, warmup=20, steps_per_epoch=80, steps_per_batch=16),
    Asynchronous: Asynchronous(steps=8, steps_per_epoch=80, rollouts_per_batch=1, workers=0),
    KnownModel: KnownModel(steps_per_epoch=80, steps_per_batch=16),
    Demonstrations: Demonstrations(horizon=5, episodes=10, steps_per_epoch=80, steps_per_batch=16),
    ActorCritic: ActorCritic(MLP((8,))),
    MLP: MLP((8,), "relu"),
    QNetwork: QNetwork(MLP((8,), "relu")),
    Critic: Critic(updates=2),
    ControlTask: ControlTask(horizon=8),
    CEM: CEM(iterations=1, samples=4, elites=2),
    ILQR: ILQR(iterations=1, starts=2, guesses=2),
    DDP: DDP(iterations=1, starts=2, guesses=2),
    Episodes: Episodes(2, max_steps=20),
}
TABULAR = "lit_rl.envs.finite_mdp:lit_rl/Grid-v0"  # for agents that observe states by number
GAMES = {"AlphaZero": "lit_rl.envs.tic_tac_toe:lit_rl/TicTacToe-v0"}
PAIRS = [(name, space) for name in lit_rl.AGENTS for space in getattr(lit_rl, name).action_spaces]


def tiny(name: str, space: str | None = None, num_envs: int = 2, env: Env | None = None, **changes: Any) -> Agent:
    """An agent that learns within a dozen steps; ``data`` in ``changes`` are fields of its data recipe."""
    kind = getattr(lit_rl, name)
    tabular = "Box" not in kind.observation_spaces and space in (None, *kind.action_spaces)
    id_ = TABULAR if tabular else ENVS[space or kind.action_spaces[0]]
    if space in (None, *kind.action_spaces):
        id_ = GAMES.get(name, id_)
    arguments: dict[str, Any] = {"env": env or Env(id_, num_envs=num_envs)}
    for parameter in inspect.signature(kind).parameters.values():
        small = SMALL.get(type(parameter.default))
        if isinstance(small, Rollouts):
            small = replace(small, steps=min(small.steps, parameter.default.steps))  # one step at a time stays so
        if isinstance(small, QNetwork) and isinstance(parameter.default.body, Recurrent):
            small = QNetwork(Recurrent(MLP((8,), "relu"), 8))  # a memory stays one
        if isinstance(small, Regression):
            small = replace(small, method=parameter.default.method)  # an exact one stays exact
        if parameter.name == "simulations":
            small = 4
        if parameter.name == "replan_every":
            small = 8
        if small is not None:
            arguments[parameter.name] = small
    if name == "MCTS" and space == "Box":  # torques are proposed
        arguments |= {"search": lit_rl.TreeSearch(widening=lit_rl.Widening()), "reuse": False}
    arguments["data"] = replace(arguments["data"], **changes.pop("data", {}))
    return kind(**arguments | changes)


def draws(name: str) -> bool:
    """Whether chance has a part in what it learns; not where a model is known, nor where a matrix is solved for."""
    return name != "LQR" and not isinstance(tiny(name).data, KnownModel)


def trainer(folder: Path, epochs: int = 1, **arguments: Any) -> Any:
    """A quiet trainer that validates and saves only where told to."""
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False, "limit_val_batches": 0}
    return lit_rl.Trainer(str(folder), epochs, **quiet | arguments)


class AtEnd(Callback):
    """All that a run consists of, as it was when training ended."""

    state: dict[str, Any]

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.state = everything(pl_module)


def everything(agent: Agent) -> dict[str, Any]:
    """Weights, optimiser, random streams, environments, memory, statistics."""
    memory = getattr(agent.experience, "memory", None)
    rows = None
    if memory is not None:
        rows = {"transitions": memory.read(np.arange(len(memory))), "header": memory.header()}
    return {
        "weights": {name: value.clone() for name, value in agent.state_dict().items()},
        "optimizer": copy_of(agent.optimizers().state_dict()),
        # beartype draws from Python's own stream to pick what it checks, so that one is left out
        "random": {name: state for name, state in random_state(agent.device).items() if name != "python"},
        "data": agent.experience.snapshot(),
        "memory": rows,
        "statistics": agent.experience.statistics(),
        "counters": (agent.env_steps, agent.updates),
    }


def copy_of(tree: Any) -> Any:
    """The same tree with tensors of its own."""
    if isinstance(tree, dict):
        return {key: copy_of(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [copy_of(value) for value in tree]
    return tree.clone() if isinstance(tree, torch.Tensor) else tree


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two trees of tensors and plain Python differ, bit for bit."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: keys"]
        return [text for key in one for text in differences(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{where}: length"]
        pairs = zip(one, other, strict=True)
        return [text for i, (a, b) in enumerate(pairs) for text in differences(a, b, f"{where}[{i}]")]
    return [] if type(one) is type(other) and (one == other or both_nan(one, other)) else [where]


def both_nan(one: Any, other: Any) -> bool:
    return isinstance(one, float) and math.isnan(one) and math.isnan(other)
