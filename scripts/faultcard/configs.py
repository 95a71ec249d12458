"""Command lines and files that describe no run, spaces that nobody serves, packages that are missing."""

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.faultcard.harness import Figure, row
from scripts.faultcard.process import run

ROOT = Path(__file__).resolve().parent.parent.parent


def _refused(words: list[str], folder: Path, says: list[str]) -> str | None:
    """Exit status 2, one line that says what it must, nothing on disk."""

    def body() -> int:
        from lit_rl.cli import main

        os.chdir(folder)
        return main(["fit", *words])

    log = folder.with_suffix(".log")
    before = sorted(folder.rglob("*"))
    status, said = run(body, log)
    text = " ".join(words)[:80]
    if status != 2 or len(said.splitlines()) != 1 or "Traceback" in said or not said.startswith("lit-rl: "):
        return f"{text}: status {status}: {said[-300:]}"
    if sorted(folder.rglob("*")) != before:
        return f"{text}: left something on disk"
    missing = [part for part in says if part not in said]
    return f"{text}: says nothing of {missing}: {said}" if missing else None


@row(37, "bad configuration (words, files, types, ranges, pairings): status 2, one line, nothing on disk", "n/n",
     kind="input", quick=12, full=1000)  # fmt: skip
def bad_configurations(folder: Path, most: int) -> Figure:
    import lit_rl.cli.commands  # noqa: F401  what all children share
    from tests.cli.test_refusals import FILES, WORDS

    cases: list[tuple[list[str], list[str], str | bytes | None]] = [
        *((words, says, None) for words, says in WORDS.values()),
        *((["--config", "run.yaml"], says, contents) for contents, says in FILES.values()),
    ]
    outcomes = []
    for number, (words, says, contents) in enumerate(cases[:: max(1, len(cases) // most)]):
        where = folder / str(number)
        where.mkdir()
        if contents is not None:
            (where / "run.yaml").write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        outcomes.append(_refused(words, where, says))
    return Figure.of(outcomes, f"{len(WORDS)} command lines and {len(FILES)} files are known; those of the test-suite")


@row(38, "class path outside the allowed packages: refused, nothing imported", "n/n", kind="input",
     quick=4, full=100)  # fmt: skip
def foreign_class_paths(folder: Path, most: int) -> Figure:
    import lit_rl.cli.commands  # noqa: F401
    from tests.cli.test_refusals import FOREIGN

    outcomes = []
    for number, words in enumerate(list(FOREIGN.values())[:most]):
        where = folder / str(number)
        where.mkdir()
        outcomes.append(_refused(words, where, ["--allow"]))
        if (where / "pwned").exists():
            outcomes[-1] = f"{words}: code ran"
    return Figure.of(outcomes, "Popen and os.system as model, data, net, schedule, logger, callback, plugin, strategy")


@row(34, "space that an algorithm does not serve: refused before anything is built", "n/n", kind="input",
     quick=1, full=1)  # fmt: skip
def unsupported_spaces(folder: Path, repeats: int) -> Figure:
    import numpy as np
    from gymnasium import spaces

    import lit_rl
    from tests.envs.scripted import register

    register()
    box, two = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    observed = {
        "nested dict": spaces.Dict(a=spaces.Dict(b=box)),
        "dict with a tuple": spaces.Dict(a=spaces.Tuple((two, two))),
        "tuple": spaces.Tuple((two, box)),
        "text": spaces.Text(5),
        "graph": spaces.Graph(box, None),
        "sequence": spaces.Sequence(two),
        "one of": spaces.OneOf((two, box)),
        "no elements": spaces.Box(-1, 1, (0,)),
        "two axes": spaces.MultiDiscrete([[2, 2], [2, 2]]),
    }
    unbounded = spaces.Box(-np.inf, np.inf, (2,))
    half = spaces.Box(np.array([-1, -np.inf], np.float32), np.ones(2, np.float32))
    acted = [
        ("SAC", two), ("SAC", spaces.MultiDiscrete([2, 2])), ("SAC", spaces.MultiBinary(2)), ("SAC", unbounded),
        ("SAC", half), ("DQN", box), ("DQN", spaces.MultiDiscrete([2, 2])), ("DQN", spaces.MultiBinary(2)),
        ("PPO", spaces.Dict(a=two)), ("PPO", spaces.Tuple((two, two))), ("PPO", spaces.Text(3)),
        ("PPO", spaces.Box(0, 3, (2,), np.int64)), ("DQN", spaces.Box(0, 3, (), np.int64)), ("SAC", spaces.Text(3)),
    ]  # fmt: skip

    def outcome(name: str, what: str, **kwargs: Any) -> str | None:
        try:
            getattr(lit_rl, name)(lit_rl.Env("Spaced-v0", kwargs=kwargs))
        except ValueError as error:
            text = str(error)
            clear = "\n" not in text and ("space" in text or "bound" in text) and len(text) < 400
            return None if clear else f"{name}, {what}: {text}"
        except Exception as error:
            return f"{name}, {what}: {type(error).__name__}: {error}"
        return f"{name}, {what}: accepted"

    outcomes = [outcome("PPO", what, space=space) for what, space in observed.items()]
    outcomes += [outcome(name, str(space), space=box, action_space=space) for name, space in acted]
    return Figure.of(outcomes, f"{len(observed)} observation spaces, {len(acted)} action spaces of PPO, DQN or SAC")


def _without(folder: Path, *packages: str) -> Path:
    """Python of an environment that has everything of this one but these."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for source in (Path(path) for path in sys.path if path.endswith("site-packages")):
        for entry in source.iterdir():
            hidden = any(entry.name == name or entry.name.startswith((f"{name}-", f"{name}_")) for name in packages)
            if not hidden and entry.suffix != ".pth" and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


@row(46, "package that is missing: the line that installs it, or training without it", "n/n", kind="input",
     quick=3, full=4)  # fmt: skip
def missing_packages(folder: Path, cases: int) -> Figure:
    tiny = ["--model.data.steps_per_epoch", "64", "--model.data.steps", "32", "--trainer.max_epochs", "1",
            "--model.evaluation.count", "1"]  # fmt: skip
    python = _without(folder / "venv", "mujoco", "ale_py", "tensorboard", "tensorboardX", "moviepy", "Box2D", "box2d")

    def lit_rl(*words: str) -> tuple[int, str, str]:
        (folder / "work").mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONHOME"} | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([python, "-m", "lit_rl.cli", *words], cwd=folder / "work", env=environment,
                              capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def told(env: str, extra: str) -> str | None:
        status, _, said = lit_rl("fit", "--model", "PPO", "--model.env", env)
        fine = status == 2 and len(said.splitlines()) == 1 and f"pip install 'lit_rl[{extra}]'" in said
        return None if fine else f"{env}: status {status}: {said[-300:]}"

    def without_tensorboard() -> str | None:
        status, _, said = lit_rl("fit", "--model", "PPO", "--model.env", "CartPole-v1", *tiny)
        table = folder / "work/runs/ppo-cartpole-v1/csv/version_0/metrics.csv"
        fine = status == 0 and said.count("TensorBoard is missing") == 1 and "val/return" in table.read_text()
        return None if fine else f"tensorboard: status {status}, {table.exists()}: {said[-300:]}"

    def without_moviepy() -> str | None:
        ckpt = folder / "work/runs/ppo-cartpole-v1/checkpoints/last.ckpt"
        status, _, said = lit_rl("play", "--ckpt_path", str(ckpt), "--record", "x.mp4")
        fine = status in (1, 2) and "pip install 'lit_rl[video]'" in said and len(said.splitlines()) == 1
        return None if fine else f"moviepy: status {status}: {said[-300:]}"

    attempts: list[Callable[[], str | None]] = [
        without_tensorboard,
        without_moviepy,
        lambda: told("HalfCheetah-v5", "mujoco"),
        lambda: told("ALE/Pong-v5", "atari"),
    ]
    return Figure.of(
        (attempt() for attempt in attempts[:cases]),
        "in a virtual environment that has everything but mujoco, ale-py, moviepy and TensorBoard",
    )
