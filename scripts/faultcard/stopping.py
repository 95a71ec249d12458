"""Stopping, being preempted, going on: signals at any moment, failed batches, exact resumption."""

import atexit
import contextlib
import dataclasses
import functools
import math
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scripts.faultcard import runs
from scripts.faultcard.harness import Figure, row
from scripts.faultcard.process import Child, run, wait_for

EPOCHS = 2
NAMES = ("PPO", "DQN", "SAC")


@functools.cache
def _home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="faults-stop-"))
    atexit.register(_remove, home, os.getpid())
    return home


def _remove(home: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)


@functools.cache
def _straight(name: str) -> Path:
    """The last checkpoint of a command line's run that nothing disturbed."""
    directory = _home() / f"straight-{name}"
    code, said = run(lambda: runs.command(runs.words(name, directory, EPOCHS)), _home() / "log")
    assert code == 0, said
    return runs.last(directory)


def _targets() -> list[tuple[Any, str]]:
    """Functions in the middle of collecting, storing, sampling, learning, saving and evaluating."""
    from lit_rl.agent import Agent
    from lit_rl.callbacks import SaveCheckpoint
    from lit_rl.checkpoint.sealed import HashingWriter
    from lit_rl.data.collector import Collector
    from lit_rl.data.memory import ReplayMemory
    from lit_rl.descent import Descent
    from lit_rl.optimizer import FusedAdam

    return [
        (Collector, "collect"), (ReplayMemory, "_gather"), (ReplayMemory, "add"), (Agent, "update"),
        (Descent, "_check_and_clip"), (FusedAdam, "step_directly"), (Agent, "record"), (HashingWriter, "_pass_on"),
        (SaveCheckpoint, "_write"), (Agent, "validation_step"), (Agent, "on_save_checkpoint"),
    ]  # fmt: skip


def _signal_inside(owner: Any, name: str, call: int, number: int, mark: Path | None = None) -> None:
    """Send this process a signal inside the ``call``-th call of a function, before and (odd calls) after its work."""
    original = getattr(owner, name)
    count = 0

    @functools.wraps(original)
    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        result = original(*arguments, **named) if call % 2 else None
        if count == call:
            if mark is not None:
                mark.write_text(repr(time.time()))
            os.kill(os.getpid(), number)
        return result if call % 2 else original(*arguments, **named)

    setattr(owner, name, called)


class _Stopped(NamedTuple):
    """One run that was told to stop, and went on."""

    where: str
    code: int
    seconds: float  # from the signal to the file
    fault: str | None  # of what was saved, and of going on from it
    gap: float  # largest difference of a weight at the end


@functools.cache
def _terminated(count: int) -> list[_Stopped]:
    """SIGTERM: two of three at a random instant from outside, the third inside a chosen function."""
    chance = random.Random(7)
    return [_terminate(index, chance) for index in range(count)]


