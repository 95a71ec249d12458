"""Where rollouts come from: environments in this process, or in worker processes that run ahead."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lit_rl.batch import Rollout
from lit_rl.data.collector import Collector, as_tensors
from lit_rl.data.statistics import EpisodeStatistics
from lit_rl.envs.recipe import Env
from lit_rl.policies.mirror import MirrorPolicy
from lit_rl.policies.policy import Policy


class Source:
    """Rollouts on demand. With ``workers`` = 0 they are collected when asked for, by the policy as it is then.

    With n workers, n processes collect ahead with the policy in shared memory: each in-place optimiser
    step is seen by their next action, and what is handed out is up to a few updates old. The behaviour's
    log-probabilities and its ``version`` come with the data, so that the lag can be corrected and logged.
    """

    def __init__(
        self, env: Env, policy: Policy, seed: int, rank: int, steps: int, workers: int, act_device: str
    ) -> None:
        if act_device != "same":
            policy = MirrorPolicy(policy, act_device)
        self.num_envs = env.num_envs
        self.statistics = EpisodeStatistics(env.num_envs * max(1, workers))
        self._steps = steps
        self._collector: Collector | None = None
        self._loader: DataLoader | None = None
        self._ahead: Iterator[Any] | None = None
        if workers == 0:
            self._collector = open_collector(env, policy, seed, rank)
        else:
            policy.share_memory()
            self._loader = DataLoader(
                _Worker(env, policy, seed, rank * workers, steps),
                batch_size=None,
                num_workers=workers,
                prefetch_factor=1,
            )

    def collect(self, policy: Policy | None = None) -> Rollout:
        """The next rollout [T, N] of arrays; ``policy`` may replace the acting one where nothing runs ahead."""
        if self._collector is not None:
            rollout = self._collector.collect(self._steps, policy)
            self.statistics.update(rollout)
            return rollout
        if self._ahead is None:
            self._ahead = iter(self._loader)  # type: ignore[arg-type]
        worker, rollout = next(self._ahead)
        self.statistics.update(rollout, worker * self.num_envs)
        return rollout

    def snapshot(self) -> dict[str, Any]:
        """What can be restored exactly: everything without workers, the statistics alone with them."""
        collector = None if self._collector is None else self._collector.snapshot()
        return {"collector": collector, "statistics": self.statistics.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`snapshot` was taken; environments in workers start new episodes."""
        if (self._collector is None) != (state["collector"] is None):
            raise ValueError(
                "data.workers was 0 on one side and not on the other: resume with the setting of the checkpoint"
            )
        if self._collector is not None:
            self._collector.restore(state["collector"])
        self.statistics.restore(state["statistics"])

    def close(self) -> None:
        """End environments and workers."""
        if self._collector is not None:
            self._collector.close()
        self._ahead = self._loader = None


def open_collector(env: Env, policy: Policy, seed: int, rank: int) -> Collector:
    """Environments rank · N … (rank + 1) · N − 1 of a run, and an acting RNG of their own."""
    return Collector(env.open(seed=seed, first_index=rank * env.num_envs), policy, [seed, rank])


class _Worker(IterableDataset):
    """Runs inside a loader's worker process and never ends."""

    def __init__(self, env: Env, policy: Policy, seed: int, first_rank: int, steps: int) -> None:
        self.env, self.policy, self.seed, self.first_rank, self.steps = env, policy, seed, first_rank, steps

    def __iter__(self) -> Iterator[tuple[int, Rollout]]:
        info = get_worker_info()
        if info is None:
            raise RuntimeError("this data set belongs into a loader's worker process")
        torch.set_num_threads(1)
        collector = open_collector(self.env, self.policy, self.seed, self.first_rank + info.id)
        try:
            while True:
                yield info.id, as_tensors(collector.collect(self.steps))
        finally:
            collector.close()
