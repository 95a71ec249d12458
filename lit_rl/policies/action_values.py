"""What acts by the values of its actions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.batch import Observation
from lit_rl.nn.fast import NumpyForward, numpy_forward
from lit_rl.nn.network import BuiltBody
from lit_rl.policies.categorical import best_action
from lit_rl.policies.exploration import Exploration
from lit_rl.policies.network import NetworkPolicy, legal_actions


class ActionValuePolicy(NetworkPolicy):
    """Explores over q(s, ·) = head(body(s)) as its recipe says; otherwise argmax_a q(s, a).

    The level of exploration is scheduled over env steps and read once per round of collecting.
    """

    def __init__(self, body: BuiltBody, head: nn.Module, exploration: Exploration) -> None:
        super().__init__(body, head)
        self.exploration = exploration
        self.level: Any = exploration.schedule(0)

    def refresh(self) -> None:
        """Also read the level."""
        super().refresh()
        self.level = self.exploration.schedule(int(self.env_steps))

    def begin_at(self, environment: int) -> None:
        """See :meth:`Policy.begin_at`; what explores by environment begins there."""
        self.exploration = self.exploration.beginning_at(environment)

    def values(self, outputs: Any) -> Any:
        """Outputs of the head [N, P] (arrays or tensors) → values of the actions [N, A]."""
        return outputs

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """See :meth:`NetworkPolicy.choose`."""
        values, mask = self.values(outputs), legal_actions(obs)
        if not explore:
            legal = values if mask is None else np.where(mask, values, -np.inf)
            return legal.argmax(-1), np.zeros(len(values), np.float32)
        return draw(self.exploration.probabilities(values, mask, self.level), rng)

    def probabilities(self, q: Tensor, mask: Tensor | None) -> Tensor:
        """π(·|s) [..., A] as it explores at its env steps, from values [..., A]; also of a copy that never acts."""
        level = self.exploration.schedule(int(self.env_steps))  # ``level`` is refreshed only where it acts
        return self.exploration.of_tensor(q, mask, level)

    def greedy(self, obs: Observation) -> Tensor:
        """argmax over the legal actions [B]."""
        return best_action(self.values(self.outputs(obs)), legal_actions(obs))


class MacroActionPolicy(ActionValuePolicy):
    """The head values whole sequences of ``steps`` actions [A^n]; the first action of one is worth the best of them.

    One action is executed, then it looks again (formula sheet 7.4.3a, F4).
    """

    def __init__(self, body: BuiltBody, head: nn.Module, exploration: Exploration, actions: int) -> None:
        super().__init__(body, head, exploration)
        self.actions = actions

    def values(self, outputs: Any) -> Any:
        """See :meth:`ActionValuePolicy.values`."""
        if isinstance(outputs, np.ndarray):
            return outputs.reshape(len(outputs), self.actions, -1).max(-1)
        return outputs.unflatten(-1, (self.actions, -1)).amax(-1)


class TwoEstimatorPolicy(ActionValuePolicy):
    """Acts on q_A + q_B, two networks of the same form (formula sheet 7.4a)."""

    body: "Pair"
    head: "Sum"

    def __init__(self, one: nn.Sequential, other: nn.Sequential, exploration: Exploration) -> None:
        bodies = Pair(one[0], other[0])  # type: ignore[arg-type]
        super().__init__(bodies, Sum(one[1], other[1]), exploration)

    def refresh(self) -> None:
        """Both networks through numpy, where they can be."""
        if self._fast is None or self._fast.stale():
            parts = [numpy_forward(*network) for network in self.estimators]
            self._fast = None if None in parts else _FastSum(*parts)  # type: ignore[assignment, arg-type]
        self.level = self.exploration.schedule(int(self.env_steps))

    @property
    def estimators(self) -> tuple[nn.Sequential, nn.Sequential]:
        """q_A and q_B, each body and head."""
        one, other = (nn.Sequential(*parts) for parts in zip(self.body.bodies, self.head.heads, strict=True))
        return one, other


class Pair(BuiltBody):
    """Features of two bodies side by side [B, 2D]."""

    def __init__(self, one: BuiltBody, other: BuiltBody) -> None:
        super().__init__()
        self.bodies = nn.ModuleList([one, other])
        self.out_features = one.out_features + other.out_features

    def forward(self, obs: Any) -> Tensor:
        """Observations [B, ...] → [B, 2D]."""
        return torch.cat([body(obs) for body in self.bodies], -1)

    def update_statistics(self, obs: Any) -> None:
        """See :meth:`BuiltBody.update_statistics`."""
        for body in self.bodies:
            body.update_statistics(obs)  # type: ignore[operator]


class Sum(nn.Module):
    """The sum of two heads [B, A], each on its half of the features."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.heads = nn.ModuleList([one, other])

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, 2D] → [B, A]."""
        one, other = features.chunk(2, -1)
        return self.heads[0](one) + self.heads[1](other)


class _FastSum:
    """Two numpy networks, added."""

    def __init__(self, one: NumpyForward, other: NumpyForward) -> None:
        self.one, self.other = one, other

    def __call__(self, obs: Any) -> np.ndarray:
        return self.one(obs) + self.other(obs)

    def stale(self) -> bool:
        return self.one.stale() or self.other.stale()


def draw(probabilities: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One action per row of probabilities [N, A] by inversion, with its log-probability [N]."""
    rows = len(probabilities)
    edges = probabilities.cumsum(-1)
    # the first action whose edge lies beyond the draw; a draw never reaches the last edge, whatever its rounding
    action = (edges > (rng.random(rows) * edges[:, -1])[:, None]).argmax(-1)
    return action, np.log(probabilities[np.arange(rows), action]).astype(np.float32)
