"""``lit-rl fit``: a new run, or one that goes on."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only

from lit_rl.agent import Agent
from lit_rl.callbacks import StopOnSignal, WatchRanks
from lit_rl.callbacks.slurm import job, was_requeued
from lit_rl.checkpoint import CheckpointError, newest_good, resolve_last
from lit_rl.cli.configuration import Words, directory_of, expand, names_model, read, take, to_yaml
from lit_rl.cli.directory import CHECKPOINTS, RunDirectory, find_checkpoint, run_directory
from lit_rl.cli.parsing import CommandLine, Options
from lit_rl.cli.refusal import Refusal, one_line
from lit_rl.cli.saved import CKPT_PATH, differences, model_config, read_checkpoint, refuse_unless, saved_agent
from lit_rl.examine import check_kind, check_resumable, check_weights
from lit_rl.loggers import curves

CONFIG = "config.yaml"  # in a run's directory: all of its arguments
JOB = "slurm-job"  # there: the number of the job that wrote it
TERMINATED = 128 + signal.SIGTERM
OPTIONS: Options = {
    "ckpt_path": (str | None, None, f"go on exactly from this checkpoint: {CKPT_PATH}"),
    "weights_only_start": (bool, False, "begin a new run with the weights of --ckpt_path, and nothing else of it"),
}


class RunFailed(Exception):
    """Training broke off; the message says from which checkpoint it can go on."""


def fit(arguments: list[str]) -> int:
    """Train. Returns the exit status.

    With ``--ckpt_path`` the algorithm, the environment and its spaces must be the checkpoint's; other arguments
    of the agent are the checkpoint's too, and those that were asked to be different are named. The trainer's
    arguments, such as ``max_epochs``, are this command line's, or else those of the run that wrote it. A job that
    SLURM has queued again goes on with its ``last.ckpt`` without being told to.
    """
    with ended_by_sigterm():
        words, name = take(expand(arguments), "ckpt_path")
        if name is None:
            line = CommandLine(words, "fit", OPTIONS)
            name = _of_this_job(Path(line.config.trainer.directory))
        if name is None:
            if line.config.weights_only_start:
                raise Refusal("--weights_only_start begins with the weights of a checkpoint: name it by --ckpt_path")
            return _Run(line, line.agent(), None, None).execute()
        return _go_on(words, name)


def _go_on(words: Words, name: str) -> int:
    if not names_model(words):
        words = _as_before(words, name)
    line = CommandLine(words, "fit", OPTIONS)
    path = find_checkpoint(name, line.config.trainer.directory)
    checkpoint = read_checkpoint(path)
    asked = line.agent()
    refuse_unless(check_kind, asked, path, checkpoint)
    if line.config.weights_only_start:
        refuse_unless(check_weights, asked, path, checkpoint)
        asked.load_state_dict(checkpoint["state_dict"])
        asked.policy.env_steps.zero_()
        asked.policy.version.zero_()
        _say(f"a new run with the weights of {path}")
        return _Run(line, asked, None, None).execute()
    agent = saved_agent(checkpoint)
    for check in (check_weights, check_resumable):
        refuse_unless(check, agent, path, checkpoint)
    if changed := differences(asked, checkpoint):
        _say(f"resuming with the checkpoint's {'; '.join(changed)}")
    return _Run(line, agent, path, checkpoint).execute()


def _of_this_job(directory: Path) -> str | None:
    """The checkpoint to go on from where SLURM has started this very job before, and it had saved one."""
    mark = directory / JOB
    if not (was_requeued() and mark.is_file() and mark.read_text("utf-8") == job()):
        return None
    if not (directory / CHECKPOINTS / "last.ckpt").is_file():
        return None
    path = str(resolve_last(directory / CHECKPOINTS))
    _say(f"job {job()} was queued again: going on with {path}")
    return path


def _as_before(words: Words, name: str) -> Words:
    """The words, below what the checkpoint and the configuration beside it say."""
    path = find_checkpoint(name, directory_of(words))
    config = run_directory(path) / CONFIG
    before = read(config) if config.is_file() else {}
    trainer = (before.get("trainer") or {}) | {"directory": str(run_directory(path))}
    base = {"seed_everything": before.get("seed_everything", 0), "trainer": trainer}
    return [base | {"model": model_config(read_checkpoint(path))}, *words]


class _Run:
    """One training run in its directory."""

    def __init__(self, line: CommandLine, agent: Agent, path: Path | None, checkpoint: dict[str, Any] | None) -> None:
        self.line, self.agent, self.path, self.checkpoint = line, agent, path, checkpoint
        self.directory = Path(line.config.trainer.directory)
        self.env_steps = 0 if checkpoint is None else int(checkpoint["lit_rl"]["env_steps"])
        logger = {}
        if checkpoint is not None and line.config.trainer.logger is None:  # curves go on from the checkpoint
            logger = {"logger": curves(self.directory, purge_step=self.env_steps + 1)}
        self.trainer = line.trainer_of(agent, **logger)
        self.started = _Started(self._write_config)
        self.trainer.callbacks.insert(0, self.started)  # before the callback that shows the configuration

    def execute(self) -> int:
        """Train, and say where things are."""
        total = self._total()
        if self.path is not None and total is not None and self.env_steps >= total:
            _say(f"nothing to do: {self.env_steps:,} of {total:,} env steps; --trainer.max_epochs sets the length")
            return 0
        here = self.path is not None and run_directory(self.path) == self.directory.resolve()
        run = RunDirectory(self.directory, resume=here)
        if run.moved_to is not None:
            _say(f"{self.directory} held an older run, which is now {run.moved_to}")
        try:
            return self._train()
        except Exception as error:
            if not self.started.value and isinstance(error, ValueError | OSError | CheckpointError):
                run.abandon()
                raise Refusal(one_line(error)) from error
            raise RunFailed(self._how_to_go_on(error)) from error
        finally:
            run.release()

    def _train(self) -> int:
        try:
            self.trainer.fit(self.agent, ckpt_path=self.path)
        except SystemExit as end:
            if end.code == TERMINATED:
                raise
            raise KeyboardInterrupt from None  # Lightning's answer to Ctrl-C before the callback took over
        stop = next((callback for callback in self.trainer.callbacks if isinstance(callback, StopOnSignal)), None)
        status = stop.exit_code if stop else None
        self._report(stopped=status is not None)
        if stop and stop.requeued:
            _say(f"job {job()} is queued again and will go on with last.ckpt")
        return status or 0

    def _total(self) -> int | None:
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 0:
            return None
        steps = self.agent.data.env_steps_per_epoch(self.agent.env.num_envs)
        return epochs * steps * self.trainer.world_size

    @rank_zero_only
    def _write_config(self) -> None:
        config = self.line.resolved()
        for option in OPTIONS:
            config.pop(option, None)
        if self.checkpoint is not None:
            config["model"] = model_config(self.checkpoint)
        temporary = self.directory / f"{CONFIG}.new"
        temporary.write_text(to_yaml(config), "utf-8")
        os.replace(temporary, self.directory / CONFIG)
        if (number := job()) is not None:
            (self.directory / JOB).write_text(number, "utf-8")

    def _how_to_go_on(self, error: Exception) -> str:
        lost = [callback.lost for callback in self.trainer.callbacks if isinstance(callback, WatchRanks)]
        text = "".join(lost) or one_line(error)  # not what a socket says of a process that is gone
        if "good" in text:  # it says so itself
            return text
        folder = self.directory / CHECKPOINTS
        good = newest_good(folder) if folder.is_dir() else None
        if good is None:
            return f"{text}; there is no checkpoint yet"
        steps = "" if good[1] is None else f" (env step {good[1]:,})"
        return f"{text}; last good checkpoint: {good[0]}{steps}; go on with --ckpt_path {good[0]}"

    @rank_zero_only
    def _report(self, stopped: bool) -> None:
        folder = self.directory / CHECKPOINTS
        best, last = folder / "best.ckpt", folder / "last.ckpt"
        value = self.trainer.callback_metrics.get("val/return")
        score = "" if value is None else f", val/return {float(value):.1f}"
        print(f"{'stopped' if stopped else 'done'} at {self.agent.env_steps:,} env steps{score}")
        print(f"  in     {self.directory}  (curves: tensorboard --logdir {self.directory})")
        for name, path in (("best", best), ("last", last)):
            if path.is_file():
                print(f"  {name}   {path}")
        shown = best if best.is_file() else last
        if shown.is_file() and not stopped:
            print(f"watch:   {_program()} play --ckpt_path {shown}")
        if last.is_file():
            epochs = "" if stopped else f" --trainer.max_epochs {2 * (self.trainer.max_epochs or 1)}"
            print(f"go on:   {_program()} fit --ckpt_path {last}{epochs}")


class _Started(Callback):
    """Whether training has begun: what is wrong before that is the configuration's fault, and leaves no trace."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.value, self.then = False, then

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.value = True
        self.then()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Before and after training, where :class:`StopOnSignal` does not listen, SIGTERM unwinds as Ctrl-C does."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():  # elsewhere Python allows no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@rank_zero_only
def _say(text: str) -> None:
    print(f"lit-rl: {text}", file=sys.stderr)


def _program() -> str:
    """What to type for ``lit-rl``: its path where the environment it lives in is not activated."""
    script = Path(sys.executable).parent / "lit-rl"
    if shutil.which("lit-rl") or not script.is_file():
        return "lit-rl"
    path = os.path.relpath(script)
    return str(script) if path.startswith("..") else path
