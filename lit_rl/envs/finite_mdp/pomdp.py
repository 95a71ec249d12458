"""Finite MDPs seen through a noisy channel, and what can be known of the state. Formula sheet: 3.3a."""

from dataclasses import dataclass

import numpy as np

from lit_rl.envs.finite_mdp.mdp import Array, FiniteMDP


@dataclass(frozen=True, eq=False)
class FinitePOMDP:
    """A finite MDP whose states show themselves through observations.

    Args:
        mdp: the world.
        emission: [S, O] of p(o|s), rows sum to 1.

    Raises:
        ValueError: the shapes disagree, or rows are no distributions.
    """

    mdp: FiniteMDP
    emission: Array

    def __post_init__(self) -> None:
        if self.emission.ndim != 2 or len(self.emission) != self.mdp.states:
            raise ValueError(
                f"FinitePOMDP: emission {self.emission.shape} needs one row for each of {self.mdp.states} states"
            )
        if (self.emission < 0).any() or not np.allclose(self.emission.sum(-1), 1.0):
            raise ValueError("FinitePOMDP: rows of emission must be distributions")

    @property
    def observations(self) -> int:
        """O."""
        return self.emission.shape[1]

    def first_belief(self, observation: int) -> Array:
        """b₀(s) ∝ p(o₀|s) p₀(s), [S].

        Raises:
            ValueError: the observation is impossible.
        """
        return _normalised(self.emission[:, observation] * self.mdp.initial, observation)

    def next_belief(self, belief: Array, action: int, observation: int) -> Array:
        """b'(s') ∝ p(o|s') Σ_s p(s'|s, a) b(s), [S] after ``action`` and then ``observation``.

        Raises:
            ValueError: the observation is impossible there.
        """
        successor, probability = self.mdp.successors()
        flow = np.bincount(
            successor[:, action].ravel(),
            (probability[:, action] * belief[:, None]).ravel(),
            minlength=self.mdp.states,
        )
        return _normalised(self.emission[:, observation] * flow, observation)


def tiger(accuracy: float = 0.85) -> FinitePOMDP:
    """A tiger behind one of two doors: listen (−1, right with probability ``accuracy``), or open one (10 or −100).

    Opening puts the tiger anew. Actions: listen, open left, open right. Observations: heard left, heard right.
    Kaelbling, Littman & Cassandra 1998.
    """
    transition = np.full((2, 3, 2), 0.5)
    transition[:, 0] = np.eye(2)
    reward = np.array([[-1.0, -100.0, 10.0], [-1.0, 10.0, -100.0]])
    emission = np.array([[accuracy, 1.0 - accuracy], [1.0 - accuracy, accuracy]])
    return FinitePOMDP(FiniteMDP(transition, reward, np.full(2, 0.5)), emission)


def _normalised(weight: Array, observation: int) -> Array:
    total = weight.sum()
    if not total > 0:
        raise ValueError(f"observation {observation} is impossible under the belief: model and data disagree")
    return weight / total
