"""Planners that sample: random shooting, the cross-entropy method, iCEM, CMA-ES and MPPI.

Formula sheet: 9.0.1a, 9.0.2a, 9.0.2b, H6, G8.

Shapes: B problems, N candidates, H steps, A dimensions of an action. A candidate is all H actions: D = H·A numbers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.planning.cem import cross_entropy
from lit_rl.planning.cma_es import cma_es, population_size, require_pycma
from lit_rl.planning.planner import Memory, Planner, clip, colour, objective, standard_normal, uniform
from lit_rl.planning.trajectory import ControlProblem

Found = tuple[Tensor, Tensor]  # the plans [B, H, A], and what else is kept [B, K, H, A]


@dataclass(frozen=True)
class RandomShooting(Planner):
    """The cheapest of N sequences (9.0.1a). What was found last, moved on by one step, is one of them.

    Args:
        samples: N.
        deviation: of Gaussian noise around the last plan, in halves of the box's width; None draws uniformly in it.
        exponent: of that noise's colour over the steps, 0 being white (see :func:`~lit_rl.planning.planner.colour`).
    """

    samples: int = 800
    deviation: float | None = None
    exponent: float = 0.0

    def __post_init__(self) -> None:
        refuse_below(self, 2, "samples")
        refuse_below(self, 0, "exponent")

    @torch.no_grad()
    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> Found:
        """See :meth:`Planner.search`."""
        shape = (len(state), self.samples - 1, *memory.actions.shape[1:])
        last = memory.actions[:, None]
        if self.deviation is None:
            drawn = uniform(problem, generator, *shape)
        else:
            noise = colour(standard_normal(problem, generator, *shape), self.exponent)
            drawn = clip(problem, last + self.deviation * problem.half_width * noise)
        actions = torch.cat([last, drawn], 1)
        which = objective(problem, state, actions).argmax(-1)
        return actions[torch.arange(len(state), device=which.device), which], memory.kept


@dataclass(frozen=True)
class CEM(Planner):
    """The cross-entropy method (9.0.2a), from the last plan moved on by one step and with a fresh deviation.

    Chua et al. 2018 plan so with 5 iterations of 400 to 500 samples, and so does most model-based work since.

    Args:
        iterations: how often the Gaussian is moved.
        samples: N of each iteration.
        elites: M of them count.
        momentum: β, how much of the old mean and variance stays.
        deviation: first standard deviation, in halves of the box's width.
        floor: least standard deviation, in the same unit.
        return_mean: the plan is the last mean; else the best sample of all.
    """

    iterations: int = 5
    samples: int = 200
    elites: int = 20
    momentum: float = 0.1
    deviation: float = 0.5
    floor: float = 0.0
    return_mean: bool = True

    def __post_init__(self) -> None:
        refuse_below(self, 1, "iterations")
        refuse_below(self, 2, "samples", "elites")
        refuse_below(self, 0, "momentum", "floor")
        if self.elites > self.samples:
            raise ValueError(f"CEM.elites is {self.elites} of {self.samples} samples; it must not be more")

    @torch.no_grad()
    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> Found:
        """See :meth:`Planner.search`."""
        steps, actions = memory.actions.shape[1:]
        unit = problem.half_width.repeat(steps)
        found = cross_entropy(
            lambda flat: objective(problem, state, flat.unflatten(-1, (steps, actions))),
            problem.low.repeat(steps),
            problem.high.repeat(steps),
            standard_normal(problem, generator, self.iterations, len(state), self.samples, steps * actions),
            memory.actions.flatten(1),
            self.deviation * unit[None],
            self.elites,
            self.momentum,
            self.floor * unit,
        )
        chosen = found.mean if self.return_mean else found.best.action
        return chosen.unflatten(-1, (steps, actions)), memory.kept


@dataclass(frozen=True)
class ICEM(Planner):
    """The cross-entropy method of today's practice (iCEM, Pinneri et al. 2020).

    Noise that is coloured over the steps; fewer samples in every iteration; elites that return in the next iteration
    and, moved on by one step, in the next plan; the mean as a candidate of the last iteration; the best candidate of
    all as the plan. A returning plan's new last action repeats its old one.

    Args:
        iterations: how often the Gaussian is moved.
        samples: N of the first iteration.
        decay: each iteration has 1/``decay`` as many samples as the one before, but at least 2 × ``elites``.
        elites: M of them count.
        keep: how many elites return (ξ M in the paper, ξ = 0.3).
        momentum: β, how much of the old mean and variance stays.
        deviation: first standard deviation, in halves of the box's width.
        exponent: β of the noise's spectrum f^(−β).
    """

    iterations: int = 3
    samples: int = 100
    decay: float = 1.25
    elites: int = 10
    keep: int = 3
    momentum: float = 0.1
    deviation: float = 0.5
    exponent: float = 2.0

    def __post_init__(self) -> None:
        refuse_below(self, 1, "iterations", "decay", "keep")
        refuse_below(self, 2, "samples", "elites")
        refuse_below(self, 0, "momentum", "exponent")
        if not self.keep <= self.elites <= self.samples:
            raise ValueError(
                f"ICEM: keep {self.keep} ≤ elites {self.elites} ≤ samples {self.samples} must hold; it does not"
            )

    @property
    def remembered(self) -> int:
        """The elites that return."""
        return self.keep

    def sizes(self) -> list[int]:
        """N of each iteration."""
        return [max(int(self.samples * self.decay**-i), 2 * self.elites) for i in range(self.iterations)]

    @torch.no_grad()
    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> Found:
        """See :meth:`Planner.search`."""
        steps, actions = memory.actions.shape[1:]
        white = [standard_normal(problem, generator, len(state), size, steps, actions) for size in self.sizes()]
        found = cross_entropy(
            lambda flat: objective(problem, state, flat.unflatten(-1, (steps, actions))),
            problem.low.repeat(steps),
            problem.high.repeat(steps),
            [colour(normals, self.exponent).flatten(-2) for normals in white],
            memory.actions.flatten(1),
            self.deviation * problem.half_width.repeat(steps)[None],
            self.elites,
            self.momentum,
            returning=memory.kept.flatten(-2),
            keep=self.keep,
        )
        best, kept = (part.unflatten(-1, (steps, actions)) for part in (found.best.action, found.kept))
        return best, kept


@dataclass(frozen=True)
class CMAES(Planner):
    """Covariance matrix adaptation over whole plans (9.0.2b), by pycma; up to some hundred numbers per plan.

    Args:
        iterations: generations.
        population: N; None is pycma's 4 + ⌊3 log HA⌋.
        sigma: first standard deviation, in halves of the box's width.

    Raises:
        ImportError: pycma is not installed.
    """

    iterations: int = 50
    population: int | None = None
    sigma: float = 0.5

    def __post_init__(self) -> None:
        refuse_below(self, 1, "iterations")
        refuse_below(self, 4, "population")
        if not self.sigma > 0:
            raise ValueError(f"CMAES.sigma is {self.sigma}; it must be positive")
        require_pycma("CMAES")

    @torch.no_grad()
    def search(
        self, problem: ControlProblem, state: Float[Tensor, "B S"], memory: Memory, generator: torch.Generator | None
    ) -> Found:
        """See :meth:`Planner.search`."""
        steps, actions = memory.actions.shape[1:]
        searched = max(2, steps * actions)
        size = self.population or population_size(searched)
        found = cma_es(
            lambda flat: objective(problem, state, flat.unflatten(-1, (steps, actions))),
            problem.low.repeat(steps),
            problem.high.repeat(steps),
            standard_normal(problem, generator, self.iterations, len(state), size, searched),
            memory.actions.flatten(1),
            self.sigma,
        )
        return found.action.unflatten(-1, (steps, actions)), memory.kept
