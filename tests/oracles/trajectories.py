"""Exact expectations: every trajectory of M2 (two states, two actions, three steps) side by side, with its probability.

64 paths stand in the columns of tensors [T, P], as episodes do in a batch, so that an estimator sees all of them at
once and its expectation is a sum: "unbiased" is an equality and a variance has no error. Formula sheet 0.5. Float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.fixtures import HORIZON, M2, enumerate_paths, m2, softmax


class Paths(NamedTuple):
    """Every trajectory, in columns."""

    states: Tensor  # [T, P] int
    actions: Tensor  # [T, P] int
    reward: Tensor  # [T, P]
    dynamics: Tensor  # [P], p(s_0) Π p(s_{t+1}|s_t, a_t): the probability without that of the actions

    @property
    def mask(self) -> Tensor:
        """All steps are taken [T, P]."""
        return torch.ones_like(self.reward, dtype=torch.bool)

    def log_prob(self, logits: Tensor) -> Tensor:
        """log π(a_t|s_t) [T, P] of the softmax policy with these logits [S, A]."""
        return logits.log_softmax(-1)[self.states, self.actions]

    def probability(self, logits: Tensor) -> Tensor:
        """p(τ) [P] under that policy, differentiable."""
        return self.dynamics * self.log_prob(logits).sum(0).exp()

    def objective(self, logits: Tensor, gamma: float = 1.0) -> Tensor:
        """J = E Σ_t γᵗ r_t, differentiable in the logits: its gradient is the oracle."""
        discount = gamma ** torch.arange(len(self.reward), dtype=self.reward.dtype)
        return self.probability(logits) @ (discount[:, None] * self.reward).sum(0)

    def gradient(self, logits: Tensor, gamma: float = 1.0) -> Tensor:
        """∇J [S·A]."""
        logits = logits.detach().requires_grad_()
        return torch.autograd.grad(self.objective(logits, gamma), logits)[0].flatten()

    def scores(self, logits: Tensor) -> Tensor:
        """∇ log π(a_t|s_t) [T, P, S·A]: one-hot of the pair minus π in the row of its state."""
        policy = logits.detach().softmax(-1)
        actions = torch.eye(policy.shape[1], dtype=policy.dtype)[self.actions] - policy[self.states]  # [T, P, A]
        states = torch.eye(policy.shape[0], dtype=policy.dtype)[self.states]  # [T, P, S]
        return (states.unsqueeze(-1) * actions.unsqueeze(-2)).flatten(-2)

    def select(self, index: Tensor) -> "Paths":
        """The paths of these columns, as a sampled batch."""
        return Paths(self.states[:, index], self.actions[:, index], self.reward[:, index], self.dynamics[index])


class Problem(NamedTuple):
    """M2 with a policy θ and another one θ', as tensors."""

    m2: M2
    paths: Paths
    logits: Tensor  # [S, A], θ
    other: Tensor  # [S, A], θ'


def problem(seed: int = 0) -> Problem:
    """One random M2 and all of its trajectories."""
    fixture = m2(seed)
    mdp, policy = fixture.mdp, softmax(fixture.logits)
    found = list(enumerate_paths(mdp, policy))
    states = torch.tensor([path.states for path in found]).T
    actions = torch.tensor([path.actions for path in found]).T
    reward = torch.tensor([path.rewards for path in found], dtype=torch.float64).T
    taken = policy[np.array(states), np.array(actions)].prod(0)
    dynamics = torch.tensor([path.probability for path in found], dtype=torch.float64) / torch.from_numpy(taken)
    return Problem(
        fixture,
        Paths(states, actions, reward, dynamics),
        *(torch.from_numpy(x) for x in (fixture.logits, fixture.other_logits)),
    )


def weighted_scores(scores: Tensor, weight: Tensor) -> Tensor:
    """Σ_t w_t ∇ log π(a_t|s_t) per path [P, S·A], of scores [T, P, S·A] and weights [T, P]."""
    return (scores * weight.unsqueeze(-1)).sum(0)


def mean_and_variance(estimate: Tensor, probability: Tensor) -> tuple[Tensor, Tensor]:
    """Exact moments [K] of an estimate [P, K] over paths with these probabilities [P]."""
    mean = probability @ estimate
    return mean, probability @ (estimate - mean).square()


def expectation_over_pairs(estimate: Callable[[Tensor], Tensor], probability: Tensor) -> Tensor:
    """E of an estimate from a batch of two independent paths: a sum over all P² pairs.

    Args:
        estimate: from the columns [2] of a batch to its gradient estimate [K].
        probability: [P], of each path.
    """
    count = len(probability)
    total = torch.zeros(())
    for i in range(count):
        for j in range(count):
            total = total + probability[i] * probability[j] * estimate(torch.tensor([i, j]))
    return total


__all__ = ["HORIZON", "Paths", "Problem", "expectation_over_pairs", "mean_and_variance", "problem", "weighted_scores"]
