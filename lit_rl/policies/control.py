"""Acting with known physics: observations become states, plans become actions, and memory is the planner's.

Formula sheet: 9.1.1a, 9.2.1a, 9.2.2a, G8.
"""

from abc import abstractmethod
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lit_rl.batch import Observation
from lit_rl.planning.lqr import StationaryPolicy
from lit_rl.planning.planner import Memory, Plan, Planner
from lit_rl.planning.regulator import CostToGo
from lit_rl.planning.second_order import SecondOrder
from lit_rl.planning.systems.system import System
from lit_rl.planning.task import Controlled
from lit_rl.planning.trajectory import ControlProblem
from lit_rl.policies.policy import Act, Policy

Array = np.ndarray


class ControlPolicy(Policy):
    """Computes in float64 on the CPU, wherever the agent is.

    Args:
        controlled: the system and what to plan for.
        action_space: of the environment.

    Raises:
        ValueError: the system's actions are not the environment's.
    """

    def __init__(self, controlled: Controlled, action_space: gymnasium.Space) -> None:
        super().__init__()
        self.system: System = controlled.system
        self.problem: ControlProblem = controlled.problem
        self.shape = action_space.shape or ()
        self.discrete = isinstance(action_space, spaces.Discrete)
        here, there = len(self.problem.low), int(np.prod(self.shape))
        if isinstance(action_space, spaces.Discrete):
            here, there = len(self.system.choices), int(action_space.n)
        if here != there:
            raise ValueError(f"{type(self.system).__name__} has {here} actions and the environment {there}")

    def state_of(self, obs: Any) -> Tensor:
        """The system's state [*B, S] from observations [*B, ...], arrays or tensors."""
        return self.system.state_of(torch.as_tensor(obs, device="cpu").double())

    def to_env(self, action: Tensor) -> Tensor:
        """What the environment is told: the nearest of its choices, or [*B, A] in its shape."""
        if self.discrete:
            return (action.unsqueeze(-2) - action.new_tensor(self.system.choices)).square().sum(-1).argmin(-1)
        return action.reshape(*action.shape[:-1], *self.shape)

    def from_env(self, action: Tensor) -> Tensor:
        """The inverse of :meth:`to_env`, as the motors apply it."""
        if self.discrete:
            return torch.tensor(self.system.choices, dtype=torch.float64)[action.long().cpu()]
        lead = action.ndim - len(self.shape)
        return self.system.clip(action.cpu().double().reshape(*action.shape[:lead], -1))

    def planned(self, state: Array) -> Tensor | None:
        """The actions [N, H, A] that memories [N, ·] have in mind from now on; None of a policy without a plan."""
        return None

    @abstractmethod
    def cost_to_go(self, state: Tensor) -> Tensor:
        """What is still to be paid from states [N, S], as far as is looked ahead, [N]."""


