"""What is lost by deciding all actions in advance, in a known finite world. Formula sheet: 9.0a.

    open loop      max over a_0 … a_{T−1} of E[Σ_t γᵗ r(s_t, a_t)]            (1)
    closed loop    max over π_t of E_π[Σ_t γᵗ r(s_t, a_t)] ≥ (1)             (2)

They are equal where the start and every transition are certain: then nothing is learned on the way.
"""

from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.dynamic_programming import horizon_value_iteration
from lit_rl.planning.model import Model, Successors


def open_loop_values(model: Model, horizon: int, gamma: float = 1.0) -> Float[Tensor, "..."]:
    """The expected return of every one of Aᵀ action sequences, [A, …, A] with one axis for each step.

    Raises:
        ValueError: the model has a batch, or its transitions are sparse.
    """
    if isinstance(model.transition, Successors) or model.reward.ndim != 2:
        raise ValueError("open_loop_values: takes one model with dense transitions [S, A, S]")
    by_action = model.transition.transpose(0, 1)  # A, S, S
    marginal, values = model.initial, model.reward.new_zeros(())
    for t in range(horizon):
        values = values.unsqueeze(-1) + gamma**t * (marginal @ model.reward)
        marginal = (marginal[..., None, None, :] @ by_action).squeeze(-2)
    return values


def loop_gap(model: Model, horizon: int, gamma: float = 1.0) -> float:
    """(2) − (1): what it is worth to look before each action."""
    closed = horizon_value_iteration(model, horizon, gamma).value[0] @ model.initial
    return float(closed - open_loop_values(model, horizon, gamma).max())
