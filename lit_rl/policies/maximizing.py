"""Acts by the best action that a search over a box finds in q(s, ·)."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from lit_rl.batch import Observation, map_tensors
from lit_rl.nn.heads import QFunction
from lit_rl.planning.maximize import Maximizer, Maximum
from lit_rl.policies.exploration import Noise
from lit_rl.policies.network import observation_tensors
from lit_rl.policies.policy import Act, Policy

Values = Callable[[Observation, Tensor], Tensor]  # observations [..., *shape], actions [..., A] → [...]


def maximize_q(
    q: Values, obs: Observation, rows: int, maximizer: Maximizer, space: tuple[Tensor, Tensor], draws: Tensor
) -> Maximum:
    """max_a q(s, a) over the box ``space`` = (low, high) for each of ``rows`` observations."""

    def value(action: Tensor) -> Tensor:
        beside = map_tensors(lambda t: t.unsqueeze(1).expand(-1, action.shape[1], *t.shape[1:]), obs)
        return q(beside, action)

    return maximizer.maximize(value, *space, rows, draws)


class MaximizingPolicy(Policy):
    """a = argmax_a q(s, a) as the maximiser finds it, explored with noise and clipped to the box.

    The maximiser's draws are the same at every step, so that its answer is a function of the state: what explores is
    the noise alone, and its density is that of the behaviour. What is stored is the action executed, after
    clipping; the log-probability is that of the noise before it.
    """

    low: Tensor
    high: Tensor
    draws: Tensor

    def __init__(self, q: QFunction, space: gymnasium.spaces.Box, maximizer: Maximizer, noise: Noise) -> None:
        super().__init__()
        self.q, self.maximizer, self.noise = q, maximizer, noise
        low, high = np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)
        self.register_buffer("low", torch.from_numpy(low), persistent=False)
        self.register_buffer("high", torch.from_numpy(high), persistent=False)
        draws = maximizer.draws(1, len(low), torch.Generator().manual_seed(0))
        self.register_buffer("draws", draws, persistent=False)
        self._low, self._high, self._half_width = low, high, (high - low) / 2
        self.state_size = len(low) if noise.correlated else 0
        self.sigma = noise.schedule(0)

    def refresh(self) -> None:
        """Read σ."""
        self.sigma = self.noise.schedule(int(self.env_steps))

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        device = self.env_steps.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            action = self.best(observation_tensors(obs, device), len(state)).action.cpu().numpy()
        log_prob = np.zeros(len(action), np.float32)
        if explore and self.sigma > 0:
            noise, log_prob = self.noise.draw(state, action.shape, self.sigma, rng)
            log_prob = log_prob - np.log(self._half_width).sum()
            action = np.clip(action + self._half_width * noise, self._low, self._high)
            state = noise if self.state_size else state
        return Act(action, log_prob, state)

    def best(self, obs: Observation, rows: int) -> Maximum:
        """The action that is taken without noise, and its value, for observations [B = ``rows``, ...]."""
        return maximize_q(self.q, obs, rows, self.maximizer, (self.low, self.high), self.draws)

    def forward(self, obs: Observation) -> Tensor:
        """The greedy action [B, A]: what is exported."""
        some = next(iter(obs.values())) if isinstance(obs, dict) else obs
        return self.best(obs, some.shape[0]).action
