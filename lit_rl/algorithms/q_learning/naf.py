"""Q-learning with normalised advantage functions (NAF).

Paper    Gu, Lillicrap, Sutskever & Levine 2016, "Continuous deep Q-learning with model-based acceleration", 4.
         Formula sheet: 7.5.2a, 7.1c, 7.3.1a, G2
Update   q(s, a) = V(s) − ½ (a − μ(s))ᵀ P(s) (a − μ(s)),  P = L Lᵀ             (1)
         y    = r + γ(1 − terminated) V(s'; θ⁻)                                (2)
         L(θ) = mean w ½ (q(s, a; θ) − y)²                                     (3)
         θ⁻  ← (1 − τ) θ⁻ + τ θ                                                (4)
Data     Replay: act by μ(s), which is the maximum of q, plus noise, clipped to the box; uniformly random at first.
Differs  L is lower triangular with an exponential diagonal, its logarithm clamped to [−5, 2]. Actions inside (1)
         are scaled to [−1, 1], and μ is squashed into the box, so that it stays the maximum there. V, μ and L share
         one body.
"""

import math
from collections.abc import Iterator

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Transition, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.losses import weighted_mean
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import POLICY_GAIN, linear_head
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.deterministic import DeterministicPolicy
from lit_rl.policies.exploration import GaussianNoise, Noise

LOG_DIAGONAL_MIN, LOG_DIAGONAL_MAX = -5.0, 2.0


def lower_triangular(entries: Float[Tensor, "B M"], dimensions: int) -> Float[Tensor, "B A A"]:
    """L of (1) from its A(A + 1)/2 entries, row by row; those on the diagonal are logarithms."""
    row, column = torch.tril_indices(dimensions, dimensions, device=entries.device)
    diagonal = entries.clamp(LOG_DIAGONAL_MIN, LOG_DIAGONAL_MAX).exp()
    values = torch.where(row == column, diagonal, entries)
    batch = torch.arange(len(entries), device=entries.device)[:, None]
    return entries.new_zeros(len(entries), dimensions, dimensions).index_put((batch, row, column), values)


def normalized_advantage_q(
    value: Float[Tensor, " B"],
    mean: Float[Tensor, "B A"],
    cholesky: Float[Tensor, "B A A"],
    action: Float[Tensor, "B A"],
) -> Float[Tensor, " B"]:
    """(1): −½ ‖Lᵀ (a − μ)‖² below the value, so that μ is the maximum."""
    return value - 0.5 * torch.einsum("bij,bi->bj", cholesky, action - mean).square().sum(-1)


class NAF(Agent):
    """Q-learning whose values are quadratic in the action, so that their maximum is known.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body that V, μ and L stand on.
        optimizer: how parameters move.
        gamma: discount per step.
        tau: weight of the new parameters in (4).
        noise: added to the actions.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Box",)
    policy: DeterministicPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=1_000_000, batch_size=256, replay_ratio=1.0, warmup=1_000),
        net: Body = MLP((256, 256), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=1e-3, max_grad_norm=10.0),
        gamma: float = 0.99,
        tau: float = 0.005,
        noise: Noise = GaussianNoise(0.2),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        space = self.env.action_space
        assert isinstance(space, spaces.Box)
        self.require(space.is_bounded(), "env", self.env.id, f"NAF needs a bounded Box; it has {space}")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.tau, self.dimensions = tau, math.prod(space.shape)
        body = net.build(self.env.observation_space)
        if body.state_size:
            raise ValueError("NAF learns from single transitions and its net has a memory: use a body without one")
        head = linear_head(body.out_features, self.dimensions, POLICY_GAIN)
        self.policy = DeterministicPolicy(body, head, space, noise)
        gain = 1.0 if net.head_is_orthogonal else None
        self.value_head = linear_head(body.out_features, 1, gain)
        self.cholesky_head = linear_head(body.out_features, self.dimensions * (self.dimensions + 1) // 2, POLICY_GAIN)
        self.value_target = TargetNetwork(Layers(body, self.value_head))

    def minibatches(self, data: Transition) -> Iterator[Transition]:
        """One per update; all of them count in the normaliser, where there is one."""
        if len(data.reward):
            self.policy.body.update_statistics(data.obs)
        yield from unstack(data)

    def q(self, obs: Observation, action: Float[Tensor, "*shape"]) -> Float[Tensor, " B"]:
        """q(s, a) of (1), actions in the environment's units."""
        features = self.policy.body(obs)
        mean = torch.tanh(self.policy.head(features))
        cholesky = lower_triangular(self.cholesky_head(features), self.dimensions)
        value = self.value_head(features).squeeze(-1)
        return normalized_advantage_q(value, mean, cholesky, self.policy.unscale(action))

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(3)."""
        with torch.no_grad():
            target = batch.reward + batch.discount * self.value_target(batch.next_obs).squeeze(-1)  # (2)
        error = self.q(batch.obs, batch.action) - target
        self.experience.learnt(batch.index, error)
        self.record(value=target, td_error=error.detach().abs())
        return {"td_loss": weighted_mean(0.5 * error.square(), batch.weight)}  # (3)

    def after_update(self) -> None:
        """(4)."""
        self.value_target.follow(self.tau)

    def schedules(self) -> dict[str, float]:
        """σ."""
        return {"noise": self.policy.noise.schedule(self.env_steps)}

    def state_value(self, obs: Observation) -> Tensor:
        """V(s) = max_a q(s, a) [B], for the diagnostic."""
        return self.value_head(self.policy.body(obs)).squeeze(-1)
