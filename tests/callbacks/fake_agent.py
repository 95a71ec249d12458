"""The smallest thing that acts like an agent: counts, draws random numbers, learns a little, saves all of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import IterableDataset

BATCHES, STEPS = 5, 10  # batches of an epoch, env steps of a batch


class Counting(IterableDataset):
    """Batch n holds the number n, over epochs and resumes: what is skipped or repeated shows."""

    def __init__(self, agent: "FakeAgent") -> None:
        self.agent = agent

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            self.agent.position += 1
            yield torch.tensor(self.agent.position)


class FakeAgent(LightningModule):
    def __init__(self, returns: tuple[float, ...] = (), warm_up: int = 0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.returns, self.warm_up = returns, warm_up
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.position = self.env_steps = self.updates = self.validations = 0
        self.seen: list[int] = []
        self.rng = torch.Generator().manual_seed(0)
        self.metrics = SimpleNamespace(latest={})
        self.total_env_steps: int | None = None
        self.at_batch: Callable[[int], Any] = lambda number: None
        self.at_validation: Callable[[int], Any] = lambda number: None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Counting:
        return Counting(self)

    def val_dataloader(self) -> list[int]:
        return [0]

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        self.seen.append(int(batch))
        self.env_steps += STEPS
        if self.env_steps > self.warm_up:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward((self.weight * torch.randn(3, generator=self.rng)).sum())
            optimizer.step()
            self.updates += 1
        self.metrics.latest["episode_return"] = float(self.env_steps)
        self.at_batch(int(batch))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.at_validation(self.validations)
        if not self.trainer.sanity_checking:
            score = self.returns[self.validations] if self.validations < len(self.returns) else 0.0
            self.validations += 1
            self.log("val/return", score, batch_size=1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        counters = {name: getattr(self, name) for name in ("position", "env_steps", "updates", "validations")}
        checkpoint["lit_rl"] = {**counters, "rng": self.rng.get_state(), "replay": None}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["lit_rl"]
        for name in ("position", "env_steps", "updates", "validations"):
            setattr(self, name, saved[name])
        self.rng.set_state(saved["rng"])


def make_trainer(root: Path, *callbacks: Any, epochs: int = 2, **options: Any) -> Trainer:
    settings = {"logger": False, "num_sanity_val_steps": 0, "enable_progress_bar": False} | options
    return Trainer(
        default_root_dir=root,
        callbacks=list(callbacks),
        max_epochs=epochs,
        accelerator="cpu",
        enable_model_summary=False,
        **settings,
    )
