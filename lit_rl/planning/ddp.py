"""Differential dynamic programming (DDP): Newton's method along a trajectory.

Paper: Mayne 1966; Jacobson & Mayne 1970; bounds by Tassa, Mansard & Todorov 2014. Formula sheet: 9.2.1b.

    Q += Σ_i v'_i ∂²f_i/∂z²,  v' the gradient of the value at the next state of the trajectory                 (1)

Near a minimum the error is squared by every step, where iLQR's shrinks by a factor. Q_uu may be indefinite far from
one: μ then grows until it is not.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.derivatives import Expansion, dynamics_hessian, expand
from lit_rl.planning.second_order import SecondOrder
from lit_rl.planning.trajectory import ControlProblem


@dataclass(frozen=True)
class DDP(SecondOrder):
    """DDP with bounds on the actions; see :class:`SecondOrder` for its arguments."""

    def model(
        self, problem: ControlProblem, states: Float[Tensor, "N H1 S"], actions: Float[Tensor, "N H A"]
    ) -> tuple[Expansion, Float[Tensor, "N H S Z Z"]]:
        """Everything to second order, (1)."""
        return expand(problem, states, actions), dynamics_hessian(problem, states, actions)
