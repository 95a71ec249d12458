"""How far a value function is from what its greedy policy earns."""

from jaxtyping import Float
from torch import Tensor


def overestimation(
    start_value: Float[Tensor, " E"],
    discounted: Float[Tensor, " E"],
    final_value: Float[Tensor, " E"],
    final_discount: Float[Tensor, " E"],
) -> dict[str, Tensor]:
    """Means over E episodes: the value of their starts, and by how much it exceeds the discounted return.

    The starts of an evaluation are held out of training. Beyond a time limit the return goes on with the
    value of the last observation, so that a cut episode does not pass for a bad one. E max ≥ max E
    (formula sheet 7.3.1a; van Hasselt 2010) makes the difference positive for plain Q-learning.

    Args:
        start_value: max_a q(s₀, a).
        discounted: Σ γᵗ r_t, of greedy episodes.
        final_value: max_a q of their last observations.
        final_discount: γᵀ(1 − terminated).
    """
    earned = discounted + final_discount * final_value
    return {"start_value": start_value.mean(), "overestimation": (start_value - earned).mean()}
