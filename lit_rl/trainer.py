"""Lightning's Trainer with the defaults that reinforcement learning wants."""
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
class Trainer(pl.Trainer):
    """x"""
    def save_checkpoint(self, filepath: Any, weights_only: bool | None = None, storage_options: Any = None) -> None:
        self.saving_to = Path(filepath).parent
        super().save_checkpoint(filepath, weights_only, storage_options)
