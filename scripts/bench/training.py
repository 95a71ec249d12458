"""Whole training runs of lit_rl, Stable-Baselines3 and the hand-written loops, with equal hyper-parameters.

What is timed is everything from building the agent to the end of training. lit_rl writes TensorBoard events
and checkpoints meanwhile; the others write nothing, which is in their favour. Nobody evaluates.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

from lightning.pytorch import Callback, seed_everything

from bench import minimal
from bench.measure import Row, Sample, compare, timed
from bench.peers import sb3_a2c, sb3_deterministic, sb3_dqn, sb3_ppo, sb3_sac, sb3_trpo
from lit_rl import A2C, DDPG, DQN, MLP, PPO, SAC, TD3, TRPO, Agent, CriticFit, Env, Fisher, Replay, Rollouts, Trainer
from lit_rl.algorithms.policy_gradient.ppo import ActorCritic
from lit_rl.optimizer import Optimizer

REFERENCE = "Stable-Baselines3"


@dataclass(frozen=True)
class Task:
    """One training task.

    Args:
        title: for the table.
        warm_up: environment steps of the first turn, which is not measured.
        steps: environment steps of a turn.
        window: training episodes, the last ones, whose mean return is the score.
        bar: what the score has to reach for the speed to count.
        contestants: (steps, seed) → returns of the training episodes.
        goals: ratio of processor time to Stable-Baselines3's, by contestant.
    """

    title: str
    warm_up: int
    steps: int
    window: int
    bar: float
    contestants: dict[str, Callable[[int, int], list[float]]]
    goals: dict[str, float]

    def run(self, name: str, steps: int | None, rounds: int) -> list[Row]:
        """A short turn each first, so that nobody pays for imports; then the rounds."""
        count = steps or self.steps

        def turn(train: Callable[[int, int], list[float]]) -> Callable[[int], Sample]:
            return lambda seed: timed(lambda: mean(train(count, seed)[-self.window :]), count)

        for train in self.contestants.values():
            train(self.warm_up, 0)
        turns = {who: turn(train) for who, train in self.contestants.items()}
        bar = self.bar if steps is None or steps >= self.steps else None  # a shorter run proves no learning
        return compare(name, turns, REFERENCE, rounds, self.goals, bar=bar)


class Returns(Callback):
    """Keeps the training returns before the experience is closed."""

    def __init__(self) -> None:
        self.returns: list[float] = []

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Read them."""
        self.returns = pl_module.experience.snapshot()["source"]["statistics"]["returns"]


