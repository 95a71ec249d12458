"""Sums of the rewards of n steps, over the rows of a memory."""

import numpy as np
from jaxtyping import Float32, Int64, Shaped
from numpy import ndarray


def fold(
    rows: Shaped[ndarray, " R"], index: Int64[ndarray, "*B"], n_step: int, newer: Int64[ndarray, "*B"], num_envs: int
) -> tuple[Float32[ndarray, "*B"], Float32[ndarray, "*B"], Int64[ndarray, "*B"]]:
    """Σ_{k<m} γᵏ r_k, γᵐ(1 − terminated) and the last row of each window, m ≤ n (formula sheet 7.4.2a).

    A window ends with its episode and with the newest row; ``newer`` counts the rows of its environment up to that.
    ``rows`` has the fields ``reward``, ``discount`` (γ(1 − terminated)) and ``done``, each environment in time order.
    """
    last = index
    reward, discount = rows["reward"][index], rows["discount"][index]
    going = ~rows["done"][index]
    for k in range(1, n_step):
        going &= newer >= k
        following = (last + num_envs) % len(rows)
        reward = reward + np.where(going, discount * rows["reward"][following], 0)
        discount = np.where(going, discount * rows["discount"][following], discount)
        last = np.where(going, following, last)
        going &= ~rows["done"][following]
    return reward, discount, last
