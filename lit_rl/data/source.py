"""Where rollouts come from: environments in this process, or in worker processes that run ahead."""

from typing import Any, Literal

import numpy as np

from lit_rl.batch import Rollout
from lit_rl.data.collector import Collector
from lit_rl.data.statistics import EpisodeStatistics
from lit_rl.data.workers import Workers, open_collector
from lit_rl.envs.recipe import Env
from lit_rl.policies.mirror import MirrorPolicy
from lit_rl.policies.policy import Policy


class Source:
    """Rollouts on demand. With ``workers`` = 0 they are collected when asked for, by the policy as it is then.

    With n workers, n processes collect ahead (see :class:`Workers`). The behaviour's log-probabilities and
    its ``version`` come with the data, so that the lag can be corrected, and it is logged.
    """

    def __init__(
        self,
        env: Env,
        policy: Policy,
        seed: int,
        rank: int,
        steps: int,
        workers: int,
        act_device: Literal["same", "cpu"],
        opening: Policy | None = None,
    ) -> None:
        self.statistics = EpisodeStatistics(env.num_envs)
        self._num_envs = env.num_envs
        self.lag = 0  # updates between the policy that acted in the latest rollout and the one that learns from it
        self._policy, self._opening, self._steps = policy, opening, steps
        self._mirror = None if act_device == "same" else MirrorPolicy(policy, act_device)
        self._collector: Collector | None = None
        self._workers: Workers | None = None
        if workers == 0:
            self._collector = open_collector(env, self._mirror or policy, seed, rank)
        else:
            acting = policy if self._mirror is None else self._mirror.copy
            self._workers = Workers(env, acting, opening, seed, rank, steps, workers)

    def collect(self, opening: bool = False) -> Rollout:
        """The next rollout [T, N] of arrays; ``opening`` lets that policy act instead."""
        if self._collector is not None:
            rollout = self._collector.collect(self._steps, self._opening if opening else None)
        else:
            assert self._workers is not None
            if self._mirror is not None:
                self._mirror.refresh()  # only this process reaches the learner's weights
            rollout = self._workers.collect(opening)
            self.lag = int(self._policy.version) - int(rollout.version)
        self.statistics.update(rollout)
        return rollout

    @property
    def collector(self) -> Collector:
        """The collector in this process; there is none with workers."""
        assert self._collector is not None
        return self._collector

    def collect_episodes(self, per_env: int) -> Rollout:
        """Whole episodes, see :meth:`Collector.collect_episodes`; there are no workers then."""
        self.statistics.begin_anew()
        rollout = self.collector.collect_episodes(per_env)
        self.statistics.update(rollout)
        return rollout

    def summary(self) -> dict[str, float]:
        """Returns and lengths of finished episodes; with workers also the lag, in updates."""
        return self.statistics.summary() | ({} if self._workers is None else {"lag": float(self.lag)})

    def snapshot(self) -> dict[str, Any]:
        """What can be restored exactly: everything without workers, the finished episodes alone with them."""
        collector = None if self._collector is None else self._collector.snapshot()
        return {"collector": collector, "statistics": self.statistics.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`snapshot` was taken; environments in workers start new episodes."""
        if (self._collector is None) != (state["collector"] is None):
            raise ValueError(
                "data.workers was 0 on one side and not on the other: resume with the setting of the checkpoint"
            )
        self.statistics.restore(state["statistics"])
        if self._collector is not None:
            self._collector.restore(state["collector"])
        self.statistics.begin_anew(self.lost())

    def lost(self) -> np.ndarray:
        """[N] bool: in which environments :meth:`restore` could not go on with the episodes of the snapshot."""
        return np.ones(self._num_envs, bool) if self._collector is None else self._collector.lost()

    def close(self) -> None:
        """End environments and workers."""
        for part in (self._collector, self._workers):
            if part is not None:
                part.close()
