"""argmax over a box of actions, for many states at once, of a value that can only be asked for. Formula sheet: 7.5.1a.

Shapes: B states, N candidates, A dimensions of an action. All randomness of a call is drawn beforehand (``draws``), so
that the same draws give the same answer: fresh ones for targets, fixed ones where the answer must be a function of the
state. An axis of length 1 in place of B shares them among the states.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Value = Callable[[Tensor], Tensor]  # [B, N, A] → [B, N]


class Maximum(NamedTuple):
    """The best candidate that was looked at, for each state."""

    action: Tensor  # [B, A]
    value: Tensor  # [B]


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


def _best(action: Tensor, value: Tensor, before: Maximum | None = None) -> Maximum:
    """The best of candidates [B, N, A] with values [B, N], and of what was best before."""
    highest, which = value.max(-1)
    found = Maximum(action.gather(1, which[:, None, None].expand(-1, 1, action.shape[-1])).squeeze(1), highest)
    if before is None:
        return found
    better = found.value > before.value
    return Maximum(torch.where(better[:, None], found.action, before.action), torch.maximum(highest, before.value))


def _refuse_below(recipe: Any, least: dict[str, float]) -> None:
    for name, bound in least.items():
        if not getattr(recipe, name) >= bound:
            raise ValueError(f"{type(recipe).__name__}.{name} is {getattr(recipe, name)}; it must be at least {bound}")


@dataclass(frozen=True)
class SamplingMaximizer(Maximizer):
    """The best of N uniform candidates (random shooting); the argmax is missed by about N^(−1/A) of the box.

    Args:
        samples: N.
    """

    samples: int = 64

    def __post_init__(self) -> None:
        _refuse_below(self, {"samples": 1})

    def draws(self, rows: int, dimensions: int, generator: torch.Generator | None = None) -> Tensor:
        """Uniform [B, N, A]."""
        return torch.rand(rows, self.samples, dimensions, generator=generator)

    @torch.no_grad()
    def maximize(
        self, value: Value, low: Float[Tensor, " A"], high: Float[Tensor, " A"], rows: int, draws: Tensor
    ) -> Maximum:
        """See :meth:`Maximizer.maximize`."""
        action = (low + (high - low) * draws).expand(rows, -1, -1)
        return _best(action, value(action))


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
        _refuse_below(self, {"iterations": 1, "samples": 2, "elites": 2})
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
        mean = ((low + high) / 2).expand(rows, 1, -1)
        deviation = ((high - low) / 2).expand(rows, 1, -1)
        best: Maximum | None = None
        for normal in draws:
            action = torch.minimum(torch.maximum(mean + deviation * normal, low), high)
            found = value(action)
            best = _best(action, found, best)
            which = found.topk(self.elites, dim=-1).indices
            elite = action.gather(1, which[..., None].expand(-1, -1, action.shape[-1]))
            mean, deviation = elite.mean(1, keepdim=True), elite.std(1, keepdim=True, correction=0)
        assert best is not None
        return best


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
        _refuse_below(self, {"starts": 1, "steps": 1})
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
            best = _best(action.detach(), found.detach(), best)
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
        _refuse_below(self, {"iterations": 1} if self.population is None else {"iterations": 1, "population": 4})
        if not self.sigma > 0:
            raise ValueError(f"CMAESMaximizer.sigma is {self.sigma}; it must be positive")
        if find_spec("cma") is None:
            raise ImportError("CMAESMaximizer needs pycma, which is not installed: pip install 'lit_rl[cma]'")

    def draws(self, rows: int, dimensions: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal [iterations, B, N, A], A at least 2."""
        searched = max(2, dimensions)
        size = self.population or 4 + math.floor(3 * math.log(searched))
        return torch.randn(self.iterations, rows, size, searched, generator=generator)

    @torch.no_grad()
    def maximize(
        self, value: Value, low: Float[Tensor, " A"], high: Float[Tensor, " A"], rows: int, draws: Tensor
    ) -> Maximum:
        """See :meth:`Maximizer.maximize`."""
        centre, half = (low + high) / 2, (high - low) / 2
        normal = draws.expand(-1, rows, -1, -1).double().cpu().numpy()
        searches = [self._search(normal[:, row]) for row in range(rows)]
        best: Maximum | None = None
        for _ in range(self.iterations):
            asked = [search.ask() for search in searches]
            points = torch.as_tensor(np.array(asked), dtype=low.dtype, device=low.device)
            action = centre + half * points[..., : len(low)]
            found = value(action)
            best = _best(action, found, best)
            cost = -found.double().cpu().numpy()
            for search, of_search, costs in zip(searches, asked, cost, strict=True):
                search.tell(of_search, costs.tolist())
        assert best is not None
        return best

    def _search(self, normal: np.ndarray) -> Any:
        """One state's search over [−1, 1]^A that uses these normals [iterations, N, A], and no other randomness."""
        import cma

        place = count()

        def stored(*shape: int) -> np.ndarray:  # pycma asks for fewer than N where it adds points of its own
            wanted = [next(place) for _ in range(math.prod(shape))]
            return normal.take(wanted, mode="wrap").reshape(shape)

        options = {
            "bounds": [-1.0, 1.0],
            "popsize": normal.shape[1],
            "randn": stored,
            "seed": np.nan,  # leave numpy's own stream alone
            "verbose": -9,
        }
        return cma.CMAEvolutionStrategy(np.zeros(normal.shape[-1]), self.sigma, options)
