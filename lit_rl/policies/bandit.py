"""Acting in bandits: an index, a sample, or a distribution per pull, from counts alone.

Every state is a bandit of its own, [S, A] tables. Formula sheet: 12.0.1a–12.0.3b.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor

from lit_rl.batch import Observation
from lit_rl.planning import bandits
from lit_rl.policies.categorical import best_action
from lit_rl.policies.network import legal_actions
from lit_rl.policies.policy import Act, Policy
from lit_rl.policies.table import count_states, draw, states_of

Array = np.ndarray
GRID = 1000  # points of the quadrature over an arm's mean


@dataclass(frozen=True)
class Belief:
    """Prior over an arm's mean reward.

    Args:
        kind: ``beta``: rewards in [0, 1], Beta(``prior_mean``·2, (1 − ``prior_mean``)·2), which at ½ is uniform;
            ``gaussian``: rewards with noise of known spread.
        prior_mean: of an arm's mean.
        prior_std: of an arm's mean (gaussian).
        noise_std: of a reward around it (gaussian).
    """

    kind: Literal["beta", "gaussian"] = "beta"
    prior_mean: float = 0.5
    prior_std: float = 1.0
    noise_std: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("beta", "gaussian"):
            raise ValueError(f"Belief.kind is {self.kind!r}; it is beta or gaussian")
        if self.kind == "beta" and not 0 < self.prior_mean < 1:
            raise ValueError(f"Belief.prior_mean is {self.prior_mean}; of a Beta it lies in (0, 1)")
        if not (self.prior_std > 0 and self.noise_std > 0):
            raise ValueError(f"Belief needs positive spreads; got {self}")

    def beta(self, counts: Array, total: Array) -> tuple[Array, Array]:
        """α and β after ``counts`` pulls that paid ``total``; a reward inside (0, 1) is that share of a success."""
        return 2.0 * self.prior_mean + total, 2.0 * (1.0 - self.prior_mean) + counts - total

    def gaussian(self, counts: Array, total: Array) -> tuple[Array, Array]:
        """Mean and variance: precision 1/s₀² + N/s², mean (m₀/s₀² + Σ r/s²)/precision."""
        precision = 1.0 / self.prior_std**2 + counts / self.noise_std**2
        mean = (self.prior_mean / self.prior_std**2 + total / self.noise_std**2) / precision
        return mean, 1.0 / precision

    def mean(self, counts: Array, total: Array) -> Array:
        """E[θ_a]."""
        if self.kind == "gaussian":
            return self.gaussian(counts, total)[0]
        alpha, beta = self.beta(counts, total)
        return alpha / (alpha + beta)

    def optimum(self, counts: Array, total: Array) -> bandits.Optimum:
        """Quadrature over the best of the arms [A]."""
        if self.kind == "gaussian":
            mean, variance = self.gaussian(counts, total)
            spread = np.sqrt(variance)
            grid = np.linspace((mean - 6 * spread).min(), (mean + 6 * spread).max(), GRID)
            log_density = -0.5 * np.square((grid - mean[:, None]) / spread[:, None])
        else:
            alpha, beta = self.beta(counts, total)
            grid = (np.arange(GRID) + 0.5) / GRID
            log_density = (alpha[:, None] - 1) * np.log(grid) + (beta[:, None] - 1) * np.log1p(-grid)
        return bandits.posterior_optimum(grid, np.exp(log_density - log_density.max(-1, keepdims=True)))


class BanditPolicy(Policy, ABC):
    """Keeps how often each arm was pulled and what it paid; without exploration, pulls the best on average."""

    counts: Tensor
    total: Tensor

    def __init__(self, observation_space: gymnasium.Space, actions: int) -> None:
        super().__init__()
        table = torch.zeros(count_states(observation_space), actions, dtype=torch.float64)
        self.register_buffer("counts", table)
        self.register_buffer("total", table.clone())

    @abstractmethod
    def choose(self, counts: Array, total: Array, rng: np.random.Generator) -> tuple[int, float]:
        """The arm to pull after these pulls [A] that paid these sums [A], and its log-probability where it is known."""

    def mean(self, counts: Array, total: Array) -> Array:
        """What the arms are thought to pay [..., A]: here, what they paid on average."""
        return np.where(counts > 0, total / np.maximum(counts, 1), 0.0)

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        rows, mask = states_of(obs), legal_actions(obs)
        if mask is not None and not mask.all():
            raise ValueError("bandit policies know no illegal arms: every action must be legal")
        counts, total = self.counts.cpu().numpy()[rows], self.total.cpu().numpy()[rows]
        if not explore:
            return Act(self.mean(counts, total).argmax(-1), np.zeros(len(rows), np.float32), state)
        chosen = [self.choose(n, paid, rng) for n, paid in zip(counts, total, strict=True)]
        action, log_prob = zip(*chosen, strict=True)
        return Act(np.array(action), np.array(log_prob, np.float32), state)

    def forward(self, obs: Observation) -> Tensor:
        """The arm that paid best [B]: what is exported."""
        value = torch.from_numpy(self.mean(self.counts.cpu().numpy(), self.total.cpu().numpy()))
        return best_action(value.to(self.counts.device)[states_of(obs)], legal_actions(obs))


class UCBPolicy(BanditPolicy):
    """The largest upper confidence bound, the lowest arm among equals; every arm once first."""

    def __init__(self, observation_space: gymnasium.Space, actions: int, width: float) -> None:
        super().__init__(observation_space, actions)
        self.width = width

    def choose(self, counts: Array, total: Array, rng: np.random.Generator) -> tuple[int, float]:
        """See :meth:`BanditPolicy.choose`."""
        index = bandits.ucb1(self.mean(counts, total), counts, int(counts.sum()), self.width)
        return int(index.argmax()), 0.0


class ThompsonPolicy(BanditPolicy):
    """The best arm of a world drawn from the posterior. The log-probability of a pull is not known, and given as 0."""

    def __init__(self, observation_space: gymnasium.Space, actions: int, belief: Belief) -> None:
        super().__init__(observation_space, actions)
        self.belief = belief

    def mean(self, counts: Array, total: Array) -> Array:
        """The posterior's."""
        return self.belief.mean(counts, total)

    def choose(self, counts: Array, total: Array, rng: np.random.Generator) -> tuple[int, float]:
        """See :meth:`BanditPolicy.choose`."""
        if self.belief.kind == "beta":
            drawn = rng.beta(*self.belief.beta(counts, total))
        else:
            mean, variance = self.belief.gaussian(counts, total)
            drawn = rng.normal(mean, np.sqrt(variance))
        return int(drawn.argmax()), 0.0


