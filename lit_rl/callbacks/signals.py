"""Stopping on SIGTERM and Ctrl-C without losing or tearing anything."""

import os
import signal
import sys
import threading
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from lit_rl.callbacks.saving import SaveCheckpoint


class StopOnSignal(Callback):
    """SIGTERM or SIGINT lets the batch finish, saves ``last.ckpt`` once, and ends the run in order.

    The handler only sets a flag, so that no checkpoint is taken in the middle of an update; between
    batches all processes agree on the flag, so that one signal to one of them stops all. A second SIGINT
    ends the process at once, the last good checkpoint intact.

    ``exit_code`` is what the process should then end with, 128 + the signal's number; None while nothing
    stopped the run.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._received = 0

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Forget earlier runs."""
        self.exit_code, self._received = None, 0

    # Lightning installs its own handlers just before these two hooks, whichever comes first, and puts the
    # original ones back when the run ends; its SIGTERM handler would broadcast from inside the handler.

    def on_sanity_check_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take over the signals."""
        self._install()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take over the signals."""
        self._install()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Between batches: save and leave, without the validation that Lightning would add."""
        if not trainer.is_last_batch and (number := self._agreed(trainer)):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, SaveCheckpoint):
                    callback.save_last(trainer, pl_module)
            self._stop(trainer, number)
            raise StopIteration  # Lightning's word for leaving an epoch early

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """At an epoch's end, where it is saved anyway."""
        if number := self._agreed(trainer):
            self._stop(trainer, number)

    def _install(self) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT == self._received:
            if hasattr(sys, "ps1"):  # a notebook or prompt wants to live on
                raise KeyboardInterrupt
            os.write(2, b"\nstopped at once; the last checkpoint is as it was\n")
            os._exit(128 + number)
        self._received = max(self._received, number)

    def _agreed(self, trainer: Trainer) -> int:
        """The largest signal that any process received; 0 for none."""
        if trainer.world_size == 1:
            return self._received
        number = torch.tensor(self._received, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
        return int(number)

    def _stop(self, trainer: Trainer, number: int) -> None:
        self.exit_code = 128 + number
        trainer.should_stop = True
        trainer.fit_loop.min_epochs = 0  # a signal outranks the least that the user asked for
        trainer.fit_loop.epoch_loop.min_steps = None
