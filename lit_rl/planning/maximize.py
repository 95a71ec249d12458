"""argmax over a box of actions, for many states at once, of a value that can only be asked for. Formula sheet: 7.5.1a.

Shapes: B states, N candidates, A dimensions of an action. All randomness of a call is drawn beforehand (``draws``), so
that the same draws give the same answer: fresh ones for targets, fixed ones where the answer must be a function of the
state. An axis of length 1 in place of B shares them among the states.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.planning.cem import Maximum, Value, better_of, cross_entropy
from lit_rl.planning.cma_es import cma_es, population_size, require_pycma


class Maximizer(ABC):
    """Recipe of a search over a box."""

    @abstractmethod
    def draws(self, rows: int, dimensions: int, generator: torch.Generator | None = None) -> Tensor:
        """The random numbers of one call for B = ``rows`` states; torch's own stream without a generator."""

    @abstractmethod
    def maximize(
        self, value: Value, low: Float[Tensor, " A"], high: Float[Tensor, " A"], rows: int, draws: Tensor
    ) -> Maximum:
        """max_a ``value`` for ``rows`` states, low ≤ a ≤ high. No gradient leaves it."""


@dataclass(frozen=True)
class SamplingMaximizer(Maximizer):
    """The best of N uniform candidates (random shooting); the argmax is missed by about N^(−1/A) of the box.

    Args:
        samples: N.
    """

    samples: int = 64

    def __post_init__(self) -> None:
        refuse_below(self, 1, "samples")

    def draws(self, rows: int, dimensions: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform [B, N, A]."""
        return torch.rand(rows, self.samples, dimensions, generator=generator)

    @torch.no_grad()
    def maximize(
        self, value: Value, low: Float[Tensor, " A"], high: Float[Tensor, " A"], rows: int, draws: Tensor
    ) -> Maximum:
        """See :meth:`Maximizer.maximize`."""
        action = (low + (high - low) * draws).expand(rows, -1, -1)
        return better_of(action, value(action))


@dataclass(frozen=True)
class CEMMaximizer(Maximizer):
    """Cross-entropy method: a Gaussian is moved to the best of its own samples, a few times; the best sample is kept.

    It begins at the middle of the box, with half its width for a standard deviation (Rubinstein & Kroese 2004;
    Kalashnikov et al. 2018, with two iterations of 64 samples and 6 elites).

    Args:
        iterations: how often.
        samples: N of each.
        elites: how many of them count.
    """

    iterations: int = 2
    samples: int = 64
    elites: int = 6

    def __post_init__(self) -> None:
        refuse_below(self, 1, "iterations")
        refuse_below(self, 2, "samples", "elites")
        if self.elites > self.samples:
            raise ValueError(f"CEMMaximizer.elites is {self.elites} of {self.samples} samples; it must not be more")

    def draws(self, rows: int, dimensions: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal [iterations, B, N, A]."""
        return torch.randn(self.iterations, rows, self.samples, dimensions, generator=generator)

    @torch.no_grad()
    def maximize(
        self, value: Value, low: Float[Tensor, " A"], high: Float[Tensor, " A"], rows: int, draws: Tensor
    ) -> Maximum:
        """See :meth:`Maximizer.maximize`."""
        mean, deviation = ((low + high) / 2).expand(rows, -1), ((high - low) / 2).expand(1, -1)
        return cross_entropy(value, low, high, draws, mean, deviation, self.elites).best


@dataclass(frozen=True)
class GradientMaximizer(Maximizer):
    """Gradient ascent from several uniform starts at once, projected onto the box; the best point on the way is kept.

    Steps have a length, in halves of the box's width, that falls linearly to 0: what counts is the direction of the
    gradient, so that the scale of the values does not matter.

    Args:
        starts: N.
        steps: of each.
        step_size: length of the first one.
    """

    starts: int = 4
    steps: int = 10
    step_size: float = 0.5

    def __post_init__(self) -> None:
        refuse_below(self, 1, "starts", "steps")
        if not self.step_size > 0:
            raise ValueError(f"GradientMaximizer.step_size is {self.step_size}; it must be positive")

    def draws(self, rows: int, dimensions: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform starts [B, N, A]."""
        return torch.rand(rows, self.starts, dimensions, generator=generator)

    def maximize(
        self, value: Value, low: Float[Tensor, " A"], high: Float[Tensor, " A"], rows: int, draws: Tensor
    ) -> Maximum:
        """See :meth:`Maximizer.maximize`."""
        centre, half = (low + high) / 2, (high - low) / 2
        point = (2.0 * draws - 1.0).expand(rows, -1, -1)  # in halves of the box
        best: Maximum | None = None
        for step in range(self.steps + 1):
            with torch.enable_grad():
                point = point.detach().requires_grad_()
                action = centre + half * point
                found = value(action)
                (slope,) = torch.autograd.grad(found.sum(), point)
            best = better_of(action.detach(), found.detach(), best)
            length = self.step_size * (1.0 - step / self.steps)
            direction = slope / slope.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
            point = (point + length * direction).clamp(-1.0, 1.0)
        assert best is not None
        return best


@dataclass(frozen=True)
class CMAESMaximizer(Maximizer):
    """Covariance matrix adaptation (Hansen & Ostermeier 2001; formula sheet 9.0.2b), by pycma; the best sample is kept.

    One search for each state, side by side: their populations are valued together, but pycma adapts one covariance
    at a time, about a millisecond each. Acting can afford that; targets of a large batch hardly. A single dimension
    gets a second one without influence, since pycma wants two.

    Args:
        iterations: generations.
        population: N; None is pycma's 4 + ⌊3 log A⌋.
        sigma: first standard deviation, in halves of the box's width.

    Raises:
        ImportError: pycma is not installed.
    """

    iterations: int = 8
    population: int | None = None
    sigma: float = 0.5

    def __post_init__(self) -> None:
        refuse_below(self, 1, "iterations")
        refuse_below(self, 4, "population")
        if not self.sigma > 0:
            raise ValueError(f"CMAESMaximizer.sigma is {self.sigma}; it must be positive")
        require_pycma("CMAESMaximizer")

    def draws(self, rows: int, dimensions: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal [iterations, B, N, A], A at least 2."""
        searched = max(2, dimensions)
        size = self.population or population_size(searched)
        return torch.randn(self.iterations, rows, size, searched, generator=generator)

    @torch.no_grad()
    def maximize(
        self, value: Value, low: Float[Tensor, " A"], high: Float[Tensor, " A"], rows: int, draws: Tensor
    ) -> Maximum:
        """See :meth:`Maximizer.maximize`."""
        return cma_es(value, low, high, draws, ((low + high) / 2).expand(rows, -1), self.sigma)
