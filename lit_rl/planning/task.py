"""What an agent that knows the physics is told: which system, what it costs, how far to look. Formula sheet: 9.2.2a."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.planning.regulator import CostToGo, regulate
from lit_rl.planning.systems.cart_pole import CartPole
from lit_rl.planning.systems.double_integrator import DoubleIntegrator
from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.systems.system import QuadraticCost, System
from lit_rl.planning.trajectory import ControlProblem, Cost

KNOWN: dict[str, tuple[System, Cost]] = {
    "Pendulum-v1": (Pendulum(), Pendulum().cost),
    "CartPole-v1": (CartPole(), QuadraticCost((1.0, 1.0, 10.0, 1.0), (0.01,))),
    "lit_rl/DoubleIntegrator-v0": (DoubleIntegrator(max_force=10.0), QuadraticCost((1.0, 1.0), (0.1,))),
}
"""The physics of environments and what a step costs there: minus the reward, but CartPole's reward is 1 until it falls,
from which no planner that looks a second ahead learns how to stand, and an old quadratic cost takes its place."""


class Controlled(NamedTuple):
    """A task in an environment."""

    system: System
    problem: ControlProblem
    goal: Tensor  # x* [S], where the cost is least


@dataclass(frozen=True)
class ControlTask:
    """Recipe of a control problem in an environment whose physics are known.

    Args:
        horizon: H, steps that a plan looks ahead.
        system: the physics to plan with, which may be wrong on purpose; by default the environment's own.
        cost: of a step; by default the environment's own.
        final: what the end of a plan costs: ``none``; ``step`` one more step without action, or the cost's own final
            weights; ``riccati`` the cost-to-go of LQR about the goal, with which a short horizon is as good as a long
            one near it.
    """

    horizon: int = 25
    system: System | None = None
    cost: QuadraticCost | None = None
    final: Literal["none", "step", "riccati"] = "none"

    def __post_init__(self) -> None:
        refuse_below(self, 1, "horizon")
        if self.final not in ("none", "step", "riccati"):
            raise ValueError(f"ControlTask.final is {self.final!r}; it is none, step or riccati")

    def open(self, env_id: str, kwargs: dict[str, Any], gamma: float) -> Controlled:
        """The problem, in float64.

        Args:
            env_id: of the environment.
            kwargs: its arguments; other physics than the registered ones must be given as ``system``.
            gamma: γ.

        Raises:
            ValueError: physics or cost are not known, or do not fit each other.
        """
        known = KNOWN.get(env_id.rpartition(":")[2])
        changed = known is not None and set(kwargs) - {"render_mode", "noise", "sutton_barto_reward"}
        if self.system is None and (known is None or changed):
            what = f"{env_id} with {', '.join(sorted(changed))}" if changed else env_id
            raise ValueError(
                f"ControlTask.system: the physics of {what} are not known here (those of {', '.join(KNOWN)} are); "
                f"name one"
            )
        if self.cost is None and known is None:
            raise ValueError(f"ControlTask.cost: there is none for {env_id}; give weights")
        system = self.system or known[0]  # type: ignore[index]
        cost: Cost = self.cost or known[1]  # type: ignore[index]
        size, actions = len(system.state_names), len(system.action_names)
        if isinstance(cost, QuadraticCost) and (len(cost.state), len(cost.action)) != (size, actions):
            raise ValueError(
                f"ControlTask.cost: there are {len(cost.state)} weights of the state and {len(cost.action)} of the "
                f"action; {type(system).__name__} has {size} and {actions}"
            )
        goal = torch.zeros(size, dtype=torch.float64)
        if isinstance(cost, QuadraticCost) and cost.goal is not None:
            goal = torch.tensor(cost.goal, dtype=torch.float64)
        low, high = (torch.tensor(bound, dtype=torch.float64) for bound in (system.low, system.high))
        terminal: Any = None
        if self.final == "step":
            terminal = cost.terminal if isinstance(cost, QuadraticCost) else AtRest(cost, actions)
        elif self.final == "riccati":
            terminal = CostToGo(system, regulate(system, cost, goal, actions, gamma).riccati, goal)
        return Controlled(system, ControlProblem(system, cost, low, high, self.horizon, terminal, gamma), goal)


@dataclass(frozen=True, eq=False)
class AtRest:
    """The cost of a state without action."""

    cost: Cost
    actions: int

    def __call__(self, state: Tensor) -> Tensor:
        """[*B, S] → [*B]."""
        return self.cost(state, state.new_zeros(*state.shape[:-1], self.actions))
