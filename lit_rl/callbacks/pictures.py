"""Pictures in TensorBoard: when they are due, and where they go."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from lit_rl.bounds import refuse_below


class NothingToDraw(Exception):
    """Of the agent at hand, and why."""


class Pictures(Callback, ABC):
    """After a validation, on one process, where some logger is TensorBoard's: draw.

    Args:
        every_n_epochs: how often.

    Raises:
        ValueError: it is below 1.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs
        refuse_below(self, 1, "every_n_epochs")

    @abstractmethod
    def draw(self, agent: Any) -> dict[str, np.ndarray]:
        """Pictures [height, width, 3] uint8 by the names that they have in TensorBoard; training must not notice.

        Raises:
            NothingToDraw: there is nothing to draw, and why.
        """

    @torch.no_grad()
    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw where an epoch's turn has come."""
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        writers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.sanity_checking or not due or not trainer.is_global_zero or not writers:
            return
        try:
            pictures = self.draw(pl_module)
        except NothingToDraw as why:
            rank_zero_warn(f"{why}: no pictures")
            return
        for logger in writers:
            for name, picture in pictures.items():
                logger.experiment.add_image(name, picture, pl_module.env_steps, dataformats="HWC")
