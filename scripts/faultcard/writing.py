"""Checkpoints being written: kills, full disks, directories that refuse, and what a save costs."""

import ctypes
import itertools
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.faultcard import runs
from scripts.faultcard.harness import Figure, row
from scripts.faultcard.process import Child, run, wait_for


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_while_saving(folder: Path, kills: int, megabytes: int, scratch: str | None) -> Figure:
    """Save for ever; kill -9; the file must be the last or the last but one that was completed.

    Two of three kills come at a random moment, the third at a chosen instruction: some bytes into the file, before the
    rename, after it.
    """
    import torch

    from lit_rl.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
    from lit_rl.checkpoint.sealed import HashingWriter

    path, done, chance = folder / "last.ckpt", folder / "done", random.Random(len(str(scratch)))

    def save_for_ever(moment: float | None) -> None:
        if scratch:
            os.environ["TMPDIR"] = scratch
        weights = torch.empty(megabytes * 250_000)
        for steps in itertools.count(1):
            if steps == 2 and moment is not None:
                _die_at(moment, int(4e6 * megabytes), os, HashingWriter)
            save_checkpoint({"weights": weights.fill_(steps), "lit_rl": {"env_steps": steps, "replay": None}}, path)
            done.write_text(f"{steps}.")

    def outcome(index: int) -> str | None:
        done.unlink(missing_ok=True)
        moment = chance.uniform(-0.2, 1.2) if index % 3 == 0 else None
        child = Child(lambda: save_for_ever(moment), folder / "log")
        wait_for(lambda: done.exists() and done.read_text().endswith("."), child=child)
        if moment is None:
            time.sleep(chance.uniform(0, 0.8 if megabytes >= 100 else 0.2))
            child.send(signal.SIGKILL)
        if child.wait() != -signal.SIGKILL:
            return f"the child was not killed: {child.said}"
        completed = int(done.read_text().rstrip(".") or 0)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            return str(error)
        steps = loaded["lit_rl"]["env_steps"]
        if not (loaded["weights"] == steps).all() or (completed and steps - completed not in (0, 1)):
            return f"holds step {steps} where {completed} were completed"
        return None

    outcomes = [outcome(index) for index in range(kills)]
    destroyed = sum(text is not None for text in outcomes)
    return Figure.of(outcomes, f"states of {megabytes} MB", **{"lost checkpoints": destroyed})


def _die_at(moment: float, size: int, system: Any, writer: Any) -> None:
    """Before the rename (< 0), after it (> 1), or when that part of the bytes is on the disk."""
    replace, pass_on = system.replace, writer._pass_on

    def replace_and_die(*arguments: Any) -> None:
        if moment > 1:
            replace(*arguments)
        _die()

    def write_and_die(self: Any, data: Any) -> None:
        pass_on(self, data)
        if 0 <= moment <= 1 and self.size >= moment * size / 4:
            self.file.flush()
            _die()

    system.replace, writer._pass_on = replace_and_die, write_and_die


@row(1, "kill -9 while a checkpoint is written, same file system", "destroyed / kills", "0", kind="fault", bad=True,
     quick=4, full=100)  # fmt: skip
def kill_same_file_system(folder: Path, kills: int) -> Figure:
    return _kill_while_saving(folder, kills, 100 if kills > 20 else 20, None)


@row(2, "kill -9 while a checkpoint is written, $TMPDIR on another file system", "destroyed / kills", "0",
     kind="fault", bad=True, quick=4, full=100)  # fmt: skip
def kill_other_file_system(folder: Path, kills: int) -> Figure:
    other = "/dev/shm"
    if not os.access(other, os.W_OK) or os.stat(other).st_dev == folder.stat().st_dev:
        return Figure(0, 0, skipped="there is no second file system here")
    return _kill_while_saving(folder, kills, 100 if kills > 20 else 20, other)


@row(3, "what kills -9 of training runs leave behind, after one restart", "MB; runs with a good last.ckpt and replay",
     "0 MB; all", kind="fault", limits={"MB": 1e-9}, quick=4, full=100)  # fmt: skip
