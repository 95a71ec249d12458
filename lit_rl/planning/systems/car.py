"""A car that rolls without slipping (the kinematic bicycle).

ẋ = v cos ψ,  ẏ = v sin ψ,  ψ̇ = v tan δ / L,  v̇ = a
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.systems.system import System, runge_kutta


@dataclass(frozen=True)
class Car(System):
    """State (x, y, heading ψ, speed v) of the rear axle's middle; action (acceleration a, steering angle δ).

    Args:
        wheelbase: L, between the axles.
        max_steering: |δ| at most, below π/2.
    """

    wheelbase: float = 2.0
    dt: float = 0.1
    max_acceleration: float = 2.0
    max_steering: float = 0.5

    state_names: ClassVar[tuple[str, ...]] = ("x", "y", "heading", "speed")
    action_names: ClassVar[tuple[str, ...]] = ("acceleration", "steering")

    def __post_init__(self) -> None:
        if not 0.0 < self.max_steering < math.pi / 2:
            raise ValueError(f"Car.max_steering is {self.max_steering}; it must lie between 0 and π/2")

    @property
    def high(self) -> tuple[float, ...]:
        """(max_acceleration, max_steering)."""
        return (self.max_acceleration, self.max_steering)

    def __call__(self, state: Float[Tensor, "*B 4"], action: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 4"]:
        """The state one step later."""
        return runge_kutta(self._rate, state, self.clip(action), self.dt)

    def _rate(self, state: Float[Tensor, "*B 4"], action: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 4"]:
        _, _, heading, speed = state.unbind(-1)
        acceleration, steering = action.unbind(-1)
        return torch.stack(
            [speed * heading.cos(), speed * heading.sin(), speed * steering.tan() / self.wheelbase, acceleration], -1
        )