Target = Literal["param", "optimal_action", "variance"]


class InformationDirectedPolicy(BanditPolicy):
    """Little regret for much information: minimises (expected regret)²/(information gain)."""

    def __init__(
        self, observation_space: gymnasium.Space, actions: int, belief: Belief, target: Target, randomised: bool
    ) -> None:
        super().__init__(observation_space, actions)
        self.belief, self.target, self.randomised = belief, target, randomised

    def mean(self, counts: Array, total: Array) -> Array:
        """The posterior's."""
        return self.belief.mean(counts, total)

    def choose(self, counts: Array, total: Array, rng: np.random.Generator) -> tuple[int, float]:
        """See :meth:`BanditPolicy.choose`."""
        optimum, mean = self.belief.optimum(counts, total), self.mean(counts, total)
        delta = np.maximum(optimum.maximum - mean, 0.0)
        rule = bandits.randomised_ids if self.randomised else bandits.deterministic_ids
        action, log_prob = draw(rule(delta, self.gain(optimum, counts, total))[None], rng, explore=True)
        return int(action[0]), float(log_prob[0])

    def gain(self, optimum: bandits.Optimum, counts: Array, total: Array) -> Array:
        """g(a) [A], in nats, or its lower bound from the variance of E[r_a|A*]."""
        mean = self.mean(counts, total)
        if self.target == "optimal_action":
            return bandits.optimal_action_information(optimum, mean)
        if self.target == "variance":
            variance = bandits.optimal_action_variance(optimum, mean)
            if self.belief.kind == "beta":
                return 2.0 * variance
            return variance / (2.0 * (self.belief.gaussian(counts, total)[1] + self.belief.noise_std**2))
        if self.belief.kind == "beta":
            return bandits.beta_information(*self.belief.beta(counts, total))
        return bandits.gaussian_information(self.belief.gaussian(counts, total)[1], self.belief.noise_std**2)
