"""Policies that are a network: body, head, and the fast way through both."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.batch import Observation
from lit_rl.nn.fast import NumpyForward, numpy_forward
from lit_rl.nn.layers import run
from lit_rl.nn.network import BuiltBody
from lit_rl.policies.policy import Act, Policy


class NetworkPolicy(Policy, ABC):
    """body: observation → features; head: features → the parameters of a distribution over actions.

    Acting goes through numpy where the network is a small multilayer perceptron on the CPU (four times
    faster there than torch), through torch otherwise; both give the same numbers.
    """

    def __init__(self, body: BuiltBody, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.state_size = body.state_size
        self._fast: NumpyForward | None = None
        self._modes = any(isinstance(module, nn.Dropout | nn.modules.batchnorm._BatchNorm) for module in self.modules())

    @abstractmethod
    def choose(
        self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions [N] or [N, A] and their log-probabilities [N] from the head's outputs [N, P]."""

    @abstractmethod
    def greedy(self, obs: Observation) -> Tensor:
        """The action taken without exploration, as one traceable torch expression [B] or [B, A]."""

    def forward(self, obs: Observation) -> Tensor:
        """The greedy action: what is exported."""
        return self.greedy(obs)

    def outputs(self, obs: Observation) -> Tensor:
        """Head outputs [B, P] of a policy without memory."""
        return run(self.head, run(self.body, obs))

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        if self._fast is not None:
            outputs = self._fast(obs)
        else:
            outputs, state = self._through_torch(obs, state)
        action, log_prob = self.choose(outputs, obs, rng, explore)
        return Act(action, log_prob, state)

    def refresh(self) -> None:
        """Rebuild the numpy views where the weights moved to other memory."""
        if self._fast is None or self._fast.stale():
            self._fast = None if self.state_size else numpy_forward(self.body, self.head)

    def _through_torch(self, obs: Any, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        device = self.env_steps.device
        training = self.training
        if self._modes:
            self.eval()
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            tensors = observation_tensors(obs, device)
            if self.state_size:
                features, memory = self.body.step(tensors, torch.from_numpy(state).to(device))
                state = memory.float().cpu().numpy()
            else:
                features = self.body(tensors)
            outputs = self.head(features).float().cpu().numpy()
        if self._modes:
            self.train(training)
        return outputs, state

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fast": None}  # views of another process's memory are worthless


def observation_tensors(obs: Any, device: torch.device) -> Any:
    """Numpy observations, or a (nested) dict of them, as tensors on ``device``."""
    if isinstance(obs, dict):
        return {key: observation_tensors(value, device) for key, value in obs.items()}
    return torch.as_tensor(obs, device=device)


def legal_actions(obs: Any) -> Any:
    """The mask of legal actions [N, A] that an observation carries, or None."""
    return obs.get("action_mask") if isinstance(obs, dict) else None
