"""The one place that steps environments to learn from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lit_rl.batch import Rollout
from lit_rl.data.arrays import allocator, assign, concatenate, take, tensors
from lit_rl.envs.spaces import clipping
from lit_rl.envs.vector import EnvError, VectorEnv
from lit_rl.policies.policy import Policy

STRIDE = 8  # steps between two looks at whether all episodes are over
LONGEST = 100_000  # steps of an episode that is waited for


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
        self._new_obs, self._new_action = allocator(envs.observation_space), allocator(envs.action_space)

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
        obs = self._new_obs(steps + 1, count)
        action = self._new_action(steps, count)
        log_prob = np.empty((steps, count), np.float32)
        reward = np.empty((steps, count), np.float32)
        terminated = np.zeros((steps, count), bool)
        truncated = np.zeros((steps, count), bool)
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
            self._episode_step += 1
            self._state = act.state
            if step.final_obs is not None:
                terminated[t], truncated[t] = step.terminated, step.truncated
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
            final_obs=concatenate(final_obs) if final_obs else self._new_obs(0),
            final_index=np.concatenate(final_index) if final_index else np.empty(0, np.int64),
            state=first_state,
            version=np.array(version),
        )

    def collect_episodes(self, per_env: int) -> Rollout:
        """Play ``per_env`` whole episodes in every environment, from fresh starts, all by the policy of the moment.

        What an environment does after its own last episode, while others still play, is in the rollout but is no
        episode of it: the first to finish would be the short ones, and their return no fair sample.

        Returns:
            A :class:`Rollout` [T, N] in which only those episodes end: ``per_env`` · N places in ``final_index``.

        Raises:
            EnvError: an episode does not end.
        """
        if self._episode_step.any():
            self._obs = self.envs.restart()
            self._state = np.zeros_like(self._state)
            self._episode_step[:] = 0
        pieces, ended = [], np.zeros(self.num_envs, np.int64)
        while ended.min() < per_env:
            pieces.append(self.collect(STRIDE))
            ended += (pieces[-1].terminated | pieces[-1].truncated).sum(0)  # type: ignore[call-overload]
            if len(pieces) * STRIDE > LONGEST * per_env:
                raise EnvError(
                    f"an episode goes on after {LONGEST:,} steps, and whole ones are asked for: give the environment a "
                    f"time limit, as with env.wrappers [{{name: TimeLimit, kwargs: {{max_episode_steps: 500}}}}]"
                )
        rollout = _one_after_the_other(pieces)
        env = np.asarray(rollout.final_index) % self.num_envs
        earlier = np.array([(env[:place] == n).sum() for place, n in enumerate(env)])  # episodes of the same env
        kept = earlier < per_env
        return rollout._replace(final_index=rollout.final_index[kept], final_obs=take(rollout.final_obs, kept))

    def snapshot(self) -> dict[str, Any]:
        """All that :meth:`restore` needs, as tensors and plain Python."""
        return {
            "envs": None if self._obs is None else self.envs.snapshot(),
            "state": torch.from_numpy(np.array(self._state)),
            "episode_step": torch.from_numpy(self._episode_step.copy()),
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where :meth:`snapshot` was taken; what its environments have :meth:`lost` begins anew."""
        self._obs = None if state["envs"] is None else self.envs.restore(state["envs"])
        self._state = state["state"].numpy().copy()
        self._episode_step = state["episode_step"].numpy().copy()
        lost = self.lost()
        self._state[lost], self._episode_step[lost] = 0, 0
        self.rng.bit_generator.state = state["rng"]

    def lost(self) -> np.ndarray:
        """[N] bool: which episodes :meth:`restore` could not go on with."""
        return np.zeros(self.num_envs, bool) if self._obs is None else self.envs.lost()

    def close(self) -> None:
        """End the environments."""
        self.envs.close()


def _one_after_the_other(pieces: list[Rollout]) -> Rollout:
    """Consecutive rollouts [Tᵢ, N] of arrays as one [Σ Tᵢ, N]."""
    if len(pieces) == 1:
        return pieces[0]
    joined = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in _BY_STEP}
    first = np.cumsum([0, *(piece.reward.size for piece in pieces[:-1])])  # type: ignore[misc]
    steps = [take(piece.obs, slice(0, len(piece.reward))) for piece in pieces]
    rollout: Callable[..., Rollout] = Rollout  # its fields hold arrays
    return rollout(
        obs=concatenate([*steps, take(pieces[-1].obs, slice(-1, None))]),
        final_obs=concatenate([piece.final_obs for piece in pieces]),
        final_index=np.concatenate([at + piece.final_index for at, piece in zip(first, pieces, strict=True)]),
        state=pieces[0].state,
        version=pieces[0].version,
        **joined,
    )


_BY_STEP = ("action", "log_prob", "reward", "terminated", "truncated", "episode_step")


def as_tensors(rollout: Rollout) -> Rollout:
    """A collected rollout of arrays as one of tensors, over the same memory."""
    return tensors(rollout)