class FeedbackPolicy(ControlPolicy):
    """u = K(x − x*): one matrix for all times.

    Args:
        controlled: see :class:`ControlPolicy`.
        action_space: likewise.
        solved: K [A, S] and P [S, S].
    """

    gain: Tensor
    riccati: Tensor
    goal: Tensor

    def __init__(self, controlled: Controlled, action_space: gymnasium.Space, solved: StationaryPolicy) -> None:
        super().__init__(controlled, action_space)
        for name, part in (("gain", solved.gain), ("riccati", solved.riccati), ("goal", controlled.goal)):
            self.register_buffer(name, part)

    def act(self, obs: Any, state: Array, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`; there is nothing to explore."""
        with torch.no_grad():
            action = self(torch.as_tensor(obs, device=self.gain.device)).cpu().numpy()
        return Act(action, np.zeros(len(action), np.float32), state)

    def forward(self, obs: Observation) -> Tensor:
        """The action [B] or [B, A]: what is exported."""
        assert isinstance(obs, Tensor)
        away = self.system.wrapped(self.system.state_of(obs.to(self.gain)) - self.goal)
        action = self.to_env(self.system.clip(away @ self.gain.mT))
        return action if self.discrete else action.to(obs.dtype)

    def cost_to_go(self, state: Tensor) -> Tensor:
        """(x − x*)ᵀP(x − x*)."""
        return CostToGo(self.system, self.riccati, self.goal)(state)


class PlanningPolicy(ControlPolicy):
    """What keeps a plan from step to step, in a memory for each environment.

    A memory is one row of numbers that are all 0 where an episode begins: how many steps it has had, and behind that
    the plan. Plans of all environments that need one are made at once. Where planning draws random numbers, ``rng`` is
    where they come from; acting greedily they depend on ``seed`` and these steps alone: the same episodes get the same
    plans. ``seed`` [] is drawn as a network's first weights are, and saved with them.
    """

    seed: Tensor

    def __init__(self, controlled: Controlled, action_space: gymnasium.Space) -> None:
        super().__init__(controlled, action_space)
        self.register_buffer("seed", torch.randint(2**31, ()))

    def _generator(self, steps: Array, rng: np.random.Generator, explore: bool) -> torch.Generator:
        seed = int(rng.integers(2**63)) if explore else int(self.seed) + int(steps.sum())
        return torch.Generator().manual_seed(seed)

    def act(self, obs: Any, state: Array, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        with torch.no_grad():
            generator = self._generator(state[:, 0], rng, explore)
            action, memory = self.control(self.state_of(obs), torch.from_numpy(np.array(state)), generator)
            chosen = self.to_env(action).numpy()
        if not self.discrete:
            chosen = chosen.astype(np.float32)
        return Act(chosen, np.zeros(len(chosen), np.float32), memory.numpy())

    @abstractmethod
    def control(self, state: Tensor, memory: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Actions [N, A] in states [N, S] float64, and the next memories, from memories [N, ·] float32."""


class RecedingHorizonPolicy(PlanningPolicy):
    """Model-predictive control: plan in every step, take the first action of the plan, begin from the rest of it.

    The memory is the difference from the planner's fresh one, in float32.

    Args:
        controlled: see :class:`ControlPolicy`.
        action_space: likewise.
        planner: what plans.
    """

    def __init__(self, controlled: Controlled, action_space: gymnasium.Space, planner: Planner) -> None:
        super().__init__(controlled, action_space)
        self.planner = planner
        self.plan_size = controlled.problem.horizon * len(controlled.problem.low)
        self.state_size = 1 + (1 + planner.remembered) * self.plan_size

    def control(self, state: Tensor, memory: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :meth:`PlanningPolicy.control`."""
        plan = self.plan(state, memory, generator)
        fresh = self.planner.fresh(self.problem, len(state))
        parts = [(now - then).flatten(1) for now, then in zip(plan.memory, fresh, strict=True)]
        return plan.actions[:, 0], torch.cat([memory[:, :1] + 1.0, *(part.float() for part in parts)], -1)

    def plan(self, state: Tensor, memory: Tensor, generator: torch.Generator | None = None) -> Plan:
        """The plans [N, H, A] from states [N, S]."""
        return self.planner.plan(self.problem, state, self._remembered(memory), generator)

    def _remembered(self, memory: Tensor) -> Memory:
        fresh = self.planner.fresh(self.problem, len(memory))
        actions, kept = memory[:, 1:].double().split([self.plan_size, self.planner.remembered * self.plan_size], -1)
        return Memory(fresh.actions + actions.view_as(fresh.actions), fresh.kept + kept.view_as(fresh.kept))

    def planned(self, state: Array) -> Tensor:
        """See :meth:`ControlPolicy.planned`."""
        return self._remembered(torch.from_numpy(np.array(state))).actions

    def cost_to_go(self, state: Tensor) -> Tensor:
        """The cost of a plan from a fresh start."""
        memory = torch.zeros(len(state), self.state_size)
        return self.problem.total(state, self.plan(state, memory, torch.Generator().manual_seed(0)).actions)


class TrajectoryPolicy(PlanningPolicy):
    """Follows a trajectory by its own feedback: u = û_t + K_t(x − x̂_t), clipped; a new one now and then.

    A trajectory is planned where an episode begins and again every ``replan_every`` steps, from the rest of the last
    one, whose last action is repeated. The memory is û, x̂ and K in float32.

    Args:
        controlled: see :class:`ControlPolicy`.
        action_space: likewise.
        planner: iLQR or DDP.
        replan_every: steps.
    """

    def __init__(
        self, controlled: Controlled, action_space: gymnasium.Space, planner: SecondOrder, replan_every: int
    ) -> None:
        super().__init__(controlled, action_space)
        self.planner, self.replan_every = planner, replan_every
        horizon, actions, size = self.problem.horizon, len(self.problem.low), len(controlled.goal)
        self.shapes = (horizon, actions), (horizon, size), (horizon, actions, size)
        self.state_size = 1 + sum(int(np.prod(shape)) for shape in self.shapes)

    def control(self, state: Tensor, memory: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :meth:`PlanningPolicy.control`."""
        since = memory[:, 0].long() % self.replan_every  # the step of its trajectory that is next
        due = (since == 0).nonzero().squeeze(-1)
        if len(due):
            found = self.planner.best(self.problem, state[due], self._rest(memory[due]), generator)
            parts = (found.actions, found.states[:, :-1], found.gain)
            memory[due, 1:] = torch.cat([part.flatten(1) for part in parts], -1).float()
        rows = torch.arange(len(state))
        action, nominal, gain = (part[rows, since].double() for part in self._unpacked(memory))
        away = self.system.wrapped(state - nominal).unsqueeze(-1)
        memory[:, 0] += 1.0
        return self.system.clip(action + (gain @ away).squeeze(-1)), memory

    def _unpacked(self, memory: Tensor) -> list[Tensor]:
        parts = memory[:, 1:].split([int(np.prod(shape)) for shape in self.shapes], -1)
        return [part.view(len(memory), *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _rest(self, memory: Tensor) -> Tensor:
        """The actions from the next step of each trajectory on, [N, H, A]; a fresh one's are the middle of the box."""
        clock = memory[:, :1].long()
        since = (clock - 1) % self.replan_every + 1  # steps taken of the last trajectory
        step = (since + torch.arange(self.problem.horizon)).clamp(max=self.problem.horizon - 1)
        actions = self._unpacked(memory)[0].double()
        rest = actions.gather(1, step.unsqueeze(-1).expand_as(actions))
        return torch.where(clock.unsqueeze(-1) == 0, self.problem.centre, rest)

    def planned(self, state: Array) -> Tensor:
        """See :meth:`ControlPolicy.planned`; without the feedback."""
        return self._rest(torch.from_numpy(np.array(state)))

    def cost_to_go(self, state: Tensor) -> Tensor:
        """The cost of a trajectory planned from a fresh start."""
        fresh = self.planner.fresh(self.problem, len(state)).actions
        return self.planner.best(self.problem, state, fresh, torch.Generator().manual_seed(0)).cost
