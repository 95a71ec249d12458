"""A quadrotor seen from the side: two rotors lift and turn it.

m ẍ = −(u₁ + u₂) sin θ,  m z̈ = (u₁ + u₂) cos θ − m g,  I θ̈ = r (u₁ − u₂)
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.systems.system import System, runge_kutta


@dataclass(frozen=True)
class PlanarQuadrotor(System):
    """State (x, z, θ, ẋ, ż, θ̇), z upwards and θ > 0 turning left; action (right and left thrust in N, never negative).

    Args:
        arm: r, from the centre of mass to a rotor.
        inertia: I.
        max_thrust: of one rotor; hovering takes ``hover``.
    """

    mass: float = 0.5
    inertia: float = 0.004
    arm: float = 0.25
    gravity: float = 9.81
    dt: float = 0.02
    max_thrust: float = 6.0

    state_names: ClassVar[tuple[str, ...]] = ("x", "z", "angle", "x speed", "z speed", "angular speed")
    action_names: ClassVar[tuple[str, ...]] = ("right thrust", "left thrust")

    @property
    def hover(self) -> float:
        """The thrust of each rotor that holds it in place."""
        return 0.5 * self.mass * self.gravity

    @property
    def low(self) -> tuple[float, ...]:
        """0."""
        return (0.0, 0.0)

    @property
    def high(self) -> tuple[float, ...]:
        """max_thrust."""
        return (self.max_thrust, self.max_thrust)

    def __call__(self, state: Float[Tensor, "*B 6"], action: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 6"]:
        """The state one step later."""
        return runge_kutta(self._rate, state, self.clip(action), self.dt)

    def _rate(self, state: Float[Tensor, "*B 6"], action: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 6"]:
        _, _, angle, x_speed, z_speed, spin = state.unbind(-1)
        right, left = action.unbind(-1)
        lift = (right + left) / self.mass
        turn = self.arm * (right - left) / self.inertia
        return torch.stack([x_speed, z_speed, spin, -lift * angle.sin(), lift * angle.cos() - self.gravity, turn], -1)
