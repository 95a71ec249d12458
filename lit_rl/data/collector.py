"""The one place that steps environments to learn from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lit_rl.batch import Rollout
from lit_rl.data.arrays import assign, empty, join, tensors
from lit_rl.envs.spaces import clipping
from lit_rl.envs.vector import VectorEnv
from lit_rl.policies.policy import Policy


class Collector:
    """Live environments, the observations they stand at, the policy's memory, and the acting RNG.

    Episodes go on from one call to the next and are never restarted between them.
    """

    def __init__(self, envs: VectorEnv, policy: Policy, seed: list[int]) -> None:
        self.envs = envs
        self.policy = policy
        self.rng = np.random.default_rng(seed)
        self.num_envs = envs.num_envs
        self._obs: Any = None  # [N, ...]
        self._state = np.zeros((self.num_envs, policy.state_size), np.float32)
        self._episode_step = np.zeros(self.num_envs, np.int32)
        self._clip = clipping(envs.action_space)

    def collect(self, steps: int, policy: Policy | None = None) -> Rollout:
        """Take ``steps`` steps in every environment with ``policy`` (the collector's own by default).

        Returns:
            A :class:`Rollout` [T = steps, N] of numpy arrays that belong to the caller.
        """
        policy = policy or self.policy
        policy.refresh()
        version = int(self.policy.version)  # in a worker the weights may move on while it acts
        if self._obs is None:
            self._obs = self.envs.reset()
        count = self.num_envs
        obs = empty(self.envs.observation_space, steps + 1, count)
        action = empty(self.envs.action_space, steps, count)
        log_prob = np.empty((steps, count), np.float32)
        reward = np.empty((steps, count), np.float32)
        terminated = np.empty((steps, count), bool)
        truncated = np.empty((steps, count), bool)
        episode_step = np.empty((steps, count), np.int32)
        first_state = self._state.copy()
        final_obs: list[Any] = []
        final_index: list[np.ndarray] = []
        for t in range(steps):
            act = policy.act(self._obs, self._state, self.rng)
            assign(obs, t, self._obs)
            action[t] = act.action
            log_prob[t] = act.log_prob
            episode_step[t] = self._episode_step
            step = self.envs.step(self._clip(act.action))
            reward[t] = step.reward
            terminated[t] = step.terminated
            truncated[t] = step.truncated
            self._episode_step += 1
            self._state = act.state
            if step.final_obs is not None:
                ended = np.flatnonzero(step.terminated | step.truncated)
                final_obs.append(step.final_obs)
                final_index.append(t * count + ended)
                self._episode_step[ended] = 0
                self._state = np.array(self._state)
                self._state[ended] = 0.0
            self._obs = step.obs
        assign(obs, steps, self._obs)
        rollout: Callable[..., Rollout] = Rollout  # its fields hold arrays here, tensors for a learner
        return rollout(
            obs=obs,
            action=action,
            log_prob=log_prob,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            episode_step=episode_step,
            final_obs=join(final_obs, self.envs.observation_space),
            final_index=np.concatenate(final_index) if final_index else np.empty(0, np.int64),
            state=first_state,
            version=np.array(version),
        )

    def snapshot(self) -> dict[str, Any]:
        """All that :meth:`restore` needs, as tensors and plain Python."""
        return {
            "envs": None if self._obs is None else self.envs.snapshot(),
            "state": torch.from_numpy(np.array(self._state)),
            "episode_step": torch.from_numpy(self._episode_step.copy()),
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where :meth:`snapshot` was taken."""
        self._obs = None if state["envs"] is None else self.envs.restore(state["envs"])
        self._state = state["state"].numpy().copy()
        self._episode_step = state["episode_step"].numpy().copy()
        self.rng.bit_generator.state = state["rng"]

    def close(self) -> None:
        """End the environments."""
        self.envs.close()


def as_tensors(rollout: Rollout) -> Rollout:
    """A collected rollout of arrays as one of tensors, over the same memory."""
    return tensors(rollout)
