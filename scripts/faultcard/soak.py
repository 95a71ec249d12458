"""A long run with a fault every minute, beside one without."""

import os
import random
import re
import signal
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from scripts.faultcard.broken import FAULTY
from scripts.faultcard.harness import Figure, row
from scripts.faultcard.process import Child, wait_for
from scripts.faultcard.system import descendants, living

FAULTS = ("kill a worker", "stop a worker", "an environment raises", "SIGTERM, and resume")


class Soak(NamedTuple):
    """What came of it."""

    seconds: float
    steps: int  # of the run with faults
    steps_without: int  # of the run beside it, in the same time
    slowest: float  # of 10-second windows without a start in them, steps per second
    median: float
    faults: int
    outcomes: list[str | None]
    lost: int  # steps that a resumed run did again
    replay_lost: int  # transitions that were in the memory before a stop and not after


def _train(run: Path, go: Path, beats: Path) -> int:
    """DQN on two environments in processes, for ever; every batch leaves its step and the fill of its memory."""
    import warnings

    from lightning.pytorch import Callback

    import lit_rl
    from lit_rl.callbacks import StopOnSignal
    from lit_rl.cli.parsing import quiet

    quiet()
    warnings.simplefilter("always")

    class Beat(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._write(pl_module, "start")

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self._write(pl_module, "batch")

        def _write(self, agent: Any, word: str) -> None:
            held = len(agent.experience.memory)
            restarts = agent.experience.source._collector.envs.restarts
            with beats.open("a") as file:
                file.write(f"{word} {time.time()} {agent.env_steps} {held} {restarts}\n")

    lit_rl.allow("scripts")
    kwargs = {"rate": 1.0, "latest": 2, "rank": 0, "folder": str(go)}
    env = lit_rl.Env(FAULTY, 2, kwargs, vectorization="async", on_error="restart", step_timeout=2.0)
    data = lit_rl.Replay(1_000_000, 32, replay_ratio=0.25, warmup=200, steps_per_epoch=4_000, steps_per_batch=100)
    agent = lit_rl.DQN(env, data, evaluation=lit_rl.Episodes(2, max_steps=100))
    trainer = lit_rl.Trainer(str(run), 100_000, enable_progress_bar=False, callbacks=[Beat()], limit_val_batches=0)
    last = run / "checkpoints" / "last.ckpt"
    trainer.fit(agent, ckpt_path=str(last) if last.exists() else None)
    return next(c.exit_code for c in trainer.callbacks if isinstance(c, StopOnSignal)) or 0


def _read(beats: Path) -> list[tuple[str, float, int, int, int]]:
    lines = beats.read_text().splitlines() if beats.exists() else []
    return [(w, float(t), int(s), int(m), int(r)) for w, t, s, m, r in (x.split() for x in lines if x.count(" ") == 4)]


def soak(folder: Path, seconds: int) -> Soak:
    """Both runs, at the same time on the same machine."""
    import lit_rl.algorithms.q_learning.dqn
    import lit_rl.cli.parsing  # noqa: F401  what the children share: a resumed run does not pay for imports here

    chance, outcomes = random.Random(0), list[str | None]()
    paths = {name: (folder / name, folder / f"{name}-go", folder / f"{name}-beats") for name in ("faults", "none")}
    for _, go, _ in paths.values():
        go.mkdir()
    _, go, beats = paths["faults"]

    def start(name: str, number: int = 0) -> Child:
        child = Child(lambda: _train(*paths[name]), folder / f"{name}-log-{number}")
        count = len(_read(paths[name][2]))
        wait_for(lambda: len(_read(paths[name][2])) > count + 1, 240, child)
        return child

    runs = {"none": start("none"), "faults": start("faults")}
    begun, lost, replay_lost, number = time.time(), 0, 0, 0
    interval = min(60.0, seconds / 5)
    try:
        while time.time() - begun < seconds - interval / 2:
            time.sleep(max(0.0, begun + (number + 1) * interval - interval / 2 - time.time()))
            fault, child, number = FAULTS[number % len(FAULTS)], runs["faults"], number + 1
            before = _read(beats)[-1]
            workers = descendants(child.pid)
            if fault.startswith("SIGTERM"):
                child.send(signal.SIGTERM)
                status = child.wait(60)
                stopped = _read(beats)[-1]
                runs["faults"] = start("faults", number)
                again = next(beat for beat in _read(beats)[::-1] if beat[0] == "start")
                lost += max(0, stopped[2] - again[2])
                replay_lost += max(0, stopped[3] - again[3])
                fine = status == 143 and again[2] == stopped[2] and again[3] == stopped[3]
                outcomes.append(None if fine else f"{fault}: status {status}, {stopped} and then {again}")
                continue
            if fault == "an environment raises":
                (go / "go").touch()
            else:
                os.kill(chance.choice(workers), signal.SIGKILL if fault.startswith("kill") else signal.SIGSTOP)
            restarted = lambda least=before[4]: _read(beats)[-1][4] > least  # noqa: E731
            try:
                wait_for(restarted, 30, child)
                wait_for(lambda at=_read(beats)[-1][2]: _read(beats)[-1][2] > at, 30, child)
                outcomes.append(None)
            except TimeoutError as error:
                outcomes.append(f"{fault}: {error}")
        time.sleep(max(0.0, begun + seconds - time.time()))
        ended = time.time()
        started = [pid for child in runs.values() for pid in descendants(child.pid)]
        counts = {name: _span(_read(path[2]), begun, ended) for name, path in paths.items()}
    finally:
        for child in runs.values():
            child.end()
    wait_for(lambda: not living(started), 10)
    speeds = sorted(_windows(_read(beats), begun, ended)) or [0.0]
    named = sum(len(re.findall(r"env \d+ \(", log.read_text())) for log in folder.glob("faults-log-*"))
    if named == 0:
        outcomes.append("no fault was named in the log")
    return Soak(ended - begun, counts["faults"], counts["none"], speeds[0], speeds[len(speeds) // 2], number, outcomes,
                lost, replay_lost)  # fmt: skip


def _span(beats: list[Any], begun: float, ended: float) -> int:
    """Steps taken between two moments; a resumed run goes on from the step that it was stopped at."""
    inside = [beat for beat in beats if begun <= beat[1] <= ended]
    return inside[-1][2] - inside[0][2] if inside else 0


def _windows(beats: list[Any], begun: float, ended: float) -> list[float]:
    """Steps per second of each 10 seconds."""
    found = []
    at = begun
    while at + 10 <= ended:
        steps = [beat[2] for beat in beats if at <= beat[1] < at + 10]
        found.append((steps[-1] - steps[0]) / 10 if steps else 0.0)
        at += 10
    return found


@cache
def _soaked(seconds: int) -> Soak:
    """One soak serves two rows."""
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        return soak(Path(folder), seconds)


@row(43, "speed of training with a fault a minute, of that of a run without, side by side", "steps/s",
     ">= 95 % of fault-free", reported=True, quick=0, full=600)  # fmt: skip
def held_speed(folder: Path, seconds: int) -> Figure:
    found = _soaked(seconds)
    share = found.steps / max(1, found.steps_without)
    numbers = {"% lost": 100 * (1 - share), "p50 steps/s": found.median, "slowest 10 s steps/s": found.slowest}
    note = (f"{found.seconds:.0f} s (not an hour), {found.faults} faults in turn: {', '.join(FAULTS)}; DQN, two "
            f"environments in processes; {found.steps:,} steps beside {found.steps_without:,}; a resumed run's "
            f"start counts, without its imports")  # fmt: skip
    judged = seconds >= 300  # a shorter run has a fault every few seconds
    missed = [f"{100 * share:.1f} % of the steps of a run without faults"] if judged and share < 0.95 else []
    return Figure(int(judged and not missed), int(judged), numbers, missed, note)


@row(44, "steps and transitions lost in that run", "faults survived; lost", "0 from replay", kind="fault",
     limits={"lost transitions": 1, "steps done again": 1}, quick=0, full=600)  # fmt: skip
def lost_steps(folder: Path, seconds: int) -> Figure:
    found = _soaked(seconds)
    note = "a fault of an environment costs the episode that it breaks, and no step; its last step has reward 0"
    return Figure.of(found.outcomes, note, **{"lost transitions": found.replay_lost, "steps done again": found.lost})
