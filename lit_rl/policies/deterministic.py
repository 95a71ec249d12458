"""A deterministic action, and noise on top of it."""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.batch import Observation
from lit_rl.nn.network import BuiltBody
from lit_rl.policies.exploration import Noise
from lit_rl.policies.network import NetworkPolicy
from lit_rl.policies.policy import Act


class DeterministicPolicy(NetworkPolicy):
    """a = centre + half_width · tanh(head(body(s))), explored with noise and clipped to the bounds of a Box.

    What is stored is the action executed, after clipping; the log-probability is that of the noise before it.
    Correlated noise remembers its last value in the policy's state, which is zero where an episode begins.
    """

    centre: Tensor
    half_width: Tensor

    def __init__(self, body: BuiltBody, head: nn.Module, space: gymnasium.spaces.Box, noise: Noise) -> None:
        super().__init__(body, head)
        low, high = (np.asarray(bound, np.float32).reshape(-1) for bound in (space.low, space.high))
        self.register_buffer("centre", torch.from_numpy((high + low) / 2))
        self.register_buffer("half_width", torch.from_numpy((high - low) / 2))
        self.shape, self.noise = space.shape, noise
        self.state_size = len(low) if noise.correlated else 0
        self._low, self._high, self._centre, self._half_width = low, high, (high + low) / 2, (high - low) / 2
        self.sigma = noise.schedule(0)

    def refresh(self) -> None:
        """Also read σ."""
        state_size, self.state_size = self.state_size, 0  # the memory is the noise's, not the network's
        super().refresh()
        self.state_size = state_size
        self.sigma = self.noise.schedule(int(self.env_steps))

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        outputs = self._fast(obs) if self._fast is not None else self._through_torch(obs, state)[0]
        action, log_prob = self.choose(outputs, obs, rng, False)
        if explore and self.sigma > 0:
            noise, log_prob = self.noise.draw(state, outputs.shape, self.sigma, rng)
            log_prob = log_prob - np.log(self._half_width).sum()
            flat = action.reshape(outputs.shape) + self._half_width * noise
            action = np.clip(flat, self._low, self._high).reshape(action.shape)
            state = noise if self.state_size else state
        return Act(action, log_prob, state)

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """The action without noise; see :meth:`NetworkPolicy.choose`."""
        action = self._centre + self._half_width * np.tanh(outputs)
        return action.reshape(len(outputs), *self.shape), np.zeros(len(outputs), np.float32)

    def squash(self, outputs: Tensor) -> Tensor:
        """Outputs of the head [B, A] → actions [B, *shape]."""
        return self.scale(torch.tanh(outputs))

    def scale(self, action: Tensor) -> Tensor:
        """[−1, 1] [B, A] → the environment's units [B, *shape]."""
        return (self.centre + self.half_width * action).reshape(len(action), *self.shape)

    def unscale(self, action: Tensor) -> Tensor:
        """The inverse of :meth:`scale`."""
        action = action.reshape(len(action), -1).to(self.centre.dtype)  # a Box may be of float64
        return (action - self.centre) / self.half_width

    def greedy(self, obs: Observation) -> Tensor:
        """See :meth:`NetworkPolicy.greedy`."""
        return self.squash(self.outputs(obs))
