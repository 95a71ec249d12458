"""Values of actions on top of a body."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from lit_rl.nn.body import Body
from lit_rl.nn.layers import Layers, run
from lit_rl.nn.mlp import VALUE_GAIN, linear_head
from lit_rl.nn.normalizer import Normalizer


class DuellingHead(nn.Module):
    """Q(s, ·) = V(s) + A(s, ·) − mean_a A(s, a). Formula sheet: H3 (Wang et al. 2016).

    Args:
        inputs: D, features of the body.
        actions: A.
        gain: of the orthogonal initialisation; ``None`` leaves torch's own.
    """

    def __init__(self, inputs: int, actions: int, gain: float | None = VALUE_GAIN) -> None:
        super().__init__()
        self.value = linear_head(inputs, 1, gain)
        self.advantage = linear_head(inputs, actions, gain)

    def forward(self, features: Float[Tensor, "*B D"]) -> Float[Tensor, "*B A"]:
        """Features → the value of every action."""
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(-1, keepdim=True)


class QFunction(nn.Module):
    """q(s, a) for continuous actions: the body reads the observation and the action together.

    Actions are in the units of the environment; the body sees them scaled to [−1, 1].

    Args:
        body: built for a Dict of ``observation`` and ``action``; it may not be recurrent.
        observation_space: of one environment.
        action_space: of one environment, a bounded Box [A].

    Raises:
        ValueError: another action space, or a body with a memory.
    """

    centre: Tensor  # [A]
    half_range: Tensor  # [A]

    def __init__(self, body: Body, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        super().__init__()
        if not isinstance(action_space, spaces.Box) or not action_space.is_bounded() or len(action_space.shape) != 1:
            raise ValueError(f"QFunction wants a bounded Box [A] of actions, not {action_space}")
        low, high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (action_space.low, action_space.high))
        self.register_buffer("centre", (high + low) / 2, persistent=False)
        self.register_buffer("half_range", (high - low) / 2, persistent=False)
        scaled = spaces.Box(-1.0, 1.0, action_space.shape, np.float32)
        self.body = body.build(spaces.Dict({"observation": observation_space, "action": scaled}))
        if self.body.state_size:
            raise ValueError("QFunction has no memory: give it an MLP or CNN, not Recurrent")
        gain = VALUE_GAIN if body.head_is_orthogonal else None
        self.head = linear_head(self.body.out_features, 1, gain)
        self._has_statistics = any(isinstance(module, Normalizer) for module in self.body.modules())

    def forward(self, obs: Tensor | dict[str, Any], action: Float[Tensor, "*B A"]) -> Float[Tensor, "*B"]:
        """Observations [..., *shape] and actions → their values."""
        return self.of_joined(self.join(obs, action))

    def of_joined(self, joined: dict[str, Any]) -> Float[Tensor, "*B"]:
        """The values, given what :meth:`join` made."""
        return run(self.head, self.body(joined)).squeeze(-1)

    def update_statistics(self, obs: Tensor | dict[str, Any], action: Float[Tensor, "*B A"]) -> None:
        """Take observations and actions into the running statistics of the body, where there are any."""
        if self._has_statistics:
            self.body.update_statistics(self.join(obs, action))

    def join(self, obs: Tensor | dict[str, Any], action: Float[Tensor, "*B A"]) -> dict[str, Any]:
        """What the body reads: observations beside scaled actions."""
        return {"observation": obs, "action": (action - self.centre) / self.half_range}


class Critics(nn.Module):
    """``n`` independent Q-functions: two for the minimum of clipped double Q, more for an ensemble.

    Args:
        n: E.
        body: of each; the other arguments are those of :class:`QFunction`.
    """

    def __init__(
        self, body: Body, observation_space: gymnasium.Space, action_space: gymnasium.Space, n: int = 2
    ) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"Critics has n={n}: at least one is needed")
        self.members = nn.ModuleList(QFunction(body, observation_space, action_space) for _ in range(n))

    def forward(self, obs: Tensor | dict[str, Any], action: Float[Tensor, "*B A"]) -> Float[Tensor, "E ..."]:
        """Observations and actions → the value under each member."""
        joined = self.members[0].join(obs, action)  # type: ignore[operator]  # the same for all
        return torch.stack([member.of_joined(joined) for member in self.members])  # type: ignore[operator]

    def update_statistics(self, obs: Tensor | dict[str, Any], action: Float[Tensor, "*B A"]) -> None:
        """Take observations and actions into the running statistics of every member, where there are any."""
        for member in self.members:
            member.update_statistics(obs, action)  # type: ignore[operator]


class DiscreteCritics(nn.Module):
    """``n`` independent networks with a value for every action of a Discrete space.

    Args:
        body: of each; it may not be recurrent.
        observation_space: of one environment.
        actions: A.
        n: E.

    Raises:
        ValueError: none is wanted, or the body has a memory.
    """

    def __init__(self, body: Body, observation_space: gymnasium.Space, actions: int, n: int = 2) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"DiscreteCritics has n={n}: at least one is needed")
        bodies = [body.build(observation_space) for _ in range(n)]
        if bodies[0].state_size:
            raise ValueError("DiscreteCritics have no memory: give them an MLP or CNN, not Recurrent")
        gain = VALUE_GAIN if body.head_is_orthogonal else None
        self.members = nn.ModuleList(Layers(built, linear_head(built.out_features, actions, gain)) for built in bodies)

    def forward(self, obs: Tensor | dict[str, Any]) -> Float[Tensor, "E *B A"]:
        """Observations [..., *shape] → the values of all actions under each member."""
        return torch.stack([member(obs) for member in self.members])

    def update_statistics(self, obs: Tensor | dict[str, Any]) -> None:
        """Take observations into the running statistics of every member, where there are any."""
        for member in self.members:
            member[0].update_statistics(obs)  # type: ignore[index]
