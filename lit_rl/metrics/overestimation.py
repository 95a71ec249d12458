"""How far a value function is from what its greedy policy earns."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def overestimation(
    state_value: Callable[[Any], Tensor], first_obs: Any, discounted: Tensor, final_obs: Any, final_discount: Tensor
) -> dict[str, Tensor]:
    """Means over E episodes: the value of their starts, and by how much it exceeds the discounted return.

    The starts of an evaluation are held out of training. Beyond a time limit the return goes on with the
    value of the last observation, so that a cut episode does not pass for a bad one. E max ≥ max E
    (formula sheet 7.3.1a; van Hasselt 2010) makes the difference positive for plain Q-learning.

    Args:
        state_value: observations [E, ...] → max_a q(s, a) [E].
        first_obs: where each episode began [E, ...].
        discounted: Σ γᵗ r_t [E], of greedy episodes.
        final_obs: their last observations [E, ...].
        final_discount: γᵀ(1 − terminated) [E].
    """
    value = state_value(first_obs)
    earned = discounted
    if bool(final_discount.any()):
        earned = discounted + final_discount * state_value(final_obs)
    return {"start_value": value.mean(), "overestimation": (value - earned).mean()}
