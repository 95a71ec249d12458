"""Gradients as they come: processes that act and differentiate with copies of the weights, none waiting for another."""

import contextlib
import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lit_rl.batch import Rollout, to_device
from lit_rl.bounds import refuse_below
from lit_rl.data.arrays import tensors
from lit_rl.data.experience import Experience, Round
from lit_rl.data.source import Source
from lit_rl.data.statistics import EpisodeStatistics
from lit_rl.data.workers import as_it_is, leave_signals_to_the_learner, open_collector
from lit_rl.envs.async_ import START_METHOD
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import EnvError
from lit_rl.policies.policy import Policy


class Work(ABC):
    """What a process does with the shared weights, by copies of its own; it is pickled to get there."""

    policy: Policy
    """The copy that acts."""

    @abstractmethod
    def share(self) -> None:
        """Move the learner's weights to shared memory."""

    @abstractmethod
    def read(self) -> None:
        """Copy the weights as they are now."""

    @abstractmethod
    def gradient(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The gradient by parameter, and scalars worth plotting, of a rollout of tensors."""


class Contribution(NamedTuple):
    """One gradient, from one worker."""

    rollout: Rollout  # [T, N / workers]; its version is that of the weights that acted
    gradient: dict[str, Tensor]  # by parameter
    scalars: dict[str, Tensor]
    version: Tensor  # [] int, updates seen by the weights at which the gradient was taken
    worker: Tensor  # [] int
    process: Tensor  # [] int, its process id


@dataclass(frozen=True)
class Asynchronous:
    """Recipe of gradients that several processes work out on environments of their own.

    Args:
        steps: T, steps of each environment between two readings of the weights.
        steps_per_epoch: environment steps (of one process) in an epoch, rounded up to whole rollouts.
        rollouts_per_batch: contributions handed to the trainer at once; bookkeeping, without influence on the result.
        workers: processes, each with its share of the environments; 0 works in this process, without lag.
        reread: read the weights once more between acting and differentiating: the gradient lags less, and the
            rollout is of an older policy than the gradient.
    """

    steps: int = 5
    steps_per_epoch: int = 10_000
    rollouts_per_batch: int = 100
    workers: int = 2
    reread: bool = True

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps", "steps_per_epoch", "rollouts_per_batch")
        refuse_below(self, 0, "workers")

    def round_steps(self, num_envs: int) -> int:
        """Environment steps behind one gradient."""
        return self.steps * num_envs // max(1, self.workers)

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Environment steps of one process in an epoch."""
        steps = self.round_steps(num_envs)
        return -(-self.steps_per_epoch // steps) * steps

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "AsynchronousExperience":
        """Open the environments; the agent adds its ``work`` before the first round.

        Raises:
            ValueError: the environments cannot be shared out.
        """
        if self.workers and env.num_envs % self.workers:
            raise ValueError(f"data.workers is {self.workers} and env.num_envs {env.num_envs}: it must be a multiple")
        if self.workers and env.vectorization == "async":
            raise ValueError("data.workers with env.vectorization 'async': a worker may start no processes; use 'sync'")
        return AsynchronousExperience(self, env, policy, seed, rank)


class AsynchronousExperience(Experience):
    """One round is one :class:`Contribution`, from whichever worker is ready first.

    A worker goes on when its contribution has been learnt from, so that with one worker nothing lags; with n
    at most the others' contributions lie between reading the weights and changing them.
    """

    work: Work

    def __init__(self, recipe: Asynchronous, env: Env, policy: Policy, seed: int, rank: int) -> None:
        self._round_steps = recipe.round_steps(env.num_envs)
        super().__init__(recipe.env_steps_per_epoch(env.num_envs) // self._round_steps, recipe.rollouts_per_batch)
        self.recipe, self.env, self._policy, self._place = recipe, env, policy, (seed, rank)
        self.lag = 0  # updates between the weights of the latest gradient and those that it moves
        self._processes: Processes | None = None
        self._here = Source(env, policy, seed, rank, recipe.steps, 0, "same") if recipe.workers == 0 else None
        envs = env.num_envs // max(1, recipe.workers)
        self._statistics = [EpisodeStatistics(envs) for _ in range(recipe.workers)]

    @property
    def writing(self) -> contextlib.AbstractContextManager[Any]:
        """Hold this while the weights change, so that no worker reads half of a step."""
        return contextlib.nullcontext() if self._processes is None else self._processes.lock

    def next_round(self) -> Round:
        """The contribution that is ready next."""
        if self._here is not None:
            self.work.read()
            contribution = contribute(self.work, self._here.collect(), worker=0)
        else:
            if self._processes is None:
                self._processes = Processes(self.recipe, self.env, self.work, self._place)
            contribution = self._processes.collect()
            self._statistics[int(contribution.worker)].update(contribution.rollout)
        self.lag = int(self._policy.version) - int(contribution.version)
        return Round(tensors(contribution), self._round_steps)

    def statistics(self) -> dict[str, float]:
        """Returns and lengths of finished episodes, a mean over the workers; and the lag of the latest gradient."""
        if self._here is not None:
            return self._here.summary()
        found = [summary for summary in (each.summary() for each in self._statistics) if summary]
        means = {name: sum(each[name] for each in found) / len(found) for name in (found[0] if found else ())}
        if found:
            means["episodes"] *= len(found)
        return means | {"lag": float(self.lag)}

    def snapshot(self) -> dict[str, Any]:
        """Everything without workers, the finished episodes alone with them."""
        return {
            "here": None if self._here is None else self._here.snapshot(),
            "statistics": [each.snapshot() for each in self._statistics],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`snapshot` was taken; environments in workers start new episodes."""
        if (self._here is None) != (state["here"] is None) or len(self._statistics) != len(state["statistics"]):
            raise ValueError("data.workers is another one than the checkpoint's: resume with its number")
        if self._here is not None:
            self._here.restore(state["here"])
        for each, saved in zip(self._statistics, state["statistics"], strict=True):
            each.restore(saved)
            each.begin_anew()

    def close(self) -> None:
        """End environments and processes."""
        for part in (self._here, self._processes):
            if part is not None:
                part.close()


def contribute(work: Work, rollout: Rollout, worker: int) -> Contribution:
    """What is made of a rollout; of arrays, which pass through a pipe ten times faster than tensors.

    In the precision of the weights, in this process as in a worker's, which a training step's autocast does not reach.
    """
    device = work.policy.version.device
    with torch.autocast(device.type, enabled=False):
        gradient, scalars = work.gradient(to_device(tensors(rollout), device))
    contribution: Callable[..., Contribution] = Contribution  # its fields hold arrays here, tensors for a learner
    return contribution(
        rollout,
        {name: tensor.cpu().numpy() for name, tensor in gradient.items()},
        {name: tensor.cpu().numpy() for name, tensor in scalars.items()},
        version=np.array(int(work.policy.version)),
        worker=np.array(worker),
        process=np.array(os.getpid()),
    )


class Processes:
    """The workers. Each has its turn when its last contribution has been learnt from."""

    def __init__(self, recipe: Asynchronous, env: Env, work: Work, place: tuple[int, int]) -> None:
        if work.policy.version.device.type != "cpu":
            raise ValueError("data.workers differentiate on the CPU: set trainer.accelerator to cpu, or workers to 0")
        context = multiprocessing.get_context(START_METHOD)
        self.lock = context.Lock()
        self._turns = [context.Semaphore(1) for _ in range(recipe.workers)]
        self._ends = torch.zeros((), dtype=torch.bool).share_memory_()
        self._latest: int | None = None
        work.share()
        share = env.replace(num_envs=env.num_envs // recipe.workers)
        self._stream: Any = iter(
            DataLoader(
                _Worker(recipe, share, work, place, self._turns, self.lock, self._ends),
                batch_size=None,
                num_workers=recipe.workers,
                prefetch_factor=1,
                collate_fn=as_it_is,
                multiprocessing_context=context,
                in_order=False,  # who is ready first comes first
            )
        )

    def collect(self) -> Contribution:
        """The next contribution. Asking for it says that the one before has been learnt from."""
        if self._latest is not None:
            self._turns[self._latest].release()
        contribution = next(self._stream)
        if isinstance(contribution, EnvError):
            raise contribution
        self._latest = int(contribution.worker)
        return contribution

    def close(self) -> None:
        """End the processes; harmless when repeated."""
        self._ends.fill_(True)
        for turn in self._turns:
            turn.release()
        if self._stream is not None:
            self._stream._shutdown_workers()
            self._stream = None


class _Worker(IterableDataset):
    """What one process does, without end."""

    def __init__(
        self, recipe: Asynchronous, env: Env, work: Work, place: tuple[int, int], turns: Any, lock: Any, ends: Tensor
    ) -> None:
        self.recipe, self.env, self.work, self.place = recipe, env, work, place
        self.turns, self.lock, self.ends = turns, lock, ends

    def __iter__(self) -> Iterator[Contribution | EnvError]:
        info = get_worker_info()
        assert info is not None
        leave_signals_to_the_learner(self.ends)
        work, (seed, rank), parent = self.work, self.place, os.getppid()
        collector = None
        try:
            work.read()
            seed += int(work.policy.env_steps)  # a resumed run begins new episodes, not the first ones again
            work.policy.begin_at(info.id * self.env.num_envs)
            collector = open_collector(self.env, work.policy, seed, rank * self.recipe.workers + info.id)
            while True:
                while not self.turns[info.id].acquire(timeout=1.0):
                    if os.getppid() != parent:
                        return
                if self.ends:
                    return
                with self.lock:
                    work.read()
                rollout = collector.collect(self.recipe.steps)
                if self.recipe.reread:
                    with self.lock:
                        work.read()
                yield contribute(work, rollout, worker=info.id)
        except EnvError as error:
            yield error
        finally:
            if collector is not None:
                collector.close()
