"""Returns and lengths of finished episodes, from raw rewards."""

from collections import deque
from typing import Any

import numpy as np
import torch

from lit_rl.batch import Rollout

WINDOW = 100  # episodes that the running mean covers


class EpisodeStatistics:
    """Follows N parallel reward streams and keeps the last finished episodes.

    Under truncation an episode counts as finished; the one running at the end of a rollout goes on in the next.
    """

    def __init__(self, num_envs: int) -> None:
        self.episodes = 0
        self._running = np.zeros(num_envs)  # undiscounted return so far, float64
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._lengths: deque[int] = deque(maxlen=WINDOW)

    def update(self, rollout: Rollout) -> None:
        """Read the rewards of a rollout [T, N] of arrays that continues the last one."""
        reward = np.asarray(rollout.reward)
        steps, count = reward.shape
        running = self._running
        if len(rollout.final_index) == 0:
            running += reward.sum(0, dtype=np.float64)
            return
        total = running + reward.cumsum(0, dtype=np.float64)  # [T, N]
        offset = np.zeros(count)  # of each env's return at its latest episode end
        for index in np.asarray(rollout.final_index):
            t, env = divmod(int(index), count)
            self._returns.append(float(total[t, env] - offset[env]))
            self._lengths.append(int(rollout.episode_step[t, env]) + 1)
            offset[env] = total[t, env]
            self.episodes += 1
        running[:] = total[steps - 1] - offset

    def summary(self) -> dict[str, float]:
        """Means over the last finished episodes; nothing before the first has finished."""
        if not self._returns:
            return {}
        return {
            "episode_return": float(np.mean(self._returns)),
            "episode_length": float(np.mean(self._lengths)),
            "episodes": float(self.episodes),
        }

    def begin_anew(self, which: np.ndarray | slice = slice(None)) -> None:
        """Forget the episodes in progress: these environments, all by default, start new ones."""
        self._running[which] = 0.0

    def snapshot(self) -> dict[str, Any]:
        """See :meth:`restore`."""
        return {
            "episodes": self.episodes,
            "running": torch.from_numpy(self._running.copy()),
            "returns": list(self._returns),
            "lengths": list(self._lengths),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`snapshot` was taken."""
        self.episodes = state["episodes"]
        self._running = state["running"].numpy().copy()
        self._returns = deque(state["returns"], maxlen=WINDOW)
        self._lengths = deque(state["lengths"], maxlen=WINDOW)
