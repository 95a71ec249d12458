"""One rank of distributed runs: what tests/test_distributed.py starts on two processes.

    torchrun --nproc_per_node 2 -m tests.distributed_run FOLDER ppo dqn     (2N, N, N resumed to 2N of each)
    python -m tests.distributed_run FOLDER                                  (the trainer starts rank 1 itself)

Each run writes ``FOLDER/<run>/rank<r>.pt``: what must be equal on all ranks, and what must differ.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.strategies import DDPStrategy

from lit_rl import (
    DQN,
    MLP,
    PPO,
    SAC,
    TRPO,
    Agent,
    CriticFit,
    Env,
    FittedQ,
    GrowingBatch,
    QNetwork,
    Regression,
    Replay,
    Rollouts,
    Trainer,
)
from lit_rl.data.episodes import Episodes
from lit_rl.data.experience import Rounds
from lit_rl.policies.actor_critic import ActorCritic

EVALUATION = Episodes(count=2, max_steps=60)
REPLAY = Replay(500, 8, replay_ratio=0.25, warmup=32, steps_per_epoch=64, steps_per_batch=16)


def agent(name: str) -> Agent:
    """Small, with all that must agree over ranks: statistics, targets, a temperature, the end of PPO's epochs."""
    cartpole, pendulum = Env("CartPole-v1", 2), Env("Pendulum-v1", 2)
    data = Rollouts(steps=16, steps_per_epoch=64, rollouts_per_batch=2)
    net = ActorCritic(MLP((16,), normalize=True))
    if name == "trpo":
        return TRPO(cartpole, data, net, critic=CriticFit(2, 16), evaluation=EVALUATION)
    if name == "ppo":
        return PPO(cartpole, data, net, minibatch_size=16, target_kl=1e-4, evaluation=EVALUATION)
    if name == "fitted_q":
        linear, exact = QNetwork(MLP((), normalize=True)), Regression("least_squares")
        growing = GrowingBatch(500, steps_per_round=64, steps_per_epoch=64, steps_per_batch=64)
        return FittedQ(cartpole, growing, linear, iterations=3, regression=exact, evaluation=EVALUATION)
    if name == "dqn":
        return DQN(cartpole, REPLAY, MLP((16,)), target_update_every=5, evaluation=EVALUATION)
    return SAC(pendulum, REPLAY, MLP((16,)), evaluation=EVALUATION)


def train(name: str, folder: Path, epochs: int, strategy: Any, resume_from: Path | None = None) -> None:
    """One run; this rank writes what it has come to."""
    if len(sys.argv) > 2:  # the short run has no seed, and its ranks agree on one by themselves
        seed_everything(3, verbose=False)
    learner = agent(name)
    own: dict[str, Any] = {"batches": 0}
    step = type(learner).training_step

    def watched(batch: Rounds, batch_idx: int) -> None:
        step(learner, batch, batch_idx)
        own["standing"] = torch.from_numpy(learner.experience.source._collector._obs.copy())  # type: ignore[union-attr]
        own["replay"] = torch.from_numpy(memory.rows["obs"].copy()) if (memory := _memory(learner)) else None
        own["batches"] += 1

    learner.training_step = watched  # type: ignore[method-assign]
    trainer = Trainer(
        str(folder),
        max_epochs=epochs,
        devices=2,
        strategy=strategy,
        log_every_n_steps=1,
        enable_progress_bar=False,
        logger=False,
    )
    trainer.fit(learner, ckpt_path=resume_from)
    came_to = {
        "strategy": type(trainer.strategy).__name__,
        "world_size": trainer.world_size,
        "state": learner.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict()["state"],
        "env_steps": learner.env_steps,
        "updates": learner.updates,
        "own": own,
        "val": {key: float(value) for key, value in trainer.callback_metrics.items()},
        "train": learner.metrics.latest,
    }
    torch.save(came_to, folder / f"rank{trainer.global_rank}.pt")


def _memory(learner: Agent) -> Any:
    return getattr(learner.experience, "memory", None)


def main(folder: Path, *names: str) -> None:
    """All runs of the algorithms named, or one short one."""
    if not names:
        train("dqn", folder / "auto", 1, "auto")
    for name in names:
        # Statistics agree by themselves: without this flag rank 0 would overwrite those of the others.
        apart = DDPStrategy(broadcast_buffers=False)
        train(name, folder / f"{name}-whole", 4, apart)
        train(name, folder / f"{name}-half", 2, "ddp")
        train(name, folder / f"{name}-resumed", 4, "ddp", folder / f"{name}-half" / "checkpoints" / "last.ckpt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
