"""How to explore, with known probabilities: recipes over action values, and noise on a deterministic action.

Behaviour probabilities go into the data with every action, so that importance weights, Retrace and tree
backup know who acted. Formula sheet: 6.2.1b, 6.2.1c, 7.5.3a.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.functional.action_values import boltzmann_probabilities, epsilon_greedy_probabilities
from lit_rl.schedules import Linear, Schedule, Scheduled, as_schedule

Array = np.ndarray
Among = Literal["all", "others"]


class Exploration(ABC):
    """Recipe of a distribution over finitely many actions, given their values and one scheduled ``level``."""

    name: str
    """Of the level, in plots."""

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """The level over env steps."""

    @abstractmethod
    def probabilities(self, values: Array, mask: Array | None, level: Any) -> Array:
        """π(·|s) [N, A] from values [N, A]; illegal actions have probability 0. ``level`` is one number or [N, 1]."""

    @abstractmethod
    def of_tensor(self, q: Tensor, mask: Tensor | None, level: float) -> Tensor:
        """The same on tensors [..., A], for targets."""

    def beginning_at(self, environment: int) -> "Exploration":
        """The recipe where row 0 is this environment: another one only where environments explore differently."""
        return self


@dataclass(frozen=True)
class EpsilonGreedy(Exploration):
    """The greedy action, and with some probability another (formula sheet 6.2.1b).

    Args:
        epsilon: over env steps.
        among: ``all``: with probability ε uniform over all actions, so that the greedy one has 1 − ε + ε/A;
            ``others``: with probability ε uniform over the others, so that it has 1 − ε. The second is the
            first with ε (A − 1)/A in place of ε.
    """

    epsilon: Scheduled = field(default_factory=lambda: Linear(1.0, 0.05, 10_000))
    among: Among = "all"

    name = "epsilon"

    def __post_init__(self) -> None:
        if not 0 <= as_schedule(self.epsilon)(0) <= 1:
            raise ValueError(f"EpsilonGreedy.epsilon starts at {as_schedule(self.epsilon)(0)}; it lies in [0, 1]")
        if self.among not in ("all", "others"):
            raise ValueError(f"EpsilonGreedy.among is {self.among!r}; it is all or others")

    @property
    def schedule(self) -> Schedule:
        """ε."""
        return as_schedule(self.epsilon)

    def probabilities(self, values: Array, mask: Array | None, level: Any) -> Array:
        """See :meth:`Exploration.probabilities`."""
        rows, actions = values.shape
        legal: Any = actions
        if mask is not None:
            legal = np.maximum(mask.sum(-1, keepdims=True), 1)
            values = np.where(mask, values, -np.inf)
        if self.among == "others":  # of a single action there are none: it is taken
            level = level * np.where(np.equal(legal, 1), 0.0, legal / np.maximum(legal - 1, 1))
        found = np.broadcast_to(level / legal, (rows, actions)).copy()
        if mask is not None:
            found *= mask
        found[np.arange(rows), values.argmax(-1)] += np.broadcast_to(1 - level, (rows, 1))[:, 0]
        return found

    def of_tensor(self, q: Tensor, mask: Tensor | None, level: float) -> Tensor:
        """See :meth:`Exploration.of_tensor`."""
        return epsilon_greedy_probabilities(q, level, mask, among=self.among)


@dataclass(frozen=True)
class EpsilonSpread(Exploration):
    """ε-greedy with an ε for each environment: all fall from 1, each to its own end (Mnih et al. 2016; H14).

    The level is the share of the way that is left: ε = end + (1 − end) · level.

    Args:
        ends: of the first environment, the second …, and again from the start; whichever worker of the rank steps it.
        steps: env steps until they are reached.
    """

    ends: Sequence[float] = (0.5, 0.1, 0.01)
    steps: int = 10_000

    name = "epsilon_left"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", tuple(self.ends))  # YAML brings a list
        if not self.ends or not all(0 <= end <= 1 for end in self.ends):
            raise ValueError(f"EpsilonSpread.ends is {self.ends}; it holds numbers in [0, 1], at least one")
        refuse_below(self, 1, "steps")

    @property
    def schedule(self) -> Schedule:
        """The share of the way that is left."""
        return Linear(1.0, 0.0, self.steps)

    def beginning_at(self, environment: int) -> "EpsilonSpread":
        """The ends from this environment's on."""
        first = environment % len(self.ends)
        return replace(self, ends=(*self.ends[first:], *self.ends[:first]))

    def epsilons(self, rows: int, level: float) -> Array:
        """ε [N, 1] of so many environments."""
        end = np.resize(np.asarray(self.ends, np.float64), rows)[:, None]
        return end + (1.0 - end) * level

    def probabilities(self, values: Array, mask: Array | None, level: Any) -> Array:
        """See :meth:`Exploration.probabilities`; row n is environment n."""
        return EpsilonGreedy(0.0).probabilities(values, mask, self.epsilons(len(values), level))

    def of_tensor(self, q: Tensor, mask: Tensor | None, level: float) -> Tensor:
        """See :meth:`Exploration.of_tensor`; environments are the last axis but that of the actions."""
        return epsilon_greedy_probabilities(q, q.new_tensor(self.epsilons(q.shape[-2], level)), mask)


