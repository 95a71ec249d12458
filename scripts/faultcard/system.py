"""What a run takes of the machine, and what it leaves behind; many hours in small."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.faultcard.harness import Figure, row
from scripts.faultcard.process import Child, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


def descendants(pid: int) -> list[int]:
    """Process ids of all living children, and theirs."""
    try:
        children = [int(word) for task in Path(f"/proc/{pid}/task").iterdir()
                    for word in (task / "children").read_text().split()]  # fmt: skip
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (child, *descendants(child))]


def living(pids: list[int]) -> list[int]:
    """Those that still run."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return [pid for pid in pids if runs(pid)]


def _trainer(folder: Path, epochs: int, **arguments: object) -> object:
    import lit_rl

    return lit_rl.Trainer(str(folder), epochs, enable_progress_bar=False, **arguments)


@row(40, "processes left after the end of a run, or after kill -9 of it", "processes left / runs", "0", kind="fault",
     bad=True, limits={"processes": 1}, quick=2, full=8)  # fmt: skip
def orphans(folder: Path, runs: int) -> Figure:
    import lit_rl
    import lit_rl.algorithms.policy_gradient.ppo  # what all children share

    def train(name: str, how: str) -> Callable[[], None]:
        def body() -> None:
            env = lit_rl.Env("CartPole-v1", 2, vectorization="async" if how == "async" else "sync")
            data = lit_rl.Rollouts(64, steps_per_epoch=512, workers=0 if how == "async" else 2)
            _trainer(folder / name, 4 if name.startswith("end") else 10_000).fit(lit_rl.PPO(env, data))  # type: ignore

        return body

    left = 0

    def outcome(number: int) -> str | None:
        nonlocal left
        how, killed = ("async", "workers")[number % 2], number % 3 > 0
        child = Child(train(f"{'kill' if killed else 'end'}-{number}", how), folder / f"log-{number}")
        wait_for(lambda: len(descendants(child.pid)) >= 2, 240, child)
        started = descendants(child.pid)
        if killed:
            time.sleep(random.Random(number).uniform(0.2, 1.5))
            started = sorted({*started, *descendants(child.pid)})
            child.send(signal.SIGKILL)
        child.wait(120)
        end = time.monotonic() + 8
        while living(started) and time.monotonic() < end:
            time.sleep(0.05)
        remaining = living(started)
        left += len(remaining)
        for pid in remaining:
            os.kill(pid, signal.SIGKILL)
        return f"{how}, {'killed' if killed else 'ended'}: {len(remaining)} left after 8 s" if remaining else None

    outcomes = [outcome(number) for number in range(runs)]
    return Figure.of(outcomes, "environments in processes, or workers that collect; a third of the runs end, the "
                     "others are killed", processes=left)  # fmt: skip


@row(41, "file descriptors, processes, threads and shared memory after opening and closing again and again", "more",
     "0", kind="fault", limits={"fd": 1, "proc": 1, "threads": 1, "shm": 1}, quick=12, full=200)  # fmt: skip
