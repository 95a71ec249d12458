"""The commands that need only a checkpoint: validate, test, predict, play, export.

Of an agent that does not learn, such as one that plans with known physics, a config will do.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from jsonargparse.typing import NonNegativeInt, PositiveInt
from rich.console import Console
from rich.table import Table

from lit_rl.cli.directory import run_directory
from lit_rl.cli.parsing import Options
from lit_rl.cli.refusal import Refusal, one_line
from lit_rl.cli.saved import open_agent
from lit_rl.envs.playing import Step, play_episode, to_arrays
from lit_rl.envs.recording import picture, save_video
from lit_rl.export import ExportError
from lit_rl.export import export as export_policy

SEED_TEST = 20_000  # apart from the seeds of evaluation, so that nothing was selected on these episodes
EXPLORE = (bool, False, "act as in training instead of greedily")


def validate(arguments: list[str]) -> int:
    """Greedy episodes, those of the validations in training. Returns the exit status."""
    return _evaluate("validate", arguments, None, None)


def test(arguments: list[str]) -> int:
    """A hundred greedy episodes that no validation has seen. Returns the exit status."""
    return _evaluate("test", arguments, 100, SEED_TEST)


def _evaluate(command: str, arguments: list[str], episodes: int | None, seed: int | None) -> int:
    options: Options = {
        "episodes": (PositiveInt | None, episodes, "how many"),
        "seed": (NonNegativeInt | None, seed, "of their starts"),
        "explore": EXPLORE,
    }
    line, agent = open_agent(arguments, command, options)
    asked = {"count": line.config.episodes, "seed": line.config.seed, "explore": line.config.explore or None}
    agent.evaluation = replace(agent.evaluation, **{name: value for name, value in asked.items() if value is not None})
    trainer = line.trainer_of(agent, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    getattr(trainer, command)(agent)
    return 0


def predict(arguments: list[str]) -> int:
    """Write trajectories as a data set without pickles. Returns the exit status.

    The columns are those of :func:`lit_rl.envs.playing.to_arrays`; ``header`` is JSON: environment, spaces, algorithm.
    """
    options: Options = {
        "output": (str | None, None, "the file to write, ending in .npz"),
        "episodes": (PositiveInt, 10, "how many"),
        "seed": (NonNegativeInt, 0, "of their starts"),
        "explore": EXPLORE,
    }
    line, agent = open_agent(arguments, "predict", options)
    if not (line.config.output or "").endswith(".npz"):
        raise Refusal("predict needs --output FILE.npz")
    output = Path(line.config.output)
    env = agent.env.make_one()
    how = line.config.explore, agent.evaluation.max_steps
    steps: list[Step] = []
    episodes: list[int] = []
    try:
        for episode in range(line.config.episodes):
            played = list(play_episode(agent.policy, env, (line.config.seed, episode), *how))
            steps += played
            episodes += [episode] * len(played)
    finally:
        env.close()
    header = {
        "env": agent.env.id,
        "kwargs": agent.env.kwargs,
        "spaces": agent.env.spaces,
        "algorithm": type(agent).__name__,
        "env_steps": agent.env_steps,
        "seed": line.config.seed,
        "explore": line.config.explore,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.new.npz")
    np.savez_compressed(temporary, header=np.array(json.dumps(header)), **to_arrays(steps, episodes))  # type: ignore[arg-type]
    os.replace(temporary, output)
    mean = sum(step.reward for step in steps) / line.config.episodes
    print(f"{output}: {len(steps):,} transitions of {line.config.episodes} episodes, mean return {mean:.1f}")
    return 0


def play(arguments: list[str]) -> int:
    """Show episodes on the screen, or record them, and print their returns. Returns the exit status."""
    options: Options = {
        "record": (str | None, None, "film them into this file, .gif or .mp4"),
        "episodes": (PositiveInt, 1, "how many"),
        "seed": (NonNegativeInt, 0, "of their starts"),
        "explore": EXPLORE,
    }
    line, agent = open_agent(arguments, "play", options)
    record = line.config.record
    if record is not None and not record.endswith((".gif", ".mp4")):
        raise Refusal(f"--record {record}: a video ends in .gif or .mp4")
    mode = "rgb_array" if record else "human" if _has_display() else None
    try:
        env = (
            agent.env.replace(kwargs={**agent.env.kwargs, "render_mode": mode}).make_one()
            if mode
            else agent.env.make_one()
        )
    except ValueError as error:
        raise Refusal(f"{agent.env.id} cannot be shown: {one_line(error)}") from None
    if mode != "human":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame would look for a screen
    frames: list[np.ndarray] = []
    scores: list[tuple[float, int]] = []

    def watch() -> None:
        if record:
            try:
                frames.append(picture(env.render(), agent.env.id))
            except ValueError as error:
                raise Refusal(one_line(error)) from None

    how = line.config.explore, agent.evaluation.max_steps
    try:
        for episode in range(line.config.episodes):
            rewards = [
                step.reward for step in play_episode(agent.policy, env, (line.config.seed, episode), *how, watch)
            ]
            scores.append((sum(rewards), len(rewards)))
        fps = float(env.metadata.get("render_fps") or 30)
    finally:
        env.close()
    _print_scores(f"{type(agent).__name__} on {agent.env.id}", scores)
    if record:
        try:
            save_video(np.stack(frames), record, fps)
        except ValueError as error:
            raise Refusal(one_line(error)) from None
        print(f"recorded {record}")
    elif mode is None:
        print("there is no display: --record FILE.gif makes a film")
    return 0


def export(arguments: list[str]) -> int:
    """Write the greedy policy as ONNX and torch.export. Returns the exit status."""
    line, agent = open_agent(
        arguments, "export", {"output": (str | None, None, "folder; by default exported/ in the run's directory")}
    )
    path = line.config.ckpt_path
    run = run_directory(Path(path)) if path else Path(line.config.trainer.directory)
    output = line.config.output or run / "exported"
    try:
        paths = export_policy(agent.policy, agent.env.observation_space, output)
    except ExportError as error:
        raise Refusal(one_line(error)) from error
    for path in paths:
        print(f"{path}  ({path.stat().st_size / 1024:,.0f} KiB, checked against the policy)")
    return 0


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _print_scores(title: str, scores: list[tuple[float, int]]) -> None:
    """A table of returns and lengths."""
    table = Table("episode", "return", "length", title=title)
    for number, (total, length) in enumerate(scores):
        table.add_row(str(number), f"{total:,.1f}", f"{length:,}")
    if len(scores) > 1:
        totals, lengths = np.array(scores).T
        table.add_row("mean", f"{totals.mean():,.1f} ± {totals.std():,.1f}", f"{lengths.mean():,.0f}")
    Console().print(table)
