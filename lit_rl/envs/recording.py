"""Watching a policy: one greedy episode as pictures, and pictures as a file."""

import io
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lit_rl.envs.playing import play_episode
from lit_rl.envs.recipe import Env


class Episode(NamedTuple):
    """One recorded episode."""

    frames: np.ndarray  # [T+1, height, width, 3] uint8
    total: float  # undiscounted return
    length: int  # T


def record_episode(policy: Any, env: Env, seed: int = 0, max_steps: int = 1000) -> Episode:
    """Play one episode greedily in an environment of its own.

    Args:
        policy: what acts, a ``lit_rl.policies.policy.Policy``.
        env: recipe; one of it is opened.
        seed: of the episode's start.
        max_steps: an episode that goes on longer is cut there.

    Raises:
        ValueError: the environment cannot render to pictures.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame looks for a screen even where it draws to memory
    one = env.replace(kwargs={**env.kwargs, "render_mode": "rgb_array"}, num_envs=1).make_one()
    try:
        frames: list[np.ndarray] = []
        steps = list(
            play_episode(policy, one, (seed, 0), False, max_steps, lambda: frames.append(picture(one.render(), env.id)))
        )
    finally:
        one.close()
    return Episode(np.stack(frames), sum(step.reward for step in steps), len(steps))


def save_video(frames: np.ndarray, path: str | Path, fps: float = 30.0) -> None:
    """Write ``frames`` [T, height, width, 3] uint8 as ``.gif`` or ``.mp4``.

    Raises:
        ValueError: another ending, or what writes ``.mp4`` is not installed.
    """
    path = Path(path)
    if path.suffix == ".gif":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gif(frames, fps))
    elif path.suffix == ".mp4":
        try:
            from moviepy import ImageSequenceClip
        except ImportError:
            raise ValueError(f"{path} needs moviepy: pip install 'lit_rl[video]' (or name it .gif)") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        ImageSequenceClip(list(frames), fps=fps).write_videofile(str(path), logger=None)
    else:
        raise ValueError(f"{path}: a video ends in .gif or .mp4")


def gif(frames: np.ndarray, fps: float = 30.0) -> bytes:
    """An endless animation of ``frames`` [T, height, width, 3] uint8; the format counts in hundredths of a second."""
    pictures = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    duration = max(20, round(1000 / fps / 10) * 10)  # milliseconds; viewers slow down what is faster
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return buffer.getvalue()


def picture(frame: object, name: str) -> np.ndarray:
    """What ``render`` gave, as [height, width, 3] uint8.

    Raises:
        ValueError: it is no picture; ``name`` says whose.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"{name} draws no pictures (render_mode rgb_array gave {type(frame).__name__})")
    return frame.astype(np.uint8)
