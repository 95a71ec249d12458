"""Environments in processes of their own: the right choice where a step is dear.

Observations come back through shared memory, everything else through pipes. A process that dies or hangs is
noticed, named, and replaced where the recipe says so; none outlives this one.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from lit_rl.envs import allow
from lit_rl.envs.episode import EpisodeEnv
from lit_rl.envs.episodic import EpisodicEnv, Outcome, rows, split, write
from lit_rl.envs.guards import Guard
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import Array, EnvError, Observations

START_METHOD = "fork" if sys.platform == "linux" else "spawn"
OPENING_TIMEOUT = 60.0
"""Seconds a process has at least to open its environment: imports take their time."""
PATIENCE = 60.0
"""Seconds a process lives on after SIGTERM, for a parent that finishes its batch."""


class Job(NamedTuple):
    """What a process is told when it starts."""

    recipe: Env
    spec: EnvSpec
    allowed: set[str]
    memory: Any  # shared bytes, see _view
    parent: int  # process id
    seed: int
    env_index: int  # in the run, for its seed and its name
    slot: int  # row of the shared observations


class AsyncEnv(EpisodicEnv):
    """N environments, one process each; trajectories are bit-identical to those of the synchronous kind."""

    def __init__(self, recipe: Env, seed: int, first_index: int = 0) -> None:
        super().__init__(recipe, seed, first_index)
        self.spec = recipe.spec()
        self.context: Any = multiprocessing.get_context(START_METHOD)
        self.memory = self.context.RawArray(ctypes.c_byte, _nbytes(self.guard, self.num_envs))
        self.shared = _view(self.guard, self.memory, self.num_envs)
        self.processes: list[Any] = [None] * self.num_envs
        self.pipes: list[Connection | None] = [None] * self.num_envs
        for answer in self._open(range(self.num_envs)).values():
            if isinstance(answer, EnvError):
                self.close()
                raise answer

    def _open(self, indices: Iterable[int]) -> dict[int, Any]:
        """Start a process for each and wait until its environment is open."""
        for index in indices:
            self._end(index)
            ours, theirs = self.context.Pipe()
            code = (self.recipe, self.spec, set(allow.ALLOWED))
            job = Job(*code, self.memory, os.getpid(), self.seed, self.first_index + index, index)
            self.processes[index] = self.context.Process(target=_work, args=(theirs, job), daemon=True)
            self.processes[index].start()
            theirs.close()
            self.pipes[index] = ours
        return self._gather(dict.fromkeys(indices, max(OPENING_TIMEOUT, self.recipe.step_timeout)))

    def _send(self, index: int, *message: Any) -> None:
        pipe = self.pipes[index]
        if pipe is not None:
            try:
                pipe.send(message)
            except OSError:
                return  # it died: gathering its answer finds that out, with the exit code

    def _gather(self, timeouts: dict[int, float]) -> dict[int, Any]:
        """The answers of these environments, an error for one that raised, died, or took longer than its timeout."""
        start, answers = time.monotonic(), dict[int, Any]()
        waiting = {self.pipes[index]: index for index in timeouts}
        for pipe in [pipe for pipe in waiting if pipe is None]:
            answers[waiting[pipe]] = self._error(waiting.pop(pipe), "has no process any more")
        while waiting:
            limit = min(timeouts[index] for index in waiting.values())
            ready = wait(list(waiting), max(0.0, start + limit - time.monotonic()))  # type: ignore[arg-type]
            if not ready:
                late = [pipe for pipe, index in waiting.items() if timeouts[index] <= limit]
                for pipe in late:
                    index = waiting.pop(pipe)
                    answers[index] = self._error(index, f"hung: no answer for {limit:g} s (env.step_timeout), killed")
                    self._end(index)
            for pipe in ready:  # type: ignore[assignment]
                index = waiting.pop(pipe)
                try:
                    failed, answer = pipe.recv()  # type: ignore[union-attr]
                    answers[index] = EnvError(answer) if failed else answer
                except (EOFError, OSError):
                    self.processes[index].join(1.0)
                    answers[index] = self._error(index, f"died (exit code {self.processes[index].exitcode})")
                    self._end(index)
        return answers

    def _step(self, action: Array, obs: Observations, result: Outcome) -> None:
        for index, taken in enumerate(split(action)):
            self.actions[index].append(taken)
            self._send(index, "step", taken)
        answers = self._gather(dict.fromkeys(range(self.num_envs), self.recipe.step_timeout))
        write(obs, slice(None), self.shared)  # type: ignore[arg-type]
        rewards = [0.0] * self.num_envs
        for index, answer in sorted(answers.items()):
            if isinstance(answer, EnvError):
                result.errors[index] = answer
                write(obs, index, rows(self.obs, index))
                continue
            rewards[index], terminated, truncated = answer
            if terminated or truncated:
                result.terminated[index], result.truncated[index] = terminated, truncated
                result.ended.append(index)
        for index, text in self.guard.faults(obs, rewards, self.steps).items():
            result.errors.setdefault(index, self._error(index, text))
            rewards[index] = 0.0
        result.reward = np.array(rewards, np.float32)

    def _begin(self, indices: list[int], rebuild: set[int]) -> list[Any | EnvError]:
        opened = self._open([index for index in indices if index in rebuild])
        broken = {index: answer for index, answer in opened.items() if isinstance(answer, EnvError)}
        asked = [index for index in indices if index not in broken]
        for index in asked:
            self._send(index, "begin", self.episode[index])
        answers = broken | self._gather(dict.fromkeys(asked, self.recipe.step_timeout))
        return [self._row(index, answers[index]) for index in indices]

    def _replay(self, actions: list[list[Any]]) -> list[Any | EnvError | None]:
        for index, taken in enumerate(actions):
            self._send(index, "replay", self.episode[index], taken)
        limits = {index: self.recipe.step_timeout * (1 + len(taken)) for index, taken in enumerate(actions)}
        answers = self._gather(limits)
        return [self._row(index, answers[index]) for index in range(self.num_envs)]

    def _row(self, index: int, answer: Any) -> Any:
        """The observation that env ``index`` left in shared memory, or the answer itself where it left none."""
        return answer if isinstance(answer, EnvError) or not answer else rows(self.shared, index)

    def _end(self, index: int) -> None:
        process, pipe = self.processes[index], self.pipes[index]
        self.processes[index] = self.pipes[index] = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def close(self) -> None:
        """End all processes, first asking kindly; harmless when repeated."""
        for index in range(self.num_envs):
            self._send(index, "close")
        deadline = time.monotonic() + 2.0
        for index, process in enumerate(self.processes):
            if process is not None:
                process.join(max(0.0, deadline - time.monotonic()))
            self._end(index)


def _work(pipe: Connection, job: Job) -> None:
    """What a process does: open one environment, then as told."""
    _leave_signals_to_the_parent()
    allow.ALLOWED.update(job.allowed)
    gymnasium.registry.setdefault(job.spec.id, job.spec)  # a name registered at run time is unknown to a fresh process
    env: EpisodeEnv | None = None
    try:
        guard = Guard(job.recipe.observation_space)
        shared = _view(guard, job.memory, job.recipe.num_envs)
        env = EpisodeEnv(job.recipe, guard, job.seed, job.env_index)
        pipe.send((False, True))
        while True:
            while not pipe.poll(1.0):
                if os.getppid() != job.parent:
                    return
            command, *arguments = pipe.recv()
            if command == "close":
                return
            try:
                answer: Any = True
                if command == "step":
                    obs, *answer = env.step(*arguments)
                else:
                    obs = env.begin(*arguments) if command == "begin" else env.replay(*arguments)
                if obs is None:
                    answer = None
                else:
                    write(shared, job.slot, obs)
                pipe.send((False, answer))
            except EnvError as error:
                pipe.send((True, str(error)))
    except EnvError as error:
        pipe.send((True, str(error)))
    except (EOFError, OSError):
        return  # the parent is gone
    finally:
        if env is not None:
            env.close()


def _leave_signals_to_the_parent() -> None:
    """A terminal or a scheduler signals the whole group, and the parent still has a batch to finish and to save."""

    def end_later(number: int, frame: Any) -> None:
        timer = threading.Timer(PATIENCE, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_later)


def _nbytes(guard: Guard, num_envs: int) -> int:
    return sum(_padded(num_envs * leaf.dtype.itemsize * int(np.prod(leaf.shape))) for leaf in guard.leaves.values())


def _view(guard: Guard, memory: Any, num_envs: int) -> Observations:
    """The shared bytes as observations [N, ...], one array after the other."""
    views, offset = {}, 0
    for key, leaf in guard.leaves.items():
        count = num_envs * int(np.prod(leaf.shape))
        flat = np.frombuffer(memory, leaf.dtype, count, offset)
        views[key] = flat.reshape(num_envs, *leaf.shape)
        offset += _padded(flat.nbytes)
    return views if guard.is_dict else views[""]


def _padded(nbytes: int) -> int:
    return -(-nbytes // 64) * 64
