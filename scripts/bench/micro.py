"""The parts alone: replay memory, advantages, imports, and memory over a long run."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from lightning.pytorch import Callback

from bench.measure import Quantity, Row, compare, repeated
from bench.training import REFERENCE
from lit_rl import DQN, MLP, Env, Replay, Trainer
from lit_rl.batch import Rollout
from lit_rl.data.memory import ReplayMemory
from lit_rl.data.priority import Priorities, Prioritized
from lit_rl.functional.returns import generalized_advantage

ENVS = 8


def replay(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """Sampling 256 of 100,000 transitions with 17 + 17 + 6 floats, adding 8, and what priorities cost."""
    from stable_baselines3.common.buffers import ReplayBuffer

    calls = steps or 2_000
    observation = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action = gymnasium.spaces.Box(-1, 1, (6,), np.float32)
    rng = np.random.default_rng(0)
    step = one_round(rng, 1, ENVS)
    peer = ReplayBuffer(100_000, observation, action, "cpu", n_envs=ENVS)
    infos: list[dict[str, Any]] = [{} for _ in range(ENVS)]

    def peer_add() -> None:
        peer.add(step.obs[0], step.obs[1], step.action[0], step.reward[0], step.terminated[0], infos)

    def memory(capacity: int) -> ReplayMemory:
        made = ReplayMemory(capacity, ENVS, observation, action, gamma=0.99)
        for _ in range(capacity // ENVS):
            made.add(step)
        return made

    own = memory(100_000)
    for _ in range(100_000 // ENVS):
        peer_add()
    uniform = repeated(lambda: own.read(own.uniform(rng, 256)), calls)
    rows: list[Row | Quantity] = []
    rows += compare(
        "replay: sample 256",
        {REFERENCE: repeated(lambda: peer.sample(256), calls), "lit_rl": uniform},
        REFERENCE,
        rounds,
        {"lit_rl": 5.0},
        "call",
    )
    rows += compare(
        "replay: add 8 (a step of 8 environments)",
        {
            REFERENCE: repeated(peer_add, calls),
            "lit_rl": repeated(lambda: own.add(step), calls),
        },
        REFERENCE,
        rounds,
        {"lit_rl": 2.0},
        "call",
    )
    alone = ReplayBuffer(100_000, observation, action, "cpu", n_envs=1)
    single = ReplayMemory(100_000, 1, observation, action, gamma=0.99)
    in_time = one_round(rng, 8, 1)

    def peer_add_in_time() -> None:
        for t in range(8):
            obs, following = in_time.obs[t], in_time.obs[t + 1]
            alone.add(obs, following, in_time.action[t], in_time.reward[t], in_time.terminated[t], infos[:1])

    rows += compare(
        "replay: add 8 (a round of 8 steps)",
        {
            REFERENCE: repeated(peer_add_in_time, calls),
            "lit_rl": repeated(lambda: single.add(in_time), calls),
        },
        REFERENCE,
        rounds,
        {"lit_rl": 2.0},
        "call",
    )
    for capacity in (100_000, 1_000_000):
        stored = memory(capacity)
        priorities = Priorities(Prioritized(), stored)
        priorities.add(np.arange(len(stored)))
        contestants = {
            "uniform": repeated(_uniformly(stored, rng), calls),
            "prioritised": repeated(_by_priority(stored, priorities, rng), calls),
            "prioritised, with new priorities": repeated(_by_priority(stored, priorities, rng, learn=True), calls),
        }
        name = f"replay: sample 256 of {capacity:,}"
        rows += compare(name, contestants, "uniform", rounds, {"prioritised": 1 / 3}, "call")
    return rows


def one_round(rng: np.random.Generator, steps: int, count: int) -> Rollout:
    """Some steps of so many environments, 17 observations and 6 actions each, in which no episode ends."""

    def floats(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    no: Any = np.zeros((steps, count), bool)
    return Rollout(
        obs=floats(steps + 1, count, 17),
        action=floats(steps, count, 6),
        log_prob=floats(steps, count),
        reward=floats(steps, count),
        terminated=no,
        truncated=no,
        episode_step=np.zeros((steps, count), np.int32),  # type: ignore[arg-type]
        final_obs=floats(0, 17),
        final_index=np.zeros(0, np.int64),  # type: ignore[arg-type]
        state=floats(count, 0),
        version=np.array(0),  # type: ignore[arg-type]
    )


def _uniformly(memory: ReplayMemory, rng: np.random.Generator) -> Callable[[], Any]:
    return lambda: memory.read(memory.uniform(rng, 256))


def _by_priority(
    memory: ReplayMemory, priorities: Priorities, rng: np.random.Generator, learn: bool = False
) -> Callable[[], None]:
    def call() -> None:
        index, weight = priorities.sample(rng, (256,), 0)
        memory.read(index, weight)
        if learn:
            priorities.update(torch.from_numpy(index), weight)

    return call


def gae(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """Advantages of rollouts [T, 8]."""
    from stable_baselines3.common.buffers import RolloutBuffer

    rows: list[Row | Quantity] = []
    for length in (2048, 128):
        rng = np.random.default_rng(0)
        reward, value = rng.standard_normal((2, length, ENVS), dtype=np.float32)
        done = rng.random((length, ENVS)) < 0.02
        peer = RolloutBuffer(
            length,
            gymnasium.spaces.Box(-1, 1, (4,), np.float32),
            gymnasium.spaces.Discrete(2),
            gae_lambda=0.95,
            gamma=0.99,
            n_envs=ENVS,
        )
        peer.rewards, peer.values = reward, value
        peer.episode_starts[1:] = done[:-1]
        last = torch.from_numpy(value[0])

        next_value = torch.from_numpy(np.concatenate([value[1:], value[:1]]))
        own = [torch.from_numpy(reward), torch.from_numpy(value), next_value]
        ends = torch.from_numpy(done)
        discount = 0.99 * (~ends).float()

        def peers(peer: Any = peer, last: Any = last, done: Any = done) -> Any:
            peer.compute_returns_and_advantage(last, done[-1])
            return peer.advantages

        def ours(own: Any = own, discount: Any = discount, ends: Any = ends) -> Any:
            return generalized_advantage(*own, discount, ends, lam=0.95)

        if not np.allclose(peers(), ours().numpy(), atol=1e-4):
            raise ValueError("the two advantages differ")
        calls = max(2, (steps or 400_000) // length // ENVS)
        contestants = {REFERENCE: repeated(peers, calls), "lit_rl": repeated(ours, calls)}
        rows += compare(
            f"GAE {length} × {ENVS}", contestants, REFERENCE, rounds, {"lit_rl": 4.0} if length == 2048 else {}, "call"
        )
    return rows


IMPORTS = {
    "import torch": ["-c", "import torch"],
    "import lit_rl": ["-c", "import lit_rl"],
    "from lit_rl import PPO, Trainer": ["-c", "from lit_rl import PPO, Trainer"],
    "import lightning.pytorch": ["-c", "import lightning.pytorch"],
    "import stable_baselines3": ["-c", "import stable_baselines3"],
    "lit-rl list": ["-m", "lit_rl.cli", "list"],
}


def imports(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """Processor seconds of whole processes, interpreter included."""
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, arguments in IMPORTS.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    goals = {"lit-rl list": 2.0}
    return [
        Quantity("import", name, statistics.median(values), "s of processor time", goals.get(name))
        for name, values in seconds.items()
    ]


class Resident(Callback):
    """Notes the resident memory every so many environment steps."""

    def __init__(self, every: int) -> None:
        self.every, self.points = every, list[tuple[int, float]]()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Between batches."""
        if pl_module.env_steps >= len(self.points) * self.every:
            with open("/proc/self/statm") as line:
                pages = int(line.read().split()[1])
            self.points.append((pl_module.env_steps, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))


def memory(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """Growth of the resident memory after the first fifth of a long run with a small replay and net."""
    count = steps or 1_000_000
    resident = Resident(max(1, count // 50))
    agent = DQN(
        env=Env("CartPole-v1", num_envs=64, vectorization="native"),
        data=Replay(6_400, 64, replay_ratio=1 / 64, warmup=640, steps_per_epoch=count // 5, steps_per_batch=640),
        net=MLP((32,), "relu"),
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(folder, 5, callbacks=[resident], limit_val_batches=0, enable_progress_bar=False).fit(agent)
    settled = np.array([point for point in resident.points if point[0] >= count / 5])
    slope = np.polyfit(settled[:, 0] / 1e5, settled[:, 1], 1)[0]
    return [
        Quantity("memory", "growth per 100,000 env steps", float(slope), "MB", 1.0),
        Quantity("memory", "resident at the end", float(settled[-1, 1]), "MB"),
        Quantity("memory", "env steps", float(agent.env_steps), "steps"),
        Quantity("memory", "duration", time.perf_counter() - began, "s on the wall"),
    ]


PARTS = {"replay": replay, "gae": gae, "import": imports, "memory": memory}
