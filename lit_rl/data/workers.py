"""Processes that collect ahead of the learner, with the policy in shared memory."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lit_rl.batch import Rollout
from lit_rl.data.arrays import concatenate
from lit_rl.data.collector import Collector
from lit_rl.envs.async_ import START_METHOD
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import EnvError
from lit_rl.policies.policy import Policy


class Workers:
    """n processes, each with 1/n of the environments; together they deliver the rollout that one would.

    Each in-place optimiser step is seen by their next action. While the learner learns from one rollout they
    collect the next: what is handed out is one round old, whatever their number.

    Args:
        env: all environments.
        policy: acts; it is moved to shared memory.
        opening: acts instead while the learner asks for it, as in warm-up.
        seed: of the run.
        rank: of this process in the run.
        steps: T, of each environment in one rollout.
        count: n.

    Raises:
        ValueError: the environments cannot be shared out, or the policy is not on the CPU.
    """

    def __init__(
        self, env: Env, policy: Policy, opening: Policy | None, seed: int, rank: int, steps: int, count: int
    ) -> None:
        if env.num_envs % count:
            raise ValueError(f"data.workers is {count} and env.num_envs {env.num_envs}: it must be a multiple")
        if env.vectorization == "async":
            raise ValueError(
                "data.workers with env.vectorization 'async': a worker may not start processes of its own; "
                "use 'sync' in workers, or 'async' without workers"
            )
        if policy.version.device.type != "cpu":
            raise ValueError(f"data.workers act on the CPU and the policy is on {policy.version.device}: "
                             f"set data.act_device to cpu")  # fmt: skip
        self.count = count
        self._opens = torch.zeros((), dtype=torch.bool).share_memory_()  # whether ``opening`` acts
        self._ends = torch.zeros((), dtype=torch.bool).share_memory_()
        self._loader = DataLoader(
            _Share(
                env.replace(num_envs=env.num_envs // count),
                policy.share_memory(),
                opening,
                (seed, rank * count, steps),
                (self._opens, self._ends),
            ),
            batch_size=None,
            num_workers=count,
            prefetch_factor=1,
            collate_fn=as_it_is,
            multiprocessing_context=START_METHOD,
        )
        self._stream: Any = None

    def collect(self, opening: bool) -> Rollout:
        """The rollout [T, N] that is ready next; the processes begin another at once."""
        self._opens.fill_(opening)
        if self._stream is None:
            self._stream = iter(self._loader)
        shares = [next(self._stream) for _ in range(self.count)]
        for share in shares:
            if isinstance(share, EnvError):
                raise share
        return side_by_side(shares)

    def close(self) -> None:
        """End the processes; harmless when repeated."""
        self._ends.fill_(True)
        if self._stream is not None:
            self._stream._shutdown_workers()
            self._stream = None


class _Share(IterableDataset):
    """What one worker process does, without end."""

    def __init__(
        self,
        env: Env,
        policy: Policy,
        opening: Policy | None,
        place: tuple[int, int, int],
        flags: tuple[Tensor, Tensor],
    ) -> None:
        self.env, self.policy, self.opening, self.place, self.flags = env, policy, opening, place, flags

    def __iter__(self) -> Iterator[Rollout | EnvError]:
        info = get_worker_info()
        if info is None:
            raise RuntimeError("this data set belongs into a loader's worker process")
        seed, first_rank, steps = self.place
        opens, ends = self.flags
        leave_signals_to_the_learner(ends)
        collector = None
        try:
            # A resumed run begins new episodes, not the first ones again.
            seed += int(self.policy.env_steps)
            self.policy.begin_at(info.id * self.env.num_envs)
            collector = open_collector(self.env, self.policy, seed, first_rank + info.id)
            while True:
                yield collector.collect(steps, self.opening if opens else None)
        except EnvError as error:
            yield error
        finally:
            if collector is not None:
                collector.close()


def leave_signals_to_the_learner(ends: Tensor) -> None:
    """A terminal or a scheduler signals the whole group: only the learner stops, in order, and then ends us."""
    parent = os.getppid()

    def terminate(number: int, frame: Any) -> None:
        if ends or os.getppid() != parent:
            os._exit(128 + number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)


def open_collector(env: Env, policy: Policy, seed: int, rank: int) -> Collector:
    """Environments rank · N … (rank + 1) · N − 1 of a run, and an acting RNG of their own."""
    return Collector(env.open(seed=seed, first_index=rank * env.num_envs), policy, [seed, rank])


def side_by_side(shares: list[Rollout]) -> Rollout:
    """Rollouts [T, Nᵢ] of arrays as one [T, Σ Nᵢ]; its version is the oldest."""
    if len(shares) == 1:
        return shares[0]
    joined = {name: concatenate([getattr(share, name) for share in shares], 1) for name in _BY_STEP}
    envs = joined["reward"].shape[1]
    places, first = [], 0
    for share in shares:
        step, env = np.divmod(np.asarray(share.final_index), share.reward.shape[1])
        places.append(step * envs + first + env)
        first += share.reward.shape[1]
    final_index = np.concatenate(places)
    order = np.argsort(final_index)  # in time, as one collector has them
    final_obs = concatenate([share.final_obs for share in shares], 0)
    if isinstance(final_obs, dict):
        final_obs = {key: array[order] for key, array in final_obs.items()}
    else:
        final_obs = final_obs[order]
    return Rollout(
        **joined,
        final_obs=final_obs,
        final_index=final_index[order],  # type: ignore[arg-type]
        state=concatenate([share.state for share in shares], 0),
        version=min(share.version for share in shares),
    )


_BY_STEP = ("obs", "action", "log_prob", "reward", "terminated", "truncated", "episode_step")


def as_it_is(rollout: Any) -> Any:
    """Arrays through a pipe: for small rollouts ten times faster than a shared-memory file per tensor."""
    return rollout
