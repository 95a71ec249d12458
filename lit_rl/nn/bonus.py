"""Exploration bonuses: what an agent is paid for going where it has seldom been. Formula sheet: 12.1a, 12.1.2a.

A recipe builds a module whose state travels with the agent. Bonuses are asked for when a reward is used, not
when it is stored: they fall as counts grow, and a replay that kept them would pay yesterday's.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import gymnasium
import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from lit_rl.batch import Observation

Form = Literal["ucb", "mbie", "beb", "smoothed"]


class Bonus(nn.Module, ABC):
    """Learns from what is visited, and pays for it."""

    @abstractmethod
    def visit(self, obs: Observation, action: Tensor, next_obs: Observation) -> None:
        """Take note of transitions [B]."""

    @abstractmethod
    def forward(self, obs: Observation, action: Tensor, next_obs: Observation) -> Float[Tensor, " B"]:
        """What transitions [B] are worth now, beside their rewards."""


class BonusRecipe(ABC):
    """Frozen description of a bonus; ``build`` makes it for one pair of spaces."""

    @abstractmethod
    def build(self, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> Bonus:
        """The module.

        Raises:
            ValueError: this recipe does not fit the spaces.
        """


def count_bonus(
    counts: Float[Tensor, "*batch"], form: Form, scale: float = 1.0, total: float | Tensor = 0.0
) -> Float[Tensor, "*batch"]:
    """B(N) of counts after the visit; infinite at N = 0, but for the smoothed form.

        ucb: β √(2 ln n / N)    mbie: β/√N    beb: β/N    smoothed: β (N + 0.01)^(−1/2)

    Auer et al. 2002; Strehl & Littman 2008 (MBIE-EB); Kolter & Ng 2009 (BEB); Bellemare et al. 2016.

    Args:
        counts: N.
        form: which.
        scale: β.
        total: n of ``ucb``, all visits so far.

    Raises:
        ValueError: the form is unknown.
    """
    if form == "ucb":
        return scale * (
            2.0 * torch.as_tensor(total, dtype=counts.dtype).clamp(min=1.0).log() / counts
        ).sqrt().nan_to_num(nan=torch.inf, posinf=torch.inf)
    if form == "mbie":
        return scale * counts.rsqrt()
    if form == "beb":
        return scale / counts
    if form == "smoothed":
        return scale * (counts + 0.01).rsqrt()
    raise ValueError(f"count_bonus: form is {form!r}; it is ucb, mbie, beb or smoothed")


@dataclass(frozen=True)
class CountBonus(BonusRecipe):
    """Counts visits of Discrete observations.

    Args:
        form: of B(N), see :func:`count_bonus`.
        scale: β.
        per: count every ``pair`` (s, a), or the ``state`` s' that is reached.
    """

    form: Form = "mbie"
    scale: float = 1.0
    per: Literal["pair", "state"] = "pair"

    def __post_init__(self) -> None:
        if self.form not in ("ucb", "mbie", "beb", "smoothed"):
            raise ValueError(f"CountBonus.form is {self.form!r}; it is ucb, mbie, beb or smoothed")
        if not self.scale >= 0 or self.per not in ("pair", "state"):
            raise ValueError(f"CountBonus needs scale ≥ 0 and per pair or state; got {self}")

    def build(self, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> "Counts":
        """See :meth:`BonusRecipe.build`."""
        if not isinstance(observation_space, spaces.Discrete) or not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"CountBonus counts Discrete spaces, not {observation_space} and {action_space}")
        return Counts(self, int(observation_space.n), int(action_space.n))


class Counts(Bonus):
    """N(s, a) [S, A], or N(s) [S, 1]."""

    counts: Tensor

    def __init__(self, recipe: CountBonus, states: int, actions: int) -> None:
        super().__init__()
        self.recipe = recipe
        columns = actions if recipe.per == "pair" else 1
        self.register_buffer("counts", torch.zeros(states, columns, dtype=torch.float64))

    def visit(self, obs: Observation, action: Tensor, next_obs: Observation) -> None:
        """See :meth:`Bonus.visit`."""
        index = self._index(obs, action, next_obs)
        self.counts.index_put_(index, self.counts.new_ones(()), accumulate=True)

    def forward(self, obs: Observation, action: Tensor, next_obs: Observation) -> Float[Tensor, " B"]:
        """See :meth:`Bonus.forward`."""
        return self.table()[self._index(obs, action, next_obs)]

    def table(self) -> Tensor:
        """B(N) [S, A] or [S, 1]."""
        return count_bonus(self.counts, self.recipe.form, self.recipe.scale, self.counts.sum())

    def _index(self, obs: Observation, action: Tensor, next_obs: Observation) -> tuple[Tensor, Tensor]:
        assert isinstance(obs, Tensor) and isinstance(next_obs, Tensor)
        return (obs, action) if self.recipe.per == "pair" else (next_obs, torch.zeros_like(action))
