"""Noticing that one of several processes is gone."""

import os
import secrets
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_rl.callbacks.saving import SaveCheckpoint
from lit_rl.checkpoint import newest_good

PERIOD = 1.0  # seconds between two signs of life
OPENING = 20.0  # seconds that the processes have to find each other
GRACE = 3.0  # seconds that a process has to end by itself once another one is lost


class WatchRanks(Callback):
    """Ends a run of several processes when one of them is lost, and says which.

    A process that dies leaves the others with an error about a socket, one that hangs leaves them waiting for the
    half hour of a collective's timeout. So each has a thread that gives a sign of life every second over a connection
    with rank 0. Where one falls silent, or its connection breaks, all others end with exit status 1 and its name, and
    kill it if it still stands on their machine. Its last checkpoint is as it was.

    Args:
        timeout: seconds of silence after which a process counts as lost.
    """

    def __init__(self, timeout: float = 60.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}: it must be more than 0 seconds")
        self.timeout = timeout
        self.lost = ""  # what is known of the process that was
        self._peers: dict[int, _Peer] = {}
        self._knows, self._over = threading.Event(), threading.Event()

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Connect with the other processes."""
        if stage != "fit" or trainer.world_size == 1:
            return
        self.lost, self._peers = "", {}
        self._knows, self._over = threading.Event(), threading.Event()
        self._rank, self._folder = trainer.global_rank, _folder(trainer)
        try:
            self._peers = _meet(trainer)
        except OSError as error:
            rank_zero_warn(f"processes cannot watch each other ({error}): one that hangs will go unnoticed")
        _silence_lightning()
        self._thread = threading.Thread(target=self._watch, name="watch-ranks", daemon=True)
        self._thread.start()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Say what went wrong here, or which process made it go wrong."""
        if not self._peers:
            return
        from_elsewhere = "peer" in str(exception) or "connection" in str(exception).lower()
        if from_elsewhere:
            self._knows.wait(3 * PERIOD)
        if self.lost and sys.version_info >= (3, 11):
            exception.add_note(self.lost)
        reason = self.lost or f"{self._name()} failed: {type(exception).__name__}: {exception}"
        self._leave("lost " + " ".join(reason.split())[:500])

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Leave in order."""
        if self._peers:
            self._leave("done")

    def _name(self) -> str:
        return f"rank {self._rank} (pid {os.getpid()} on {socket.gethostname()})"

    def _leave(self, word: str) -> None:
        self._over.set()
        self._thread.join()
        for peer in self._peers.values():
            peer.tell(word)
            peer.connection.close()
        self._peers = {}

    def _watch(self) -> None:
        """What the thread does."""
        while not self._over.wait(PERIOD):
            for rank, peer in list(self._peers.items()):
                peer.tell("alive")
                for word in peer.hear():
                    if word == "done":
                        self._peers.pop(rank)
                        break
                    elif word.startswith("lost "):
                        return self._end(word.removeprefix("lost "))
                    elif word == "":
                        return self._end(f"{peer.name} died")
                if time.monotonic() - peer.heard > self.timeout:
                    peer.kill()
                    return self._end(f"{peer.name} gave no sign of life for {self.timeout:g} s and counts as lost")

    def _end(self, lost: str) -> None:
        """Let the others know, and end this process unless it is about to end by itself."""
        self.lost = lost
        self._knows.set()
        for peer in self._peers.values():
            peer.tell(f"lost {lost}")
        if self._over.wait(GRACE):
            return
        good = newest_good(self._folder) if self._folder is not None and self._folder.is_dir() else None
        last = "there is no checkpoint yet" if good is None else f"go on with --ckpt_path {good[0]}"
        os.write(2, f"lit-rl: {lost}; {last}\n".encode())
        os._exit(1)


class _Peer:
    """The connection with another process."""

    def __init__(self, connection: socket.socket, name: str, pid: int, host: str) -> None:
        self.connection, self.name, self.pid, self.host = connection, name, pid, host
        self.heard, self._rest = time.monotonic(), b""
        connection.settimeout(OPENING)

    def tell(self, word: str) -> None:
        try:
            self.connection.sendall(f"{word}\n".encode())
        except OSError:
            return  # it is gone: hearing from it will tell

    def hear(self) -> list[str]:
        """Words since the last time; an empty one where the connection is broken."""
        self.connection.setblocking(False)
        words: list[str] = []
        try:
            while True:
                received = self.connection.recv(4096)
                *whole, self._rest = (self._rest + received).split(b"\n")
                words += [word.decode() for word in whole]
                self.heard = time.monotonic()
                if not received:
                    return [*words, ""]
        except BlockingIOError:
            return words
        except OSError:
            return [*words, ""]
        finally:
            self.connection.settimeout(OPENING)

    def kill(self) -> None:
        """On this machine, so that it does not stay behind."""
        if self.host == socket.gethostname():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def _meet(trainer: Any) -> dict[int, _Peer]:
    """Rank 0 listens, the others call it; a word that only they know keeps strangers out."""
    listener = socket.create_server(("", 0), backlog=trainer.world_size) if trainer.is_global_zero else None
    mine = (listener.getsockname()[1], secrets.token_hex(16), os.getpid(), socket.gethostname()) if listener else None
    port, token, pid, host = trainer.strategy.broadcast(mine)
    if listener is None:
        address = os.environ.get("MASTER_ADDR", "127.0.0.1")
        connection = socket.create_connection((address, port), OPENING)
        peer = _Peer(connection, f"rank 0 (pid {pid} on {host})", pid, host)
        peer.tell(f"{token} {trainer.global_rank} {os.getpid()} {socket.gethostname()}")
        return {0: peer}
    peers: dict[int, _Peer] = {}
    end = time.monotonic() + OPENING
    with listener:
        while len(peers) < trainer.world_size - 1:
            listener.settimeout(max(0.1, end - time.monotonic()))
            try:
                connection, _ = listener.accept()
            except TimeoutError:  # those that came are watched all the same
                rank_zero_warn(f"only {len(peers) + 1} of {trainer.world_size} processes can watch each other")
                break
            connection.settimeout(5.0)
            try:
                said = connection.makefile("rb", buffering=0).readline(300).decode(errors="replace").split()
            except OSError:
                said = []
            if len(said) != 4 or not secrets.compare_digest(said[0], token):
                connection.close()
                continue
            rank, pid, host = int(said[1]), int(said[2]), said[3]
            peers[rank] = _Peer(connection, f"rank {rank} (pid {pid} on {host})", pid, host)
    return peers


def _folder(trainer: Any) -> Path | None:
    """Where checkpoints are kept."""
    return next((getattr(c, "folder", None) for c in trainer.callbacks if isinstance(c, SaveCheckpoint)), None)


def _silence_lightning() -> None:
    """Its own watch over the processes it launched kills all of them without a word, this one included."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer" and "lightning" in sys.modules:
            thread._child_processes = []  # type: ignore[attr-defined]
