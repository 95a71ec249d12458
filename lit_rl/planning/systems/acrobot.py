"""Two links of which only the joint between them is driven: Gymnasium's Acrobot-v1, with every torque between its ends.

Sutton 1996, with the equations that the environment calls those of the book.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.systems.system import System, runge_kutta, wrap


@dataclass(frozen=True)
class Acrobot(System):
    """State (θ₁, θ₂, θ̇₁, θ̇₂): θ₁ = 0 hangs down, θ₂ is relative to the first link; action (torque at the joint).

    Both links have a length of 1 m, a mass of 1 kg, their centre in the middle and a moment of inertia of 1 kg m².
    A Runge-Kutta step of ``dt`` seconds; then the angles are wrapped and the speeds clipped.
    """

    gravity: float = 9.8
    dt: float = 0.2
    max_torque: float = 1.0
    max_speeds: tuple[float, float] = (4 * math.pi, 9 * math.pi)

    state_names: ClassVar[tuple[str, ...]] = ("first angle", "second angle", "first speed", "second speed")
    action_names: ClassVar[tuple[str, ...]] = ("torque",)

    @property
    def high(self) -> tuple[float, ...]:
        """max_torque."""
        return (self.max_torque,)

    @property
    def choices(self) -> tuple[tuple[float, ...], ...]:
        """−max_torque, 0, max_torque."""
        return (-self.max_torque,), (0.0,), (self.max_torque,)

    def __call__(self, state: Float[Tensor, "*B 4"], action: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B 4"]:
        """The state one step later."""
        first, second, *spins = runge_kutta(self._rate, state, self.clip(action), self.dt).unbind(-1)
        spins = [spin.clamp(-limit, limit) for spin, limit in zip(spins, self.max_speeds, strict=True)]
        return torch.stack([wrap(first), wrap(second), *spins], -1)

    def observe(self, state: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 6"]:
        """(cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ̇₁, θ̇₂)."""
        first, second, *spins = state.unbind(-1)
        return torch.stack([first.cos(), first.sin(), second.cos(), second.sin(), *spins], -1)

    def state_of(self, observation: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 4"]:
        """See :meth:`System.state_of`."""
        cosine, sine, other_cosine, other_sine, *spins = observation.unbind(-1)
        return torch.stack([torch.atan2(sine, cosine), torch.atan2(other_sine, other_cosine), *spins], -1)

    def height(self, state: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B"]:
        """Of the tip above the pivot, −2 to 2 m; an episode ends above 1."""
        return -state[..., 0].cos() - (state[..., 0] + state[..., 1]).cos()

    def _rate(self, state: Float[Tensor, "*B 4"], action: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B 4"]:
        first, second, first_spin, second_spin = state.unbind(-1)
        centre, g = 0.5, self.gravity
        cosine, sine = second.cos(), second.sin()
        d1 = centre**2 + (1.0 + centre**2 + 2.0 * centre * cosine) + 2.0  # two moments of inertia of 1
        d2 = centre**2 + centre * cosine + 1.0
        phi2 = centre * g * (first + second - torch.pi / 2).cos()
        phi1 = (
            -centre * second_spin.square() * sine
            - 2.0 * centre * second_spin * first_spin * sine
            + (centre + 1.0) * g * (first - torch.pi / 2).cos()
            + phi2
        )
        pushed = action.squeeze(-1) + d2 / d1 * phi1 - centre * first_spin.square() * sine - phi2
        second_turn = pushed / (centre**2 + 1.0 - d2.square() / d1)
        first_turn = -(d2 * second_turn + phi1) / d1
        return torch.stack([first_spin, second_spin, first_turn, second_turn], -1)
