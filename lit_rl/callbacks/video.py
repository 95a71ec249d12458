"""Watching the agent learn."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from lit_rl.bounds import refuse_below
from lit_rl.envs.recording import gif, record_episode

WIDEST = 320  # pixels: larger pictures are thinned out


class EvaluationVideo(Callback):
    """After a validation, one greedy episode as an animation: in TensorBoard and in ``videos/`` of the log directory.

    Training does not notice: the episode has an environment and random streams of its own.

    Args:
        every_n_epochs: how often.
        seed: of the episode's start, the same every time.
        max_steps: longer episodes are cut.
        fps: frames per second of the animation.
    """

    def __init__(self, every_n_epochs: int = 1, seed: int = 0, max_steps: int = 500, fps: float = 30.0) -> None:
        self.every_n_epochs, self.seed, self.max_steps, self.fps = every_n_epochs, seed, max_steps, fps
        refuse_below(self, 1, "every_n_epochs", "max_steps")
        self._can_draw = True

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Record where an epoch's turn has come."""
        log_dir = trainer.log_dir  # asked on every rank: it is broadcast
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.sanity_checking or not due or not trainer.is_global_zero or not self._can_draw:
            return
        try:
            with isolate_rng():
                episode = record_episode(pl_module.policy, pl_module.env, self.seed, self.max_steps)
        except ValueError as error:
            self._can_draw = False
            rank_zero_warn(f"no videos: {error}")
            return
        step = -(-max(episode.frames.shape[1:3]) // WIDEST)
        frames = episode.frames[:, ::step, ::step]
        animation = gif(frames, self.fps)
        folder = Path(log_dir or trainer.default_root_dir) / "videos"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{pl_module.env_steps}.gif").write_bytes(animation)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    _write_animation(logger, animation, frames.shape, pl_module.env_steps)
        except OSError as error:
            self._can_draw = False
            rank_zero_warn(f"no more videos: {error}. Training goes on.")


def _write_animation(logger: TensorBoardLogger, animation: bytes, shape: tuple[int, ...], step: int) -> None:
    """An image summary may hold a GIF, and TensorBoard plays it; ``add_video`` needs a moviepy of the past."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(height=shape[1], width=shape[2], colorspace=3, encoded_image_string=animation)
    summary = Summary(value=[Summary.Value(tag="val/episode", image=image)])
    writer = logger.experiment._get_file_writer()
    writer.add_event(Event(summary=summary, wall_time=time.time()), step=step)
