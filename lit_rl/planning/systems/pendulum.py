"""A rod on a pivot, driven by a torque: Gymnasium's Pendulum-v1, with its limits or without.

θ̇' = clip(θ̇ + dt (3g/2l sin θ + 3/(m l²) u), ±max_speed),  θ' = θ + dt θ̇'
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.systems.system import System, wrap


@dataclass(frozen=True)
class Pendulum(System):
    """State (θ, θ̇) with θ = 0 upright, growing without end as in the environment; action (torque).

    Args:
        max_torque: the torque is clipped to ± this; infinite for a system that is smooth everywhere.
        max_speed: θ̇ is clipped to ± this; infinite for a system that is smooth everywhere.
    """

    gravity: float = 10.0
    mass: float = 1.0
    length: float = 1.0
    dt: float = 0.05
    max_torque: float = 2.0
    max_speed: float = 8.0

    state_names: ClassVar[tuple[str, ...]] = ("angle", "speed")
    action_names: ClassVar[tuple[str, ...]] = ("torque",)

    @classmethod
    def smooth(cls) -> "Pendulum":
        """Without limits: all derivatives exist everywhere."""
        return cls(max_torque=math.inf, max_speed=math.inf)

    @property
    def high(self) -> tuple[float, ...]:
        """max_torque."""
        return (self.max_torque,)

    def advance(
        self, angle: Float[Tensor, "*B"], speed: Float[Tensor, "*B"], torque: Float[Tensor, "*B"]
    ) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
        """The next angle and speed, under a torque within its limits."""
        lift, push = 3.0 * self.gravity / (2.0 * self.length), 3.0 / (self.mass * self.length**2)
        speed = (speed + self.dt * (lift * angle.sin() + push * torque)).clamp(-self.max_speed, self.max_speed)
        return angle + self.dt * speed, speed

    def __call__(self, state: Float[Tensor, "*B 2"], action: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B 2"]:
        """The state one step later."""
        angle, speed = state.unbind(-1)
        return torch.stack(self.advance(angle, speed, self.clip(action).squeeze(-1)), -1)

    def observe(self, state: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 3"]:
        """(cos θ, sin θ, θ̇)."""
        angle, speed = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), speed], -1)

    def state_of(self, observation: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 2"]:
        """See :meth:`System.state_of`."""
        cosine, sine, speed = observation.unbind(-1)
        return torch.stack([torch.atan2(sine, cosine), speed], -1)

    def cost(self, state: Float[Tensor, "*B 2"], action: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B"]:
        """θ² + 0.1 θ̇² + 0.001 u² with θ in [−π, π): minus the environment's reward. Its slope jumps at θ = ±π."""
        angle, speed = state.unbind(-1)
        return wrap(angle).square() + 0.1 * speed.square() + 0.001 * self.clip(action).squeeze(-1).square()

    def smooth_cost(self, state: Float[Tensor, "*B 2"], action: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B"]:
        """The same with 2(1 − cos θ) for θ², to which it is equal near the top: smooth everywhere."""
        angle, speed = state.unbind(-1)
        return 2.0 * (1.0 - angle.cos()) + 0.1 * speed.square() + 0.001 * action.squeeze(-1).square()
