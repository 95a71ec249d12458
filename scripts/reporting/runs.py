"""Running tasks × seeds in processes of their own, each in one directory, so that a stopped report goes on."""

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from lit_rl import __version__
from scripts.reporting.tasks import ROOT, Task

FIT = (sys.executable, "-m", "lit_rl.cli", "fit")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
PACKAGES = ("torch", "lightning", "gymnasium", "numpy")
STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)


@dataclass(frozen=True)
class Run:
    """One seed of one task, in a directory of its own; what became of it stands beside that, in ``seed<S>.json``."""

    task: Task
    seed: int
    runs: Path

    @property
    def folder(self) -> Path:
        """The directory of the run."""
        return self.runs / self.task.name / f"seed{self.seed}"

    @property
    def checkpoint(self) -> Path:
        """What the run ended with, or goes on from."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def log(self) -> Path:
        """All that the run has printed."""
        return self.folder.with_suffix(".log")

    @property
    def record(self) -> dict[str, Any]:
        """Status, seconds and so on; empty before the first start."""
        path = self.folder.with_suffix(".json")
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    def write(self, record: dict[str, Any]) -> None:
        """Replace the record as a whole."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.folder.with_suffix(".json.new")
        temporary.write_text(json.dumps(record, indent=1), "utf-8")
        temporary.replace(self.folder.with_suffix(".json"))

    def digest(self) -> str:
        """Fingerprint of what the config says, comments aside, and of the arguments."""
        config = yaml.safe_load(self.task.path.read_text("utf-8"))
        content = json.dumps([config, self.task.arguments], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


class Runner:
    """Starts runs, as many at a time as asked, and notes what became of them.

    A finished run is left alone, one that was interrupted or has failed goes on from its last checkpoint.

    Args:
        processes: at a time; each computes with one thread.
        command: what takes the arguments of ``lit-rl fit``.
        say: takes one line per event.
    """

    def __init__(self, processes: int, command: Sequence[str] = FIT, say: Callable[[str], None] = print) -> None:
        self.processes, self.command, self.say = processes, tuple(command), say
        self._alive: set[int] = set()
        self._stopping = threading.Event()

    def run_all(self, runs: list[Run]) -> None:
        """Run what is left; a failure stops nothing but itself.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM came; the runs under way have saved and stopped.
        """
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with ThreadPoolExecutor(self.processes) as pool:
                futures = {pool.submit(self._run, run): run for run in runs}
                try:
                    for future in as_completed(futures):
                        self.say(f"{futures[future].task.name} seed {futures[future].seed}: {future.result()}")
                except KeyboardInterrupt:
                    self.say("stopping; runs under way save first, the same command goes on with them")
                    self._stopping.set()
                    for process in list(self._alive):
                        os.kill(process, signal.SIGTERM)
                    raise
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _run(self, run: Run) -> str:
        record = run.record
        if self._stopping.is_set():
            return "not started"
        if not run.task.path.exists():
            return f"failed: {run.task.config} does not exist"
        if record.get("digest", run.digest()) != run.digest():
            return f"skipped: made with another {run.task.config}; remove {run.folder}* to run it again"
        if record.get("status") == "finished":
            return "finished before"
        arguments = ["--config", str(run.task.path), *run.task.arguments, "--seed_everything", str(run.seed)]
        arguments += ["--trainer.directory", str(run.folder)]
        if run.checkpoint.exists():
            arguments += ["--ckpt_path", "last"]
        record = record | {"digest": run.digest(), "conditions": conditions(self.processes)}
        self._note(run, record, "started", "the report was killed while it ran")
        start = time.time()
        code, cpu_seconds, last_line = self._execute(arguments, run.log)
        record["seconds"] = record.get("seconds", 0.0) + time.time() - start
        record["cpu_seconds"] = record.get("cpu_seconds", 0.0) + cpu_seconds
        if code == 0:
            return self._note(run, record, "finished", "")
        if code in STOPPED or code < 0:
            return self._note(run, record, "interrupted", f"stopped by signal {-code if code < 0 else code - 128}")
        return self._note(run, record, "failed", last_line or f"exit status {code}")

    def _note(self, run: Run, record: dict[str, Any], status: str, message: str) -> str:
        run.write(record | {"status": status, "message": message})
        return f"{status}: {message}" if message else status

    def _execute(self, arguments: list[str], log: Path) -> tuple[int, float, str]:
        """Exit status (negative: a signal), CPU seconds with those of its children, last line of its output."""
        with log.open("ab") as output:
            begin = output.tell()
            environment = os.environ | ONE_THREAD
            process = subprocess.Popen(
                [*self.command, *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
            self._alive.add(process.pid)
            if self._stopping.is_set():
                process.terminate()
            _, status, usage = os.wait4(process.pid, 0)
            self._alive.discard(process.pid)
            process.returncode = os.waitstatus_to_exitcode(status)
        with log.open("rb") as written:
            written.seek(begin)
            lines = [line.strip() for line in written.read().decode(errors="replace").splitlines() if line.strip()]
        return process.returncode, usage.ru_utime + usage.ru_stime, lines[-1] if lines else ""


def conditions(processes: int) -> dict[str, str]:
    """Where, with what and when a run is made."""
    versions = [f"lit_rl {__version__}", *(f"{package} {version(package)}" for package in PACKAGES)]
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}; {processes} runs at a time",
        "versions": f"Python {platform.python_version()}, " + ", ".join(versions),
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
