"""Posterior sampling for reinforcement learning (PSRL).

Paper    Strens 2000; Osband, Russo & Van Roy 2013, algorithm 1.       Formula sheet: 12.2a
Update   p(·|s, a) ~ Dirichlet(c + n(s, a, ·)),  r(s, a) ~ N((m₀ + Σ r)/(1 + n), σ²/(1 + n))     (1)
         Q = optimal values of the world drawn                                                  (2)
         act greedily in Q until the episode ends, or for ``resample_every`` steps              (3)
Data     Rollouts of one step: act, count; a new world where (3) says so.
Differs  the world is solved for the discount γ, to 10⁻⁴, instead of for the rest of the episode. With several
         environments side by side, all follow the world drawn last.
"""

import numpy as np
import torch
from torch import Tensor

from lit_rl.algorithms.tabular.counts import TransitionCounts
from lit_rl.algorithms.tabular.table_agent import ArrayAgent, steps_of
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.model import Model
from lit_rl.policies.table import TablePolicy


def sample_world(
    counts: Tensor, reward: Tensor, rng: np.random.Generator, prior: float, reward_mean: float, reward_std: float
) -> Model:
    """(1): one world from the posterior.

    Args:
        counts: n(s, a, s') [S, A, S + 1], the last for the end of an episode.
        reward: Σ r [S, A].
        rng: what draws.
        prior: c, of each successor.
        reward_mean: m₀, worth one observation.
        reward_std: σ, of a reward.
    """
    states = counts.shape[0]
    concentration = prior + counts.numpy()
    gamma = np.maximum(rng.standard_gamma(concentration), 1e-300)
    transition = gamma / gamma.sum(-1, keepdims=True)
    seen = 1.0 + counts.sum(-1).numpy()
    drawn = rng.normal((reward_mean + reward.numpy()) / seen, reward_std / np.sqrt(seen))
    start = torch.full((states,), 1.0 / states, dtype=torch.float64)  # of no matter to (2)
    return Model(torch.from_numpy(transition[..., :states].copy()), torch.from_numpy(drawn), start)


class PSRL(ArrayAgent):
    """Acts optimally in a world that may be the true one: deep exploration without a bonus.

    Args:
        env: environment recipe, or its id.
        data: where steps come from.
        gamma: discount of (2), below 1.
        prior: c, of each successor of a pair.
        reward_mean: m₀; above the true rewards it is optimism.
        reward_std: σ, spread of a reward.
        resample_every: env steps between two worlds beside the ends of episodes; null draws at these alone.
        evaluation: greedy episodes in the world drawn last, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy
    since: Tensor

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        gamma: float = 0.99,
        prior: float = 0.1,
        reward_mean: float = 1.0,
        reward_std: float = 1.0,
        resample_every: int | None = None,
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(gamma < 1, "gamma", gamma, "worlds that never end are solved with it below 1")
        self.require(prior > 0, "prior", prior, "it is positive")
        self.require(reward_std > 0, "reward_std", reward_std, "it is positive")
        self.require(resample_every is None or resample_every >= 1, "resample_every", resample_every, "from 1, or null")
        self.prior, self.reward_mean, self.reward_std = prior, reward_mean, reward_std
        self.resample_every = resample_every
        self.policy = TablePolicy(self.env.observation_space, self.actions)
        self.seen = TransitionCounts(self.states, self.actions)
        self.register_buffer("since", torch.full((), -1, dtype=torch.int64))  # env steps under this world; −1: none yet

    def sweep(self, data: Rollout) -> dict[str, float]:
        """Count, and draw a new world where it is time."""
        steps = steps_of(data)
        self.seen.add(steps)
        first = int(self.since) < 0
        self.since += len(steps.state) + first
        over = self.resample_every is not None and int(self.since) >= self.resample_every
        if first or over or steps.done.any():
            self._draw()
            self.since.zero_()
        return {"reward": float(steps.reward.mean()), "pairs_seen": float((self.seen.visits > 0).sum())}

    def _draw(self) -> None:
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        world = sample_world(
            self.seen.transitions, self.seen.reward, rng, self.prior, self.reward_mean, self.reward_std
        )
        self.policy.q.copy_(value_iteration(world, self.gamma, 1e-4).q)  # (2)
