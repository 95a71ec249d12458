"""Known physics as differentiable steps: what planners are tried on. Formula sheet: 9.0a.

A system is a frozen recipe of physical constants that is called as ``system(state, action) → next state``, over any
leading dimensions at once, in the dtype and on the device of its state, and can be differentiated twice. Angles are in
radians, the rest in SI units.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


class System(ABC):
    """A controlled system in discrete time, x' = f(x, u)."""

    state_names: ClassVar[tuple[str, ...]]
    action_names: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def high(self) -> tuple[float, ...]:
        """The greatest action, one number per dimension; ∞ where there is no bound."""

    @property
    def low(self) -> tuple[float, ...]:
        """The least action: as far the other way, unless a system says otherwise."""
        return tuple(-bound for bound in self.high)

    @property
    def choices(self) -> tuple[tuple[float, ...], ...]:
        """The actions of its environment in their order, where those are Discrete; none by default."""
        return ()

    @abstractmethod
    def __call__(self, state: Float[Tensor, "*B S"], action: Float[Tensor, "*B A"]) -> Float[Tensor, "*B S"]:
        """The state one step later."""

    def observe(self, state: Float[Tensor, "*B S"]) -> Float[Tensor, "*B O"]:
        """What its environment shows of a state: all of it as it is, unless a system says otherwise."""
        return state

    def state_of(self, observation: Float[Tensor, "*B O"]) -> Float[Tensor, "*B S"]:
        """The inverse of :meth:`observe`; angles come out in [−π, π]."""
        return observation

    def wrapped(self, state: Float[Tensor, "*B S"]) -> Float[Tensor, "*B S"]:
        """A state, or the difference of two, without whole turns."""
        return self.state_of(self.observe(state))

    def clip(self, action: Float[Tensor, "*B A"]) -> Float[Tensor, "*B A"]:
        """The nearest action within the bounds, as the motors would apply it; of slope 1 on the bounds themselves."""
        return action.clamp(action.new_tensor(self.low), action.new_tensor(self.high))


@dataclass(frozen=True)
class QuadraticCost:
    """Σ w (x − goal)² + Σ r u² of a step, and Σ w_H (x − goal)² at the end. No factor ½.

    Args:
        state: w, one weight per dimension of the state.
        action: r, one weight per dimension of the action.
        goal: where the state should be; 0 by default.
        final: w_H; ``state`` by default.

    Raises:
        ValueError: a goal or final weights of another size than the state's.
    """

    state: tuple[float, ...]
    action: tuple[float, ...]
    goal: tuple[float, ...] | None = None
    final: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, given in (("goal", self.goal), ("final", self.final)):
            if given is not None and len(given) != len(self.state):
                raise ValueError(f"QuadraticCost.{name} has {len(given)} numbers and the state has {len(self.state)}")

    def __call__(self, state: Float[Tensor, "*B S"], action: Float[Tensor, "*B A"]) -> Float[Tensor, "*B"]:
        """The cost of a step."""
        return self._distance(state, self.state) + (action.square() * action.new_tensor(self.action)).sum(-1)

    def terminal(self, state: Float[Tensor, "*B S"]) -> Float[Tensor, "*B"]:
        """The cost of where it ends."""
        return self._distance(state, self.state if self.final is None else self.final)

    def _distance(self, state: Tensor, weight: tuple[float, ...]) -> Tensor:
        away = state if self.goal is None else state - state.new_tensor(self.goal)
        return (away.square() * state.new_tensor(weight)).sum(-1)


def wrap(angle: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """To [−π, π)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def runge_kutta(
    rate: Callable[[Tensor, Tensor], Tensor], state: Float[Tensor, "*B S"], action: Float[Tensor, "*B A"], dt: float
) -> Float[Tensor, "*B S"]:
    """One classical fourth-order step of ẋ = ``rate``(x, u), u held for ``dt`` seconds."""
    first = rate(state, action)
    second = rate(state + 0.5 * dt * first, action)
    third = rate(state + 0.5 * dt * second, action)
    fourth = rate(state + dt * third, action)
    return state + dt / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)
