"""A mass on a line without friction, pushed by a force: the system whose optimal control is known by heart."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.systems.system import System


@dataclass(frozen=True)
class DoubleIntegrator(System):
    """p' = p + dt v,  v' = v + dt u: an Euler step for a mass of 1 kg; state (p, v), action (u)."""

    dt: float = 0.1
    max_force: float = math.inf

    state_names: ClassVar[tuple[str, ...]] = ("position", "speed")
    action_names: ClassVar[tuple[str, ...]] = ("force",)

    @property
    def high(self) -> tuple[float, ...]:
        """max_force."""
        return (self.max_force,)

    def __call__(self, state: Float[Tensor, "*B 2"], action: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B 2"]:
        """The state one step later."""
        position, speed = state.unbind(-1)
        force = self.clip(action).squeeze(-1)
        return torch.stack([position + self.dt * speed, speed + self.dt * force], -1)