@dataclass(frozen=True)
class Boltzmann(Exploration):
    """π(a|s) = softmax(q(s, ·)/temperature) (formula sheet 6.2.1c): greedy at 0, uniform as it grows.

    Args:
        temperature: in units of q, over env steps.
    """

    temperature: Scheduled = 1.0

    name = "temperature"

    def __post_init__(self) -> None:
        if not as_schedule(self.temperature)(0) > 0:
            raise ValueError(f"Boltzmann.temperature starts at {as_schedule(self.temperature)(0)}; it is positive")

    @property
    def schedule(self) -> Schedule:
        """The temperature."""
        return as_schedule(self.temperature)

    def probabilities(self, values: Array, mask: Array | None, level: Any) -> Array:
        """See :meth:`Exploration.probabilities`."""
        if level <= 0:
            return EpsilonGreedy(0.0).probabilities(values, mask, 0.0)
        if mask is not None:
            values = np.where(mask, values, -np.inf)
        weights = np.exp((values - values.max(-1, keepdims=True)) / level)
        return weights / weights.sum(-1, keepdims=True)

    def of_tensor(self, q: Tensor, mask: Tensor | None, level: float) -> Tensor:
        """See :meth:`Exploration.of_tensor`."""
        if level <= 0:
            return epsilon_greedy_probabilities(q, 0.0, mask)
        return boltzmann_probabilities(q, level, mask)


class Noise(ABC):
    """Recipe of noise on a deterministic action, in units of half the action's range."""

    correlated: bool
    """Whether it remembers its last value; that memory is the policy's state."""

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """σ over env steps."""

    @abstractmethod
    def moments(self, memory: Array, sigma: float) -> tuple[Array | float, float]:
        """Mean [N, A] and standard deviation of the noise that follows ``memory`` [N, A]."""

    def draw(self, memory: Array, shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> tuple[Array, Any]:
        """Noise of ``shape`` [N, A] and its log-density [N] given ``memory``."""
        mean, deviation = self.moments(memory, sigma)
        normal = rng.standard_normal(shape, dtype=np.float32)
        dimensions = shape[-1]
        log_scale = math.log(deviation) if deviation > 0 else 0.0
        log_prob = -0.5 * (normal * normal).sum(-1) - dimensions * (log_scale + 0.5 * math.log(2 * math.pi))
        return (mean + deviation * normal).astype(np.float32), log_prob.astype(np.float32)


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """Independent N(0, σ²) at every step.

    Args:
        sigma: of half the action's range, over env steps.
    """

    sigma: Scheduled = 0.1

    correlated = False

    def __post_init__(self) -> None:
        if not as_schedule(self.sigma)(0) >= 0:
            raise ValueError(f"GaussianNoise.sigma starts at {as_schedule(self.sigma)(0)}; it is 0 or positive")

    @property
    def schedule(self) -> Schedule:
        """σ."""
        return as_schedule(self.sigma)

    def moments(self, memory: Array, sigma: float) -> tuple[Array | float, float]:
        """See :meth:`Noise.moments`."""
        return 0.0, sigma


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Noise):
    """x ← x − θ x dt + σ √dt N(0, 1), from 0 in each episode: noise that pushes one way for 1/(θ dt) steps.

    Its stationary standard deviation is σ √(dt / (1 − (1 − θ dt)²)) (Lillicrap et al. 2016; Uhlenbeck & Ornstein 1930).

    Args:
        sigma: of half the action's range, over env steps.
        theta: pull towards 0.
        dt: time of one step.
    """

    sigma: Scheduled = 0.2
    theta: float = 0.15
    dt: float = 1.0

    correlated = True

    def __post_init__(self) -> None:
        if not as_schedule(self.sigma)(0) >= 0 or self.dt <= 0 or not 0 <= self.theta * self.dt <= 1:
            raise ValueError(f"OrnsteinUhlenbeck needs sigma ≥ 0, dt > 0 and 0 ≤ theta dt ≤ 1; got {self}")

    @property
    def schedule(self) -> Schedule:
        """σ."""
        return as_schedule(self.sigma)

    def moments(self, memory: Array, sigma: float) -> tuple[Array | float, float]:
        """See :meth:`Noise.moments`."""
        return (1 - self.theta * self.dt) * memory, sigma * math.sqrt(self.dt)
