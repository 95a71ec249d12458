"""What every planner is: a recipe that turns a problem, a state and what it remembers into a plan. Formula sheet: G8.

In model-predictive control a planner is asked again after every step, and begins from its last plan, moved on by one
step (``Plan.memory``). A planner holds no state of its own: one memory belongs to each problem, and forgetting is
putting the rows of :meth:`Planner.fresh` in its place.

Shapes: *B problems, N candidates, H steps, A dimensions of an action, S of a state, K sequences remembered.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.trajectory import ControlProblem, shift


class Memory(NamedTuple):
    """What a planner may begin from."""

    actions: Tensor  # [*B, H, A]
    kept: Tensor  # [*B, K, H, A], further sequences to try; K = 0 for most planners


class Plan(NamedTuple):
    """What was found. Execute the first action and ask again, or execute all of them."""

    actions: Tensor  # [*B, H, A], within the bounds
    memory: Memory  # for the next step


class Planner(ABC):
    """Recipe of a search for the actions that cost least."""

    @property
    def remembered(self) -> int:
        """K: how many sequences beside the plan are remembered."""
        return 0

    def fresh(self, problem: ControlProblem, *batch: int) -> Memory:
        """The memory of the first step: the middle of the box (0 where it has no end) all along."""
        middle = problem.centre.expand(*batch, problem.horizon, -1)
        return Memory(middle, middle.unsqueeze(-3).expand(*batch, self.remembered, -1, -1))

    def plan(
        self,
        problem: ControlProblem,
        state: Float[Tensor, "*B S"],
        memory: Memory | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Search from ``state``.

        Args:
            problem: what to minimise, the same for all problems unless its callables know better: they see the
                states as [B, N, S], all leading dimensions in one.
            state: where the trajectories start.
            memory: of the previous step; a fresh one by default.
            generator: of all randomness; torch's own without one.

        Raises:
            ValueError: the memory is of another horizon or batch.
        """
        batch = state.shape[:-1]
        if memory is None:
            memory = self.fresh(problem, *batch)
        wanted = (*batch, problem.horizon, len(problem.low))
        if memory.actions.shape != wanted:
            raise ValueError(
                f"{type(self).__name__}: the memory is of shape {[*memory.actions.shape]}, not {[*wanted]}"
            )
        rows, plan = batch.numel(), wanted[-2:]
        flat = Memory(memory.actions.reshape(rows, *plan), memory.kept.reshape(rows, self.remembered, *plan))
        found, kept = self.search(problem, state.reshape(rows, -1), flat, generator)
        actions, kept = found.view(wanted), kept.view(*batch, self.remembered, *plan)
        return Plan(actions, Memory(*self.carry(actions, kept)))

    def carry(self, actions: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """What of a plan is remembered for the next step."""
        return shift(actions), shift(kept)

    @abstractmethod
    def search(
        self,
        problem: ControlProblem,
        state: Float[Tensor, "B S"],
        memory: Memory,
        generator: torch.Generator | None,
    ) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "B K H A"]]:
        """The plan of each problem, and the sequences to remember."""


def objective(problem: ControlProblem, state: Float[Tensor, "B S"], actions: Float[Tensor, "B N H A"]) -> Tensor:
    """−J of every candidate, [B, N]: what the searches for a maximum are given."""
    return -problem.total(state.unsqueeze(1), actions)


def standard_normal(problem: ControlProblem, generator: torch.Generator | None, *shape: int) -> Tensor:
    """N(0, 1) in the problem's dtype and on its device, drawn where the generator is."""
    device = problem.low.device if generator is None else generator.device
    return torch.randn(*shape, generator=generator, dtype=problem.low.dtype, device=device).to(problem.low.device)


def colour(normals: Float[Tensor, "*B H A"], exponent: float) -> Float[Tensor, "*B H A"]:
    """White noise made to have a spectrum ∝ f^(−``exponent``) along H, each number still N(0, 1).

    0 leaves it white, 2 is a random walk's: the larger, the longer a direction is kept. The lowest frequency 0 gets
    the weight of the next one (Timmer & König 1995; Pinneri et al. 2020).
    """
    horizon = normals.shape[-2]
    if exponent == 0.0 or horizon == 1:
        return normals
    frequency = torch.fft.rfftfreq(horizon, dtype=normals.dtype, device=normals.device).clamp(min=1.0 / horizon)
    weight = frequency ** (-exponent / 2)
    twice = torch.full_like(weight, 2.0)  # every frequency but 0 and, for even H, the last one stands for two
    twice[0] = 1.0
    if horizon % 2 == 0:
        twice[-1] = 1.0
    weight = weight / ((twice * weight.square()).sum() / horizon).sqrt()
    return torch.fft.irfft(torch.fft.rfft(normals, dim=-2) * weight[:, None], n=horizon, dim=-2)


def uniform(problem: ControlProblem, generator: torch.Generator | None, *shape: int) -> Tensor:
    """Uniform actions of the box, the last of ``shape`` being A.

    Raises:
        ValueError: the box has no end.
    """
    if not (problem.low.isfinite() & problem.high.isfinite()).all():
        raise ValueError(
            f"uniform actions need bounds, and low is {problem.low.tolist()}, high {problem.high.tolist()}"
        )
    device = problem.low.device if generator is None else generator.device
    unit = torch.rand(*shape, generator=generator, dtype=problem.low.dtype, device=device).to(problem.low.device)
    return problem.low + (problem.high - problem.low) * unit


def clip(problem: ControlProblem, actions: Tensor) -> Tensor:
    """Into the box."""
    return torch.minimum(torch.maximum(actions, problem.low), problem.high)