def train_lit_rl(build: Callable[[], Agent], steps: int, seed: int) -> list[float]:
    """Logging and checkpoints as in any run; no validation, no progress bar."""
    seed_everything(seed, verbose=False)
    agent, returns = build(), Returns()
    epochs = max(1, steps // agent.data.env_steps_per_epoch(agent.env.num_envs))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(folder, epochs, callbacks=[returns], limit_val_batches=0, enable_progress_bar=False)
        trainer.fit(agent)
    if agent.env_steps != steps:
        raise ValueError(
            f"{type(agent).__name__} took {agent.env_steps} of {steps} steps: choose a multiple of its epoch"
        )
    return returns.returns


def train_sb3(build: Callable[[int], Any], steps: int, seed: int) -> list[float]:
    """``learn`` without logging."""
    model = build(seed)
    model.learn(steps)
    model.get_env().close()
    return [episode["r"] for episode in model.ep_info_buffer]


def ppo(steps: int, vectorization: str) -> PPO:
    return PPO(
        env=Env("CartPole-v1", num_envs=8, vectorization=vectorization),  # type: ignore[arg-type]
        data=Rollouts(steps=128, steps_per_epoch=min(steps, 10_240)),
        net=ActorCritic(MLP((64, 64), "tanh")),
        optimizer=Optimizer(lr=2.5e-4, eps=1e-5, max_grad_norm=0.5),
        epochs=4,
        minibatch_size=256,
        entropy_weight=0.01,
    )


def a2c(steps: int, vectorization: str) -> A2C:
    return A2C(
        env=Env("CartPole-v1", num_envs=8, vectorization=vectorization),  # type: ignore[arg-type]
        data=Rollouts(steps=5, steps_per_epoch=min(steps, 10_000), rollouts_per_batch=50),
        optimizer=Optimizer(lr=7e-4, name="rmsprop", eps=1e-5, max_grad_norm=0.5),
    )


def dqn(steps: int, every: int) -> DQN:
    return DQN(
        env="CartPole-v1",
        data=Replay(100_000, 128, replay_ratio=1 / every, warmup=1_000, steps_per_epoch=min(steps, 10_000)),
        net=MLP((120, 84), "relu", orthogonal=False),
        optimizer=Optimizer(lr=1e-3, max_grad_norm=10.0),
        target_update_every=500 // every,
    )


def sac(steps: int) -> SAC:
    return SAC(
        env="Pendulum-v1",
        data=Replay(100_000, 256, replay_ratio=1.0, warmup=100, steps_per_epoch=min(steps, 1_000)),
        net=MLP((256, 256), "relu", orthogonal=False),
        optimizer=Optimizer(lr=1e-3),
    )


def deterministic(agent: type[DDPG] | type[TD3], steps: int) -> Agent:
    return agent(
        env="Pendulum-v1",
        data=Replay(100_000, 128, replay_ratio=1.0, warmup=min(steps // 2, 500), steps_per_epoch=min(steps, 1_000)),
        net=MLP((128, 128), "relu", orthogonal=False),
        optimizer=Optimizer(lr=1e-3),
        gamma=0.98,
    )


def trpo(steps: int) -> TRPO:
    return TRPO(
        env=Env("CartPole-v1", num_envs=2),
        data=Rollouts(steps=512, steps_per_epoch=min(steps, 10_240)),
        net=ActorCritic(MLP((64, 64), "tanh")),
        optimizer=Optimizer(lr=1e-3),
        lam=0.98,
        max_kl=0.01,
        fisher=Fisher(iterations=15, damping=1e-3),
        critic=CriticFit(epochs=20, minibatch_size=128),
    )


def _dqn_task(every: int, goal: float) -> Task:
    return Task(
        f"DQN, CartPole, an update every {every} steps, batch 128, 120×84",
        2_000,
        20_000,
        100,
        60.0,
        {
            REFERENCE: lambda steps, seed: train_sb3(lambda seed: sb3_dqn(every, seed), steps, seed),
            "lit_rl": lambda steps, seed: train_lit_rl(lambda: dqn(steps, every), steps, seed),
            "by hand": lambda steps, seed: minimal.dqn(steps, seed, every),
        },
        {"lit_rl": goal},
    )


def _deterministic_task(agent: type[DDPG] | type[TD3]) -> Task:
    name = agent.__name__
    return Task(
        f"{name}, Pendulum, 128×128, an update every step, batch 128",
        200,
        8_000,
        5,
        -600.0,
        {
            REFERENCE: lambda steps, seed: train_sb3(lambda seed: sb3_deterministic(name, seed), steps, seed),
            "lit_rl": lambda steps, seed: train_lit_rl(lambda: deterministic(agent, steps), steps, seed),
        },
        {"lit_rl": 1.3},
    )


TASKS = {
    "ppo": Task(
        "PPO, CartPole, 8 environments × 128 steps, 4 epochs × 4 minibatches",
        2_048,
        51_200,
        100,
        120.0,
        {
            REFERENCE: lambda steps, seed: train_sb3(sb3_ppo, steps, seed),
            "lit_rl": lambda steps, seed: train_lit_rl(lambda: ppo(steps, "sync"), steps, seed),
            "lit_rl, native environments": lambda steps, seed: train_lit_rl(lambda: ppo(steps, "native"), steps, seed),
            "by hand": minimal.ppo,
        },
        {"lit_rl": 2.0, "lit_rl, native environments": 2.5},
    ),
    "a2c": Task(
        "A2C, CartPole, 8 environments × 5 steps, an update each",
        2_000,
        50_000,
        100,
        60.0,
        {
            REFERENCE: lambda steps, seed: train_sb3(sb3_a2c, steps, seed),
            "lit_rl": lambda steps, seed: train_lit_rl(lambda: a2c(steps, "sync"), steps, seed),
            "lit_rl, native environments": lambda steps, seed: train_lit_rl(lambda: a2c(steps, "native"), steps, seed),
        },
        {"lit_rl": 1.5},
    ),
    "trpo": Task(
        "TRPO, CartPole, 2 environments × 512 steps, 15 conjugate gradients, 20 epochs of the critic",
        2_048,
        20_480,
        100,
        100.0,
        {
            REFERENCE: lambda steps, seed: train_sb3(sb3_trpo, steps, seed),
            "lit_rl": lambda steps, seed: train_lit_rl(lambda: trpo(steps), steps, seed),
        },
        {"lit_rl": 1.5},
    ),
    "dqn10": _dqn_task(10, 2.2),
    "dqn4": _dqn_task(4, 2.0),
    "sac": Task(
        "SAC, Pendulum, 256×256, an update every step",
        200,
        4_000,
        5,
        -900.0,
        {
            REFERENCE: lambda steps, seed: train_sb3(sb3_sac, steps, seed),
            "lit_rl": lambda steps, seed: train_lit_rl(lambda: sac(steps), steps, seed),
            "by hand": minimal.sac,
        },
        {"lit_rl": 1.3},
    ),
    "ddpg": _deterministic_task(DDPG),
    "td3": _deterministic_task(TD3),
}

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