def litter(folder: Path, kills: int) -> Figure:
    """A run with a replay saves after every batch; each start goes on from what the kill before it left."""
    from lit_rl.callbacks import SaveCheckpoint

    home, scratch, chance = folder / "run", folder / "tmp", random.Random(3)
    scratch.mkdir()
    path = runs.last(home)

    def train(epochs: int) -> None:
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        agent = runs.tiny_agent("DQN", data={"storage": "memmap"})
        saver = SaveCheckpoint(str(path.parent), every_env_steps=16)
        runs.fit(agent, home, epochs, path if path.exists() else None, saver)

    def outcome(_: int) -> str | None:
        before = path.stat().st_mtime_ns if path.exists() else 0
        child = Child(lambda: train(10**6), folder / "log")
        wait_for(lambda: path.exists() and path.stat().st_mtime_ns != before, child=child)
        time.sleep(chance.uniform(0, 0.1))
        child.send(signal.SIGKILL)
        child.wait()
        runs.state(path)  # verifies all of it
        return None

    outcomes = []
    for index in range(kills):
        try:
            outcomes.append(outcome(index))
        except Exception as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    from lit_rl.checkpoint import load_checkpoint

    left = runs.megabytes(folder)
    epochs = load_checkpoint(path)["epoch"] + 2
    code, said = run(lambda: train(epochs), folder / "log")
    if code:
        outcomes.append(f"the restart ended with {code}: {said[-200:]}")
    needed = {load_checkpoint(file)["lit_rl"]["replay"] for file in path.parent.glob("*.ckpt")}
    litter_there = [
        entry
        for entry in (*path.parent.iterdir(), *scratch.iterdir())
        if entry.suffix != ".ckpt" and entry.name not in needed
    ]
    size = sum(runs.megabytes(entry) if entry.is_dir() else entry.stat().st_size / 1e6 for entry in litter_there)
    lost = sum(text is not None for text in outcomes)
    note = f"{left:.2f} MB lay there before the restart, what is needed among it"
    return Figure.of(outcomes, note, MB=size + 1e-6 * len(litter_there), **{"lost checkpoints": lost})


@contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[Path | None]:
    """A file system of that size, where this process may mount one."""
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)


