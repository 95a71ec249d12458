"""A network that turns noise into actions: a policy that can be sampled, whose density nobody knows."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lit_rl.batch import Observation, map_tensors
from lit_rl.nn.body import Body
from lit_rl.nn.heads import QFunction
from lit_rl.nn.mlp import POLICY_GAIN, linear_head
from lit_rl.policies.network import NetworkPolicy, observation_tensors
from lit_rl.policies.policy import Act


class SamplerPolicy(NetworkPolicy):
    """a = centre + half_width · tanh(u), u = ξ + f(ξ, s), ξ ~ N(0, I) with as many entries as the action, in a Box.

    f begins near 0, so that the first samples are spread over the whole box: a sampler that begins in one place learns
    one mode, however many there are.

    The greedy action is the best of ``candidates`` actions under q, made from the same noise every time. What it
    reports as the log-probability of a sample is 0, since it has none to report: no importance weight can be made.

    Args:
        body: of f; it reads observation and noise together.
        observation_space: of one environment.
        action_space: of one environment.
        q: what the greedy action is best under.
        candidates: among how many.

    Raises:
        ValueError: the body has a memory.
    """

    centre: Tensor
    half_width: Tensor
    fixed_noise: Tensor  # [candidates, A], the first of them 0

    def __init__(
        self,
        body: Body,
        observation_space: gymnasium.Space,
        action_space: spaces.Box,
        q: QFunction,
        candidates: int,
    ) -> None:
        low, high = (np.asarray(bound, np.float32).reshape(-1) for bound in (action_space.low, action_space.high))
        dimensions = len(low)
        noise = spaces.Box(-np.inf, np.inf, (dimensions,), np.float32)
        built = body.build(spaces.Dict({"noise": noise, "observation": observation_space}))
        if built.state_size:
            raise ValueError("SamplerPolicy has no memory: give it an MLP or CNN, not Recurrent")
        super().__init__(built, linear_head(built.out_features, dimensions, POLICY_GAIN))
        self.q, self.dimensions, self.shape = q, dimensions, action_space.shape
        self.register_buffer("centre", torch.from_numpy((high + low) / 2))
        self.register_buffer("half_width", torch.from_numpy((high - low) / 2))
        self._centre, self._half_width = (high + low) / 2, (high - low) / 2
        fixed = torch.randn(candidates, dimensions, generator=torch.Generator().manual_seed(0))
        fixed[0] = 0.0
        self.register_buffer("fixed_noise", fixed, persistent=False)

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        if not explore:
            with torch.no_grad(), torch.autocast(self.centre.device.type, enabled=False):
                action = self.greedy(observation_tensors(obs, self.centre.device))
            return Act(action.float().cpu().numpy(), np.zeros(len(state), np.float32), state)
        noise = rng.standard_normal((len(state), self.dimensions), dtype=np.float32)
        return super().act({"noise": noise, "observation": obs}, state, rng, explore)

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """Actions from outputs of f and the noise that stands in ``obs``; see :meth:`NetworkPolicy.choose`."""
        action = self._centre + self._half_width * np.tanh(obs["noise"] + outputs)
        return action.reshape(len(outputs), *self.shape), np.zeros(len(outputs), np.float32)

    def unsquashed(self, obs: Observation, noise: Tensor) -> Tensor:
        """u [M, B, A] from observations [B, ...] and noise [M, B, A]."""
        joined: dict[str, Any] = {"noise": noise, "observation": repeated(obs, len(noise))}
        return noise + self.outputs(joined)

    def squash(self, unsquashed: Tensor) -> Tensor:
        """u [..., A] → actions [..., A] in the environment's units."""
        return self.centre + self.half_width * torch.tanh(unsquashed)

    def candidates(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """Actions [M, B, A] from the fixed noise, and their values [M, B]."""
        noise = self.fixed_noise.unsqueeze(1).expand(-1, _rows(obs), -1)
        action = self.squash(self.unsquashed(obs, noise))
        return action, self.q(repeated(obs, len(noise)), action)

    def greedy(self, obs: Observation) -> Tensor:
        """See :meth:`NetworkPolicy.greedy`."""
        action, value = self.candidates(obs)
        best = value.argmax(0)[None, :, None].expand(1, -1, self.dimensions)
        return action.gather(0, best)[0].reshape(-1, *self.shape)

    def update_statistics(self, obs: Observation) -> None:
        """Take observations [K, B, ...] into the running statistics of f, where there are any."""
        first = obs if isinstance(obs, Tensor) else next(iter(obs.values()))
        noise = torch.randn(*first.shape[:2], self.dimensions, device=self.centre.device, dtype=self.centre.dtype)
        self.body.update_statistics({"noise": noise, "observation": obs})


def repeated(obs: Observation, count: int) -> Observation:
    """Observations [B, ...] as [count, B, ...], without a copy."""
    return map_tensors(lambda tensor: tensor.unsqueeze(0).expand(count, *tensor.shape), obs)


def _rows(obs: Observation) -> int:
    return len(obs) if isinstance(obs, Tensor) else len(next(iter(obs.values())))
