"""Child processes that faults are dealt to."""

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

WANTED = ("tests.tiny", "lit_rl.cli.commands", "torch.utils.tensorboard", "gymnasium.envs.classic_control")


@cache
def prepare() -> None:
    """Import once what every child would import for itself: more than half of a short one's time."""
    for name in WANTED:
        with contextlib.suppress(ImportError):  # what is missing is the child's to tell
            importlib.import_module(name)


class Child:
    """A forked process that runs ``body``, with all imports of this one; what it prints goes into ``log``.

    It ends with what ``body`` returns (0 for None), 1 after an exception, and leads a process group of its own, so
    that nothing it started outlives :meth:`end`.
    """

    def __init__(self, body: Callable[[], int | None], log: Path) -> None:
        prepare()
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.setpgid(0, 0)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            code = 1
            warnings.simplefilter("always")  # what is said is part of what is measured
            try:
                code = body() or 0
            except SystemExit as done:
                code = done.code if isinstance(done.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def send(self, number: int) -> float:
        """Send a signal. Returns when (Unix time)."""
        moment = time.time()
        os.kill(self.pid, number)
        return moment

    def wait(self, timeout: float = 60.0) -> int:
        """The exit status, minus the number of the signal that killed it.

        Raises:
            TimeoutError: it did not end; it has been killed now.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        self.end()
        raise TimeoutError(f"a child process did not end in {timeout:g} s; it said: {self.said[-300:]}")

    def end(self) -> None:
        """Kill it and all that it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def run(body: Callable[[], int | None], log: Path, timeout: float = 120.0) -> tuple[int, str]:
    """Exit status and output of ``body`` in a child."""
    child = Child(body, log)
    return child.wait(timeout), child.said


def wait_for(condition: Callable[[], object], timeout: float = 60.0, child: Child | None = None) -> None:
    """Return when the condition holds.

    Raises:
        TimeoutError: it never did.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(
                f"waited {timeout:g} s in vain" + (f"; the child said: {child.said[-300:]}" if child else "")
            )
        time.sleep(0.001)