def _refused(home: Path, size: int, prepare: Callable[[], None], log: Path, word: str) -> str | None:
    """Save over a good file in a process whose disk refuses: it must say so, and the good file must stay."""
    import torch

    from lit_rl.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

    path = home / "last.ckpt"
    save_checkpoint({"weights": torch.ones(10), "lit_rl": {"env_steps": 1, "replay": None}}, path)

    def save() -> int:
        os.write(1, b"." * 4096)  # room that no limit can take away
        prepare()
        try:
            save_checkpoint({"weights": torch.ones(size // 4), "lit_rl": {"env_steps": 2, "replay": None}}, path)
        except CheckpointError as error:
            os.pwrite(1, f"{error}\n".encode(), 0)
            return 7
        return 0

    code, said = run(save, log)
    line = said.split("\n")[0]
    if code != 7:
        return f"no error was raised (exit status {code})"
    if load_checkpoint(path)["lit_rl"]["env_steps"] != 1 or list(home.glob(".tmp.*")):
        return "the good file is gone, or a half one is left"
    if word not in line or f"last good: {path} (env step 1)" not in line or "needs" not in line:
        return f"unclear: {line}"
    return None


@row(4, "disk full: the error says so, the previous file is intact, training goes on", "n / n", kind="fault",
     quick=5, full=10)  # fmt: skip
def disk_full(folder: Path, cases: int) -> Figure:
    outcomes: list[str | None] = []
    limits = [5_000, 400_000, 3_000_000, 4_000_500, 4_200, 70_000, 1_000_000, 2_000_000][: cases - 2]
    for index, limit in enumerate(limits):
        home = folder / f"limit{index}"
        set_limit = _limiter(limit)
        outcomes.append(_refused(home, 4_000_000, set_limit, folder / "log", "file size limit reached"))
    with _small_disk(folder, 12) as disk:
        note = ""
        if disk is None:
            note = "no small file system could be mounted: limits on the size of files only"
        else:
            outcomes.append(_refused(disk, 30_000_000, lambda: None, folder / "log", "no space left"))
            outcomes.append(_run_on_a_full_disk(disk, folder / "log"))
    return Figure.of(outcomes, note)


def _limiter(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _run_on_a_full_disk(disk: Path, log: Path) -> str | None:
    """The disk fills in mid-run: warnings, training to its end, exit status 1, and the last good file named."""
    home = disk / "run"

    def train() -> int:
        from lightning.pytorch import Callback

        class Fill(Callback):
            def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
                if trainer.current_epoch == 1:
                    _fill(disk / "ballast")

        from lit_rl.checkpoint import CheckpointError

        agent = runs.tiny_agent("DQN")
        try:
            runs.fit(agent, home, 3, None, Fill())
        except CheckpointError as error:
            print(f"ended with: {error} at {agent.env_steps} env steps")
            return 7
        return 0

    code, said = run(train, log)
    (disk / "ballast").unlink(missing_ok=True)
    if code != 7 or "no space left" not in said or "Training goes on" not in said or "at 240 env steps" not in said:
        return f"exit status {code}, and it said: {said[-300:]}"
    runs.state(runs.last(home))
    return None


def _fill(path: Path) -> None:
    try:
        with open(path, "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
    except OSError:
        pass


@row(5, "directory that cannot be written: clear error", "n / n", kind="fault", quick=5, full=5)
def unwritable(folder: Path, cases: int) -> Figure:
    """Read-only, impossible to make, a file in its place: before the first step. Later on: loud, and not 'finished'."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o777)
        return Figure.of(_in_a_refusing_directory(home, kind) for kind in _REFUSALS)


def _in_a_refusing_directory(home: Path, kind: str) -> str | None:
    place = home / kind
    place.mkdir()
    place.chmod(0o777)
    directory = {"deep": place / "a" / "b", "file": place / "file" / "c"}.get(kind, place / "checkpoints")
    if kind == "file":
        (place / "file").write_text("")

    def train() -> int:
        from lightning.pytorch import Callback

        from lit_rl.callbacks import SaveCheckpoint
        from lit_rl.checkpoint import CheckpointError

        runs.become_nobody()
        agent = runs.tiny_agent("PPO")

        class Later(Callback):
            def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
                if trainer.current_epoch == 1 and kind == "later":
                    directory.chmod(0o555)
                elif trainer.current_epoch == 1 and kind == "deleted":
                    shutil.rmtree(directory)

        try:
            runs.fit(agent, home / "run", 2, None, SaveCheckpoint(str(directory)), Later())
        except CheckpointError as error:
            print(f"ended with: {error} at {agent.env_steps} env steps")
            return 7
        return 0

    if kind in ("read-only", "deep"):
        place.chmod(0o555)
    log = home / f"{kind}.log"
    code, said = run(train, log)
    expected = {
        "read-only": (7, ["checkpoints cannot be written", "ermission denied", "at 0 env steps"]),
        "deep": (7, ["checkpoints cannot be written", "ermission denied", "at 0 env steps"]),
        "file": (7, ["checkpoints cannot be written", "at 0 env steps"]),
        "later": (7, ["checkpoint not saved", "Training goes on", "last good", "at 160 env steps"]),
        "deleted": (0, []),
    }[kind]
    for path in (place, directory):
        if path.is_dir():
            path.chmod(0o777)
    if code != expected[0] or any(word not in said for word in expected[1]):
        return f"{kind}: exit status {code}, and it said: {said[-300:]}"
    if kind in ("later", "deleted"):
        runs.state(directory / "last.ckpt")
    return None


_REFUSALS = ("read-only", "deep", "file", "later", "deleted")


@row(6, "a save reported as done with nothing on the disk", "silent / saves", "0", kind="fault", bad=True,
     quick=6, full=6)  # fmt: skip
def silent(folder: Path, cases: int) -> Figure:
    """Saves where the target is a directory, the parent a file or gone, the name too long, no descriptor is left."""
    import torch

    from lit_rl.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

    (folder / "dir.ckpt" / "x").mkdir(parents=True)
    (folder / "file").write_text("")
    (folder / "loop").symlink_to(folder / "loop")
    targets = {
        "a directory": folder / "dir.ckpt",
        "below a file": folder / "file" / "a.ckpt",
        "a long name": folder / ("n" * 300 + ".ckpt"),
        "a loop of links": folder / "loop" / "a.ckpt",
        "no descriptors": folder / "a.ckpt",
        "a new folder": folder / "new" / "deep" / "a.ckpt",
    }

    def outcome(what: str, path: Path) -> str | None:
        def save() -> int:
            content = {"weights": torch.ones(9), "lit_rl": {"env_steps": 5, "replay": None}}
            if what == "no descriptors":
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            try:
                save_checkpoint(content, path)
            except CheckpointError:
                return 7
            return 0

        code, said = run(save, folder / "log")
        if code not in (0, 7):
            return f"{what}: {said[-200:]}"
        if code == 0:
            load_checkpoint(path)
        return None if (code == 0) == os.path.isfile(path) else f"{what}: exit status {code}"

    return Figure.of(outcome(what, path) for what, path in targets.items())


def _replay(folder: Path, megabytes: int) -> Any:
    """An agent with that much in its replay."""
    from dataclasses import replace

    import numpy as np

    agent = runs.tiny_agent("DQN")
    rows = megabytes * 1_000_000 // 59
    data = replace(agent.data, capacity=rows)
    experience = data.open(agent.env, agent.policy, 0.99, 0)
    size = experience.memory.layout.itemsize * experience.memory.length * 2
    experience.memory.rows.view(np.ndarray).view(np.uint8)[...] = 7
    experience.memory.filled = experience.memory.length
    return experience, size


def _peak_of(body: Callable[[], None]) -> float:
    """MB by which the resident memory of this process grows at most while ``body`` runs."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    body()
    return (_status("VmHWM") - before) / 1e3


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@row(25, "memory that a save takes beside the state", "MB for a replay; part of the weights",
     "≤ 64 MB; ≤ 0.1", limits={"replay MB": 64.0, "of weights": 0.1, "to load, MB": 64.0},
     quick=400, full=1000)  # fmt: skip
def memory(folder: Path, megabytes: int) -> Figure:
    if not Path("/proc/self/clear_refs").exists():
        return Figure(0, 0, skipped="peaks are read from /proc of Linux")

    def measure() -> None:
        import torch

        from lit_rl.checkpoint import save_checkpoint

        experience, _ = _replay(folder, megabytes)
        peak = _peak_of(lambda: experience.save(folder / "replay-1" / "rank0"))
        load = _peak_of(lambda: experience.load(folder / "replay-1" / "rank0"))
        weights = torch.ones(megabytes * 250_000)
        saved = _peak_of(lambda: save_checkpoint({"weights": weights, "lit_rl": {}}, folder / "a.ckpt"))
        print(peak, load, saved / megabytes)

    code, said = run(measure, folder / "log", 300)
    if code:
        return Figure(0, 1, missed=[said[-300:]])
    peak, load, part = map(float, said.split()[-3:])
    numbers = {"replay MB": peak, "to load, MB": load, "of weights": part}
    return Figure(0, 0, numbers, note=f"replay and weights of {megabytes} MB each")


@row(26, "speed of saving and loading a replay, checksums verified", "MB/s", "report", reported=True,
     quick=100, full=1000)  # fmt: skip
def speed(folder: Path, megabytes: int) -> Figure:
    experience, size = _replay(folder, megabytes)
    begun = time.perf_counter()
    experience.save(folder / "replay-1" / "rank0")
    saved = time.perf_counter()
    experience.load(folder / "replay-1" / "rank0")
    loaded = time.perf_counter()
    experience.close()
    return Figure(0, 0, {"save": size / 1e6 / (saved - begun), "load": size / 1e6 / (loaded - saved)})


@row(27, "pause of training by a save", "ms", "report", reported=True, quick=20, full=200)
def pause(folder: Path, saves: int) -> Figure:
    """A small SAC with its replay, both files synced to the disk."""
    from lightning.pytorch import Callback

    from lit_rl.callbacks import SaveCheckpoint

    times: list[float] = []

    class Timed(SaveCheckpoint):
        def _write(self, *arguments: Any, **named: Any) -> bool:
            begun = time.perf_counter()
            done = super()._write(*arguments, **named)
            times.append((time.perf_counter() - begun) * 1e3)
            return done

    saver: Callback = Timed(str(folder / "checkpoints"), every_env_steps=16)
    runs.fit(runs.tiny_agent("SAC"), folder, -(-saves // 5), None, saver)
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    return Figure(0, 0, {"p50": statistics.median(times), "p99": p99}, note="small networks, replay of 60 rows")