def _terminate(index: int, chance: random.Random) -> _Stopped:
    name = NAMES[index % 3]
    targets = [t for t in _targets() if name != "PPO" or t[0].__name__ != "ReplayMemory"]
    straight, home = _straight(name), _home() / f"term{index}"
    owner, function = targets[index // 3 % len(targets)]
    inside, call = index % 2 == 0, chance.randrange(1, 4)
    mark = home.with_suffix(".mark")

    def train() -> int:
        if inside:
            _signal_inside(owner, function, call, signal.SIGTERM, mark)
        return runs.command(runs.words(name, home, 1000))

    child = Child(train, home.with_suffix(".log"))
    where = f"{name}, in {owner.__name__}.{function}" if inside else f"{name}, at a random instant"
    if inside:
        wait_for(mark.exists, child=child)
        moment = float(mark.read_text() or time.time())
    else:
        wait_for((home / "config.yaml").exists, child=child)
        time.sleep(chance.uniform(0, 0.5))
        moment = child.send(signal.SIGTERM)
    try:
        code = child.wait()
        seconds = max(0.0, runs.last(home).stat().st_mtime - moment)
        fault, gap = _went_on(name, runs.last(home), straight)
    except Exception as error:
        return _Stopped(where, -1, float("nan"), f"{where}: {type(error).__name__}: {error}", float("nan"))
    return _Stopped(where, code, seconds, fault and f"{where}: {fault}", gap)


def _went_on(name: str, path: Path, straight: Path) -> tuple[str | None, float]:
    """Resume from ``path`` in a new process; the end must be that of a run that nothing disturbed."""
    from lit_rl.checkpoint import read_manifest

    steps = read_manifest(path)["env_steps"]
    again = path.parent.parent.with_suffix(".again")
    epochs = EPOCHS
    if steps >= 160 * EPOCHS:  # it ran further than the straight one before the signal came
        epochs = steps // 160 + 1
        straight = _longer(name, epochs)
    code, said = run(lambda: runs.go_on(path, again, epochs) and 0, path.parent.parent.with_suffix(".log"))
    if code:
        return f"going on ended with {code}: {said[-300:]}", float("nan")
    result = runs.unequal(runs.last(again), straight), runs.largest_difference(runs.last(again), straight)
    shutil.rmtree(again)
    shutil.rmtree(path.parent.parent)
    return result


@functools.cache
def _longer(name: str, epochs: int) -> Path:
    directory = _home() / f"straight-{name}-{epochs}"
    code, said = run(lambda: runs.go_on(_straight(name), directory, epochs) and 0, _home() / "log")
    assert code == 0, said
    return runs.last(directory)


@row(7, "SIGTERM at random instants: saved, and resumed bit for bit", "n / n", kind="fault", quick=2, full=50)
def saved_and_resumed(folder: Path, count: int) -> Figure:
    return Figure.of(stopped.fault for stopped in _terminated(count))


@row(8, "SIGTERM: exit status 143", "n / n", kind="fault", quick=2, full=50)
def exit_status(folder: Path, count: int) -> Figure:
    found = _terminated(count)
    return Figure.of(None if one.code == 143 else f"{one.where}: exit status {one.code}" for one in found)


@row(9, "from SIGTERM to the file on the disk", "s", "p50 < 1, p99 < 5", limits={"p50": 1.0, "p99": 5.0},
     quick=2, full=50)  # fmt: skip
def time_to_save(folder: Path, count: int) -> Figure:
    """Of small networks, whose batches take milliseconds; a longer batch is finished first."""
    times = [one.seconds for one in _terminated(count)]
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    return Figure(0, 0, {"p50": statistics.median(times), "p99": p99}, note="the batch in progress is finished first")


@row(10, "SLURM's SIGUSR1: one save, one requeue, stop; the next turn goes on exactly", "n / n", kind="fault",
     quick=2, full=10)  # fmt: skip
def slurm(folder: Path, count: int) -> Figure:
    return Figure.of(_preempt(folder / str(index), index) for index in range(count))


def _preempt(folder: Path, index: int) -> str | None:
    """A scontrol that notes its arguments, and (odd cases) ends the job with SIGTERM as SLURM does."""
    name = NAMES[index % 3]
    straight, home, log = _straight(name), folder / "run", folder / "scontrol.log"
    folder.mkdir()
    scontrol = folder / "scontrol"
    kill = "kill -TERM $PPID\n" if index % 2 else ""
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{kill}')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "123", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0",
           "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "PATH": f"{folder}:{os.environ['PATH']}"}  # fmt: skip

    def turn(epochs: int, restarts: int) -> int:
        os.environ.update(job, **({"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}))
        return runs.command(runs.words(name, home, epochs))

    child = Child(lambda: turn(EPOCHS, 0), folder / "log")
    wait_for((home / "config.yaml").exists, child=child)
    time.sleep(0.02 * index)
    child.send(signal.SIGUSR1)
    code = child.wait()
    if code == 0 and not log.exists():
        return _preempt(folder.with_name(f"{folder.name}-"), index % 3)  # it had finished before the signal came
    calls = log.read_text().split("\n")[:-1] if log.exists() else []
    if code != 143 or calls != ["requeue 123"]:
        return f"{name}: exit status {code}, scontrol was called with {calls}: {child.said[-200:]}"
    code, said = run(lambda: turn(EPOCHS, 1), folder / "log")
    if code or "job 123 was queued again: going on with" not in said:
        return f"{name}: the next turn ended with {code}: {said[-200:]}"
    return runs.unequal(runs.last(home), straight)


@row(11, "Ctrl-C, to the whole process group: once saves, twice ends at once with the last file good", "n / n",
     kind="fault", quick=2, full=20)  # fmt: skip
def ctrl_c(folder: Path, count: int) -> Figure:
    return Figure.of(_interrupt(folder / f"run{index}", index) for index in range(count))


def _interrupt(home: Path, index: int) -> str | None:
    twice, name = index % 2 == 1, NAMES[index // 2 % 3]

    def train() -> int:
        if twice:  # batches that take longer than the pause between the two
            from lit_rl.agent import Agent

            update = Agent.update
            Agent.update = lambda self, minibatch: (time.sleep(0.05), update(self, minibatch))[1]  # type: ignore[method-assign]
        return runs.command(runs.words(name, home, 1000, "--model.env.vectorization=async"))

    child = Child(train, home.with_suffix(".log"))
    path = runs.last(home)
    wait_for(path.exists if twice else (home / "config.yaml").exists, child=child)
    before = path.stat().st_mtime_ns if twice else 0
    time.sleep(0.1 + 0.01 * index)
    os.killpg(child.pid, signal.SIGINT)
    if twice:
        time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGINT)
    begun = time.monotonic()
    code, took = child.wait(), time.monotonic() - begun
    if code != 130:
        return f"{name}: exit status {code}: {child.said[-200:]}"
    runs.state(path)
    if twice and took > 2:
        return f"{name}: ended after {took:.1f} s"
    return None if twice or path.stat().st_mtime_ns > before else f"{name}: nothing was saved"


def _save_every_batch(folder: Path) -> Any:
    from lightning.pytorch import Callback

    class EveryBatch(Callback):
        """Keeps the state of every moment between two batches."""

        def on_train_batch_end(self, trainer: Any, agent: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if not trainer.is_last_batch:
                self._save(trainer, agent)

        def on_train_epoch_end(self, trainer: Any, agent: Any) -> None:
            self._save(trainer, agent)

        def _save(self, trainer: Any, agent: Any) -> None:
            trainer.save_checkpoint(folder / str(agent.env_steps) / "last.ckpt")

    return EveryBatch()


@row(12, "states torn by a signal in the middle of an update of SAC", "torn / signals", "0", kind="fault", bad=True,
     quick=6, full=200)  # fmt: skip
def torn(folder: Path, signals: int) -> Figure:
    """What was saved must equal, bit for bit, what an undisturbed run is at that step: between two batches."""
    from tests.tiny import differences

    whole, chance = folder / "whole", random.Random(12)
    code, said = run(lambda: runs.fit(runs.tiny_agent("SAC"), whole, 2, None, _save_every_batch(whole)) and 0,
                     folder / "log")  # fmt: skip
    assert code == 0, said
    expected = {int(path.name): runs.state(path / "last.ckpt") for path in whole.iterdir() if path.name.isdigit()}
    targets = [t for t in _targets() if t[1] not in ("validation_step",)]

    def outcome(index: int) -> str | None:
        home = folder / f"run{index}"
        owner, name = targets[index % len(targets)]
        number = (signal.SIGTERM, signal.SIGINT)[index // len(targets) % 2]
        call = chance.randrange(1, 3 if name in ("_write", "on_save_checkpoint") else 6)
        mark = home.with_suffix(".mark")

        def train() -> int:
            _signal_inside(owner, name, call, number, mark)
            runs.fit(runs.tiny_agent("SAC"), home, 2)
            return 0

        code, said = run(train, home.with_suffix(".log"))
        if code or not mark.exists():
            return f"{owner.__name__}.{name}: exit status {code}, sent: {mark.exists()}: {said[-200:]}"
        saved = runs.state(runs.last(home))
        found = differences(saved, expected[saved["counters"][0]])
        steps = {float(part["step"]) for part in saved["optimizer"][0]["state"].values()}
        shutil.rmtree(home)
        if found or steps not in (set(), {float(saved["counters"][1])}):
            return f"{signal.Signals(number).name} in {owner.__name__}.{name}: {found[:2]}, optimiser steps {steps}"
        return None

    return Figure.of(outcome(index) for index in range(signals))


@row(13, "batches lost or repeated by going on after an exception, a kill -9, a signal", "count / runs", "0",
     kind="fault", bad=True, quick=3, full=24)  # fmt: skip
def lost_batches(folder: Path, count: int) -> Figure:
    """Every batch writes what it has come to; from the checkpoint on, the lines must be those of a straight run."""
    straight: dict[str, list[str]] = {}
    for name in NAMES[: max(1, min(3, count))]:
        code, said = run(lambda name=name: _journal(name, folder / name, 2, None, ""), folder / "log")  # type: ignore[misc]
        assert code == 0, said
        straight[name] = (folder / name / "journal").read_text().splitlines()
    chance = random.Random(13)
    kinds = ("exception", "kill -9", "SIGTERM")
    outcomes = [_lose(folder / f"run{i}", NAMES[i % 3], kinds[i // 3 % 3 if count > 3 else i % 3], straight, chance)
                for i in range(count)]  # fmt: skip
    wrong = sum(text is not None for text in outcomes)
    return Figure.of(outcomes, **{"lost transitions": 16 * wrong, "lost episodes": wrong})


def _journal(name: str, home: Path, epochs: int, path: Path | None, fault: str, after: int = 0) -> int:
    from lightning.pytorch import Callback

    from lit_rl.agent import Agent
    from lit_rl.callbacks import SaveCheckpoint

    home.mkdir(exist_ok=True)
    journal = open(home / "journal", "a")  # noqa: SIM115

    class Write(Callback):
        def on_train_batch_end(self, trainer: Any, agent: Any, *_: Any) -> None:
            total = sum(float(value.double().sum()) for value in agent.state_dict().values())
            journal.write(f"{agent.env_steps} {agent.updates} {total!r}\n")
            journal.flush()

    if fault:
        update, count = Agent.update, 0

        def failing(self: Any, minibatch: Any) -> None:
            nonlocal count
            count += 1
            if count == after:
                if fault == "exception":
                    raise ArithmeticError("injected")
                os.kill(os.getpid(), signal.SIGKILL if fault == "kill -9" else signal.SIGTERM)
            update(self, minibatch)

        Agent.update = failing  # type: ignore[method-assign]
    saver = SaveCheckpoint(str(home / "checkpoints"), every_env_steps=32)
    try:
        runs.fit(runs.tiny_agent(name), home, epochs, path, saver, Write())
    except ArithmeticError:
        return 1
    return 0


def _lose(home: Path, name: str, kind: str, straight: dict[str, list[str]], chance: random.Random) -> str | None:
    from lit_rl.checkpoint import read_manifest

    code, said = run(lambda: _journal(name, home, 2, None, kind, chance.randrange(20, 35)), home.with_suffix(".log"))
    if code not in {"exception": (1,), "kill -9": (-9,), "SIGTERM": (0,)}[kind]:
        return f"{name}, {kind}: exit status {code}: {said[-200:]}"
    path = runs.last(home)
    if not path.exists():
        return f"{name}, {kind}: nothing had been saved"
    steps = read_manifest(path)["env_steps"]
    before = (home / "journal").read_text().splitlines()
    code, said = run(lambda: _journal(name, home / "next", 2, path, ""), home.with_suffix(".log"))
    if code:
        return f"{name}, {kind}: going on ended with {code}: {said[-200:]}"
    after = (home / "next" / "journal").read_text().splitlines()
    whole = straight[name]
    if before != whole[: len(before)]:
        return f"{name}, {kind}: the run was another one before the fault"
    expected = [line for line in whole if int(line.split()[0]) > steps]
    if after != expected:
        counts = f"{len(after)} batches of {len(expected)}"
        return f"{name}, {kind}: went on with {after[:1]} instead of {expected[:1]}, {counts}"
    return None


def _cases(algorithm: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kinds of runs that one algorithm is resumed in."""
    from lit_rl import Prioritized, SequenceReplay
    from lit_rl.data.replay import Replay

    agent = runs.tiny_agent(algorithm)
    yield "sync", {}
    if type(agent.data) is Replay:
        yield "prioritised 3-step", {"data": {"prioritized": Prioritized(), "n_step": 3}}
    if type(agent.data) is SequenceReplay:
        yield "prioritised", {"data": {"prioritized": Prioritized()}}
    yield "async", {"env": dataclasses.replace(agent.env, vectorization="async")}


@functools.cache
def _resumed(all_algorithms: bool) -> list[tuple[str, str | None, float]]:
    """From each moment that was saved (warm-up, mid-episode, mid-epoch, the epoch's end) to the end of the run."""
    found = []
    for algorithm in runs.algorithms(few=not all_algorithms):
        for case, changes in _cases(algorithm):
            if case == "async" and not all_algorithms and algorithm != "DQN":
                continue
            home = Path(tempfile.mkdtemp(dir=_home()))
            found += [(f"{algorithm}, {case}, {moment}", *outcome)
                      for moment, *outcome in _resume(algorithm, changes, home, all_algorithms)]  # fmt: skip
            shutil.rmtree(home)
    return found


def _resume(algorithm: str, changes: dict[str, Any], home: Path, thorough: bool) -> list[tuple[str, str | None, float]]:
    def train(directory: Path, path: Path | None, *callbacks: Any) -> Callable[[], int]:
        def body() -> int:
            runs.fit(runs.tiny_agent(algorithm, **changes), directory, 2, path, *callbacks)
            return 0

        return body

    code, said = run(train(home / "straight", None, _save_every_batch(home)), home / "log")
    if code:
        return [("straight", said[-300:], float("nan"))]
    end = runs.last(home / "straight")
    moments = sorted(int(path.name) for path in home.iterdir() if path.name.isdigit())[:-1]
    middle = len(moments) // 2
    chosen = (
        [moments[0], moments[middle - 1], moments[middle], *moments[middle + 1 :][:1]]
        if thorough
        else [moments[middle - 1]]
    )
    found: list[tuple[str, str | None, float]] = []
    for moment in chosen:
        again = home / f"again{moment}"
        code, said = run(train(again, home / str(moment) / "last.ckpt"), home / "log")
        if code:
            found.append((f"step {moment}", f"ended with {code}: {said[-300:]}", float("nan")))
            continue
        one = runs.last(again)
        found.append((f"step {moment}", runs.unequal(one, end), runs.largest_difference(one, end)))
    return found


@row(14, "bit-exact resume: algorithms × environments × moments", "equal / cases", kind="resume", quick=1, full=2)
def exact(folder: Path, thorough: int) -> Figure:
    return Figure.of(fault and f"{case}: {fault}" for case, fault, _ in _resumed(thorough > 1))


@row(15, "largest difference of a weight after going on", "absolute", "0", limits={"max": 1e-300}, quick=1, full=2)
def difference(folder: Path, thorough: int) -> Figure:
    gaps = [gap for _, _, gap in _resumed(thorough > 1)]
    return Figure(0, 0, {"max": float("nan") if any(map(math.isnan, gaps)) else max(gaps)})


@row(16, "random streams restored", "of 6", kind="resume", quick=1, full=1)
def streams(folder: Path, _: int) -> Figure:
    """At the end of a run that went on in a process with other seeds, against one that was never stopped."""
    from tests.tiny import differences

    def train(directory: Path, path: Path | None, *callbacks: Any) -> int:
        runs.fit(runs.tiny_agent("DQN"), directory, 2, path, *callbacks)
        return 0

    for arguments in [(folder / "whole", None, 1), (folder / "again", folder / "112" / "last.ckpt")]:
        saves = [_save_every_batch(folder)] if arguments[1] is None else []
        code, said = run(lambda arguments=arguments, saves=saves: train(*arguments[:2], *saves), folder / "log")  # type: ignore[misc]
        assert code == 0, said
    one, two = ({**end["ranks"][0]["random"], **end["ranks"][0]["data"]}
                for end in map(runs.state, (runs.last(folder / "whole"), runs.last(folder / "again"))))  # fmt: skip
    names = {"Python": "python", "numpy": "numpy", "torch": "torch", "environments and acting": "source",
             "sampling of the replay": "rng"}  # fmt: skip
    outcomes = [f"{name} differs" if differences(one[key], two[key]) else None for name, key in names.items()]
    import torch

    if torch.cuda.is_available():
        outcomes.append("CUDA was not learnt on")
    outcomes.append(None if set(one) == set(two) else "other streams")
    return Figure.of(
        outcomes, note="the sixth is the set of streams itself; CUDA's is saved where a learner is on a GPU"
    )


@row(17, "the same seed twice: equal; another seed: not", "algorithms", kind="resume", quick=1, full=2)
def reproducible(folder: Path, thorough: int) -> Figure:
    from tests.tiny import draws

    def train(algorithm: str, directory: Path, seed: int) -> int:
        from lightning.pytorch import seed_everything

        seed_everything(seed, verbose=False)  # the networks' too
        runs.fit(runs.tiny_agent(algorithm), directory, 1, None, seed=seed)
        return 0

    outcomes = []
    for algorithm in runs.algorithms(few=thorough < 2):
        ends = []
        for turn, seed in enumerate((5, 5, 6)):
            home = folder / f"{algorithm}{turn}"
            code, said = run(lambda a=algorithm, h=home, s=seed: train(a, h, s), folder / "log")  # type: ignore[misc]
            assert code == 0, said
            ends.append(runs.last(home))
        fault = runs.unequal(ends[0], ends[1])
        if fault is None and draws(algorithm) and runs.largest_difference(ends[0], ends[2]) == 0:
            fault = "another seed gave the same"
        outcomes.append(fault and f"{algorithm}: {fault}")
    return Figure.of(outcomes)
