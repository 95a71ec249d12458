"""The iterative linear-quadratic regulator (iLQR): Gauss-Newton on the actions.

Paper: Li & Todorov 2004; Tassa, Erez & Todorov 2012. Formula sheet: 9.2.1a, G7.

    f to first order, c to second, about the last trajectory; one pass of LQR; roll out; again                 (1)

Costs that are not convex are replaced by their convex part, so that every step descends. On linear dynamics with
quadratic costs the first step is the optimum.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.derivatives import Expansion, convex, expand
from lit_rl.planning.second_order import SecondOrder
from lit_rl.planning.trajectory import ControlProblem


@dataclass(frozen=True)
class ILQR(SecondOrder):
    """iLQR with bounds on the actions; see :class:`SecondOrder` for its arguments."""

    def model(
        self, problem: ControlProblem, states: Float[Tensor, "N H1 S"], actions: Float[Tensor, "N H A"]
    ) -> tuple[Expansion, None]:
        """(1), with convex costs."""
        found = expand(problem, states, actions)
        return found._replace(hessian=convex(found.hessian), terminal_hessian=convex(found.terminal_hessian)), None
