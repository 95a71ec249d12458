"""Numbers that change with the env steps seen: learning rates, ε, β, clip ranges.

A schedule is a pure function of a counter that is saved with the policy, and so resumes by itself.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Union

from lit_rl.bounds import refuse_below


class Schedule(ABC):
    """A number as a function of env steps."""

    @abstractmethod
    def __call__(self, env_steps: int) -> float:
        """The value after ``env_steps`` environment steps over all processes."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value for ever."""

    value: float

    def __call__(self, env_steps: int) -> float:
        """See :meth:`Schedule.__call__`."""
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from ``start`` at 0 to ``end`` at ``steps`` env steps; ``end`` from there on."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps")

    def __call__(self, env_steps: int) -> float:
        """See :meth:`Schedule.__call__`."""
        fraction = min(env_steps / self.steps, 1.0)
        return self.start + fraction * (self.end - self.start)


@dataclass(frozen=True)
class Exponential(Schedule):
    """A constant factor per step, from ``start`` at 0 to ``end`` at ``steps`` env steps; ``end`` from there on."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        if self.steps <= 0 or self.start <= 0 or self.end <= 0:
            raise ValueError(f"Exponential needs positive start, end and steps; got {self}")

    def __call__(self, env_steps: int) -> float:
        """See :meth:`Schedule.__call__`."""
        fraction = min(env_steps / self.steps, 1.0)
        return self.start * math.exp(fraction * math.log(self.end / self.start))


Scheduled = Union[float, Schedule]


def as_schedule(value: Scheduled) -> Schedule:
    """A plain number is short for :class:`Constant`."""
    return value if isinstance(value, Schedule) else Constant(float(value))