def handles(folder: Path, cycles: int) -> Figure:
    result = folder / "result"

    def held() -> list[int]:
        import gc
        import threading

        gc.collect()
        shared = len(os.listdir("/dev/shm"))
        return [len(os.listdir("/proc/self/fd")), len(descendants(os.getpid())), threading.active_count(), shared]

    def body() -> None:
        import numpy as np

        import lit_rl

        def cycle(number: int) -> None:
            env = lit_rl.Env("CartPole-v1", 2, vectorization=("async", "sync")[number % 2]).open(seed=number)
            env.reset()
            env.step(np.zeros(2, np.int64))
            env.close()

        def fit(number: int) -> None:
            env = lit_rl.Env("CartPole-v1", 2)
            data = lit_rl.Rollouts(16, steps_per_epoch=64, workers=2 * (number % 2))
            _trainer(folder / f"run-{number % 4}", 1).fit(lit_rl.PPO(env, data))  # type: ignore[attr-defined]

        fits = max(2, cycles // 10)
        for number in range(4):  # what is opened once and kept
            cycle(number)
            fit(number)
        before = held()
        for number in range(cycles):
            cycle(number)
        for number in range(fits):
            fit(number)
        more = [after - at_first for after, at_first in zip(held(), before, strict=True)]
        result.write_text(" ".join(map(str, [*more, fits])))

    child = Child(body, folder / "log")
    status = child.wait(1800)
    if status:
        return Figure(0, 1, missed=[child.said[-300:]])
    fd, proc, threads, shm, fits = map(int, result.read_text().split())
    counts = {"descriptors": fd, "processes": proc, "threads": threads, "segments": shm}
    outcomes = [None if more <= 0 else f"{more} more {name}" for name, more in counts.items()]
    return Figure.of(outcomes, f"{cycles} environments (half in processes), {fits} whole runs (half with 2 workers)",
                     fd=fd, proc=proc, threads=threads, shm=shm)  # fmt: skip


@row(42, "growth of memory over a long run", "MB per 100,000 steps", "< 1", kind="fault",
     limits={"rss MB/100k": 1.0}, quick=0, full=1_000_000)  # fmt: skip
def memory_slope(folder: Path, steps: int) -> Figure:
    result = folder / "result"

    def body() -> None:
        import numpy as np
        from lightning.pytorch import Callback

        import lit_rl

        seen: list[tuple[int, float]] = []

        class Watch(Callback):
            def on_train_epoch_end(self, trainer: object, pl_module: lit_rl.Agent) -> None:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                seen.append((pl_module.env_steps, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
                self.episodes = pl_module.experience.statistics()["episodes"]

        epoch = max(2_048, steps // 100)
        data, watch = lit_rl.Rollouts(128, steps_per_epoch=epoch), Watch()
        few = lit_rl.Episodes(2, max_steps=200)  # evaluated often, for a short time
        agent = lit_rl.PPO(lit_rl.Env("CartPole-v1", 16), data, epochs=1, minibatch_size=512, evaluation=few)
        trainer = _trainer(folder / "run", -(-steps // epoch), callbacks=[watch])
        trainer.fit(agent)  # type: ignore[attr-defined]
        settled = [(at, size) for at, size in seen if at >= 0.2 * steps]  # what is allocated once is there by then
        at, sizes = np.array(settled).T
        slope = np.polyfit(at / 1e5, sizes, 1)[0]
        result.write_text(f"{slope} {seen[0][1]} {seen[-1][1]} {agent.env_steps} {watch.episodes}")

    child = Child(body, folder / "log")
    status = child.wait(3600)
    if status:
        return Figure(0, 1, missed=[child.said[-300:]])
    slope, first, last, done, episodes = map(float, result.read_text().split())
    note = (
        f"PPO on 16 CartPoles with evaluation, checkpoints, TensorBoard: {done:,.0f} steps, {episodes:,.0f} episodes, "
        f"{first:.0f} MB after the first epoch, {last:.0f} MB after the last; the slope is of the last four fifths"
    )
    return Figure(0, 0, {"rss MB/100k": slope}, note=note)


@row(45, "several runs begun at the same moment in one directory: one runs, the others are refused", "collisions / "
     "starts", "0", kind="input", bad=True, quick=1, full=6)  # fmt: skip
def one_directory(folder: Path, starts: int) -> Figure:
    import lit_rl.cli.commands  # noqa: F401  what all children share

    words = ["fit", "--model", "PPO", "--model.env", "CartPole-v1", "--model.data.steps_per_epoch", "256",
             "--trainer.max_epochs", "100000", "--model.evaluation.count", "1"]  # fmt: skip

    def outcome(number: int) -> str | None:
        run = folder / str(number)

        def body() -> int:
            from lit_rl.cli import main

            return main([*words, "--trainer.directory", str(run)])

        children = [Child(body, folder / f"log-{number}-{each}") for each in range(3)]
        end, ended = time.monotonic() + 120, dict[int, int]()
        while len(ended) < 2 and time.monotonic() < end:
            for each, child in enumerate(children):
                pid, status = (0, 0) if each in ended else os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    ended[each] = os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        running = [each for each in range(3) if each not in ended]
        try:
            if len(running) != 1 or set(ended.values()) != {2}:
                return f"{len(running)} run, the others ended with {list(ended.values())}"
            wait_for((run / "checkpoints" / "last.ckpt").exists, 120, children[running[0]])
            said = [children[each].said for each in ended]
            events = list(run.glob("events.*"))
            clear = all("is in use by pid" in text and len(text.splitlines()) == 1 for text in said)
            return None if clear and len(events) == 1 and not Path(f"{run}.1").exists() else f"{said}, {events}"
        finally:
            for each in running:
                children[each].end()

    outcomes = [outcome(number) for number in range(starts)]
    return Figure.of(outcomes, "three processes each; the one that runs must reach its first checkpoint")


@row(47, "known vulnerabilities in the tested versions (pip-audit)", "count", "0", kind=None,
     limits={"vulnerabilities": 1})  # fmt: skip
def vulnerabilities(folder: Path, repeats: int) -> Figure:
    if shutil.which("pip-audit") is None:
        return Figure(0, 0, skipped="not measured: pip-audit is not installed here, and the service that it asks was "
                      "not at hand; run it where both are")  # fmt: skip
    command = ["pip-audit", "--requirement", str(ROOT / "scripts" / "constraints.txt"), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if not done.stdout.startswith("{"):
        return Figure(0, 0, skipped=f"not measured: pip-audit gave no answer: {' '.join(done.stderr.split())[-200:]}")
    return audited(json.loads(done.stdout)["dependencies"])


def audited(packages: list[dict[str, Any]]) -> Figure:
    """What pip-audit found. A package that it could not look up is not one without faults."""
    if unknown := [one["name"] for one in packages if "skip_reason" in one]:
        return Figure(0, 0, skipped=f"not measured: {len(unknown)} of {len(packages)} packages are unknown to the "
                      f"service that pip-audit asks, {unknown[0]} among them")  # fmt: skip
    found = [f"{one['name']} {one['version']}: {bug['id']}" for one in packages for bug in one["vulns"]]
    return Figure(0, 0, {"vulnerabilities": len(found)}, found)
