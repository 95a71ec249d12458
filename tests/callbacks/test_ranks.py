"""Processes that watch each other: two are joined here as in a run; the scorecard deals faults to whole runs."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Trainer

from lit_rl.callbacks import WatchRanks
from lit_rl.callbacks import ranks as module

HERE = socket.gethostname()


class Joined(Trainer):
    """As much of a trainer as a watch needs."""

    world_size: int = 2  # type: ignore[assignment]
    global_rank: int = 0  # type: ignore[assignment]
    is_global_zero: bool = True  # type: ignore[assignment]
    strategy: Any = None  # type: ignore[assignment]
    callbacks: Any = ()

    def __init__(self, rank: int, broadcast: Any = None, world_size: int = 2) -> None:
        self.global_rank, self.is_global_zero, self.world_size = rank, rank == 0, world_size
        self.strategy = SimpleNamespace(broadcast=broadcast)


class Pair:
    """Two ranks, the second one in a process of its own that does as it is told; what is broadcast goes by a pipe."""

    def __init__(self, tmp_path: Path, timeout: float, ending: str) -> None:
        self.log = tmp_path / "said"
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(writer)
            os.dup2(os.open(self.log, os.O_WRONLY | os.O_CREAT), 2)
            watch = self._joined(1, timeout, lambda mine: eval(os.read(reader, 1000)))
            if ending == "exception":
                watch.on_exception(Joined(1), None, ValueError("joint\nexploded"))
            elif ending == "teardown":
                watch.teardown(Joined(1), None, "fit")
            elif ending == "stay":
                time.sleep(60)
            os._exit(0 if ending else 3)
        self.watch = self._joined(0, timeout, lambda mine: (os.write(writer, repr(mine).encode()), mine)[1])

    def _joined(self, rank: int, timeout: float, broadcast: Any) -> WatchRanks:
        watch = WatchRanks(timeout)
        watch.setup(Joined(rank, broadcast), None, "fit")
        return watch

    def end(self) -> None:
        self.watch._over.set()
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(module, "PERIOD", 0.05)
    monkeypatch.setattr(module, "GRACE", 30.0)  # this process must live on
    made: list[Pair] = []

    def make(timeout: float = 30.0, ending: str = "stay") -> Pair:
        made.append(Pair(tmp_path, timeout, ending))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_a_process_that_dies_is_named(pair: Any) -> None:
    two = pair()
    time.sleep(0.3)
    assert two.watch.lost == ""
    os.kill(two.pid, signal.SIGKILL)
    assert two.watch._knows.wait(5)
    assert two.watch.lost == f"rank 1 (pid {two.pid} on {HERE}) died"


def test_a_process_that_is_stopped_is_named_and_killed(pair: Any) -> None:
    two = pair(timeout=0.5)
    os.kill(two.pid, signal.SIGSTOP)
    assert two.watch._knows.wait(5)
    assert two.watch.lost.endswith("gave no sign of life for 0.5 s and counts as lost")
    assert os.waitstatus_to_exitcode(os.waitpid(two.pid, 0)[1]) == -signal.SIGKILL


def test_a_process_that_fails_says_why_in_one_line(pair: Any) -> None:
    two = pair(ending="exception")
    assert two.watch._knows.wait(5)
    assert two.watch.lost == f"rank 1 (pid {two.pid} on {HERE}) failed: ValueError: joint exploded"
    error = RuntimeError("Connection closed by peer")
    two.watch.on_exception(Joined(0), None, error)
    assert two.watch.lost in getattr(error, "__notes__", [two.watch.lost])


def test_a_process_that_leaves_in_order_is_not_lost(pair: Any) -> None:
    two = pair(ending="teardown")
    os.waitpid(two.pid, 0)
    time.sleep(0.3)
    assert two.watch.lost == "" and two.watch._peers == {}


def test_the_others_end_with_status_1_and_the_name(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.2)  # of the child, which is forked from here
    two = pair()
    monkeypatch.setattr(module, "GRACE", 30.0)
    for peer in two.watch._peers.values():
        peer.tell("lost rank 7 (pid 1 on moon) died")
    assert os.waitstatus_to_exitcode(os.waitpid(two.pid, 0)[1]) == 1
    assert two.log.read_text() == "lit-rl: rank 7 (pid 1 on moon) died; there is no checkpoint yet\n"


def test_strangers_are_not_let_in(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    listen = socket.create_server

    def and_call(*arguments: Any, **named: Any) -> socket.socket:
        server = listen(*arguments, **named)
        stranger = socket.create_connection(("127.0.0.1", server.getsockname()[1]))
        stranger.sendall(b"secret 1 1 moon\n")
        taken.append(1)
        return server

    monkeypatch.setattr(socket, "create_server", and_call)
    two = pair()
    assert taken == [1]
    assert [peer.pid for peer in two.watch._peers.values()] == [two.pid]


def test_one_process_watches_nobody() -> None:
    before = threading.active_count()
    watch = WatchRanks()
    alone = Joined(0, world_size=1)
    watch.setup(alone, None, "fit")
    watch.on_exception(alone, None, ValueError())
    watch.teardown(alone, None, "fit")
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="more than 0 seconds"):
        WatchRanks(0)
