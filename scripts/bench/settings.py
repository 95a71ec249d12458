"""What a setting costs or gains, beside the same run without it."""

import tempfile
from collections.abc import Callable
from typing import Any

from lightning.pytorch import seed_everything

from bench.measure import Quantity, Row, Sample, compare, timed
from bench.training import dqn, ppo
from lit_rl import PPO, ActorCritic, Agent, Env, Rollouts, Trainer


def logging(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """Training with TensorBoard, beside training that writes no scalars."""
    rows: list[Row | Quantity] = []
    agents: dict[str, tuple[int, Callable[[int], Agent]]] = {
        "PPO": (steps or 51_200, lambda count: ppo(count, "sync")),
        "DQN": (steps or 20_000, lambda count: dqn(count, 10)),
    }
    for name, (count, build) in agents.items():
        contestants = {
            "without": _run(count, build, logger=False),
            "with TensorBoard": _run(count, build),
        }
        for run in contestants.values():
            run(0)
        rows += compare(f"logging, {name}", contestants, "without", rounds, {"with TensorBoard": 0.95})
    return rows


def workers(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """PPO in HalfCheetah, whose step costs some 100 µs, collected in step with learning or ahead of it."""
    count = steps or 20_480

    def build(ahead: int) -> Callable[[int], Agent]:
        return lambda count: PPO(
            env=Env("HalfCheetah-v5", num_envs=8),
            data=Rollouts(steps=128, steps_per_epoch=count, workers=ahead),
            net=ActorCritic(),
            epochs=10,
            minibatch_size=64,
        )

    contestants = {"in step": _run(count, build(0)), "one worker ahead": _run(count, build(1))}
    rows: list[Row | Quantity] = list(compare("workers", contestants, "in step", rounds, {}))
    return rows


def _run(count: int, build: Callable[[int], Agent], **arguments: Any) -> Callable[[int], Sample]:
    """Train for ``count`` steps with the round's number as seed."""

    def train(seed: int) -> None:
        seed_everything(seed, verbose=False)
        agent = build(count)
        epochs = max(1, count // agent.data.env_steps_per_epoch(agent.env.num_envs))
        with tempfile.TemporaryDirectory() as folder:
            quiet = {"limit_val_batches": 0, "enable_progress_bar": False, "enable_checkpointing": False}
            Trainer(folder, epochs, **quiet | arguments).fit(agent)

    return lambda seed: timed(lambda: train(seed), count)


SETTINGS = {"logging": logging, "workers": workers}
