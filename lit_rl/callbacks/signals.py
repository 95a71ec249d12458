"""Stopping on SIGTERM, on Ctrl-C and before a job's time is up, without losing or tearing anything."""

import os
import signal
import sys
import threading
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from lit_rl.callbacks.saving import SaveCheckpoint
from lit_rl.callbacks.slurm import requeue, requeue_signal


class StopOnSignal(Callback):
    """A signal lets the batch finish, saves ``last.ckpt`` once, and ends the run in order.

    That is SIGTERM and SIGINT; in a job of SLURM also SIGUSR1 (``#SBATCH --signal=SIGUSR1@90``), after which the
    job is put back into the queue, once, before the run ends.

    The handler only sets a flag, so that no checkpoint is taken in the middle of an update; between
    batches all processes agree on the flag, so that one signal to one of them stops all. A second SIGINT
    ends the process at once, the last good checkpoint intact. A run whose last batch is done has finished,
    whatever was signalled meanwhile.

    ``exit_code`` is what the process should then end with: 130 after SIGINT, else 143 (128 + SIGTERM); None while
    nothing stopped the run. ``requeued`` says whether SLURM will run the job again.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.requeued = False
        self._received = 0  # 0, SIGINT or SIGTERM: the stronger reason to stop
        self._requeue = False  # SLURM asked for it
        self._requeue_signal: int | None = None

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Forget earlier runs."""
        self.exit_code, self.requeued, self._received, self._requeue = None, False, 0, False
        self._requeue_signal = requeue_signal(trainer)
        if stage == "fit" and self._requeue_signal and threading.current_thread() is threading.main_thread():
            signal.signal(self._requeue_signal, self._receive)  # before Lightning's, which then leaves it alone

    # Lightning installs its own handlers just before these two hooks, whichever comes first, and puts the
    # original ones back when the run ends; its SIGTERM handler would broadcast from inside the handler, and
    # its handler for SLURM would save there and train on.

    def on_sanity_check_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take over the signals."""
        self._install()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take over the signals."""
        self._install()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Between batches: save and leave, without the validation that Lightning would add."""
        if not trainer.is_last_batch and self._agree(trainer):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, SaveCheckpoint):
                    callback.save_last(trainer, pl_module)
            self._stop(trainer)
            raise StopIteration  # Lightning's word for leaving an epoch early

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """At an epoch's end, where it is saved anyway."""
        epochs = trainer.max_epochs
        finished = epochs is not None and 0 <= epochs <= trainer.current_epoch + 1
        if self._agree(trainer) and not finished:
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Everything is saved: now the job may be queued again, which ends this one."""
        if self.exit_code is not None and self._requeue and trainer.is_global_zero:
            self.requeued = requeue()

    def _install(self) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in {signal.SIGTERM, signal.SIGINT, self._requeue_signal} - {None}:
                signal.signal(number, self._receive)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT == self._received:
            if hasattr(sys, "ps1"):  # a notebook or prompt wants to live on
                raise KeyboardInterrupt
            os.write(2, b"\nstopped at once; the last checkpoint is as it was\n")
            os._exit(128 + number)
        if number == self._requeue_signal:
            self._requeue, number = True, signal.SIGTERM
        self._received = max(self._received, number)

    def _agree(self, trainer: Trainer) -> bool:
        """Whether any process was told to stop; all then know why."""
        if trainer.world_size > 1:
            flags = torch.tensor([self._received, int(self._requeue)], device=trainer.strategy.root_device)
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
            self._received, self._requeue = int(flags[0]), bool(flags[1])
        return self._received > 0

    def _stop(self, trainer: Trainer) -> None:
        self.exit_code = 128 + self._received
        trainer.should_stop = True
        trainer.fit_loop.min_epochs = 0  # a signal outranks the least that the user asked for
        trainer.fit_loop.epoch_loop.min_steps = None
