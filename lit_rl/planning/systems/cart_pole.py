"""A pole on a cart that is pushed by a force: Gymnasium's CartPole-v1, with every force between its two.

Barto, Sutton & Anderson 1983; the equations without friction as corrected by Florian 2007.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.systems.system import System


@dataclass(frozen=True)
class CartPole(System):
    """State (x, ẋ, θ, θ̇) with θ = 0 upright; action (force on the cart). An Euler step of ``dt`` seconds.

    Args:
        half_length: from the pivot to the pole's centre of mass.
        max_force: the force is clipped to ± this; the environment's two actions are its ends.
    """

    gravity: float = 9.8
    cart_mass: float = 1.0
    pole_mass: float = 0.1
    half_length: float = 0.5
    dt: float = 0.02
    max_force: float = 10.0

    state_names: ClassVar[tuple[str, ...]] = ("position", "speed", "angle", "angular speed")
    action_names: ClassVar[tuple[str, ...]] = ("force",)

    @property
    def high(self) -> tuple[float, ...]:
        """max_force."""
        return (self.max_force,)

    @property
    def choices(self) -> tuple[tuple[float, ...], ...]:
        """To the left, to the right."""
        return (-self.max_force,), (self.max_force,)

    def __call__(self, state: Float[Tensor, "*B 4"], action: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B 4"]:
        """The state one step later."""
        _, speed, angle, spin = state.unbind(-1)
        sine, cosine = angle.sin(), angle.cos()
        mass, moment = self.cart_mass + self.pole_mass, self.pole_mass * self.half_length
        pushed = (self.clip(action).squeeze(-1) + moment * spin.square() * sine) / mass
        turned = (self.gravity * sine - cosine * pushed) / (
            self.half_length * (4.0 / 3.0 - self.pole_mass * cosine.square() / mass)
        )
        rate = torch.stack([speed, pushed - moment * turned * cosine / mass, spin, turned], -1)
        return state + self.dt * rate
