"""Soft Q-learning for continuous actions (SoftQContinuous).

Paper    Haarnoja, Tang, Abbeel & Levine 2017, "Reinforcement learning with deep energy-based policies", 3 and
         Algorithm 1; Liu & Wang 2016 and Feng, Wang & Liu 2017 for the sampler.
         Formula sheet: 15.6.1a, 7.1c, 7.3.1a, G2
Update   V(s') = α log 1/M Σ_i exp(q(s', a_i; θ⁻)/α) / p(a_i),  a_i ~ p uniform over the box            (1)
         y     = r + γ(1 − terminated) V(s')                                                           (2)
         L(θ)  = mean w ½ (q(s, a; θ) − y)²                                                            (3)
         The sampler is a = squash(u), u = ξ + f(ξ, s; φ), ξ ~ N(0, I); what u should be distributed as is
         log p(u|s) = q(s, squash(u); θ)/α + Σ_k log(1 − tanh² u_k) + constant                         (4)
         Δ_i   = mean_j k(u_j, u_i) ∇ log p(u_j|s) + ∇_{u_j} k(u_j, u_i),  k = exp(−‖u_j − u_i‖²/h)       (5)
         φ    ← φ + lr mean_i (∂u_i/∂φ)ᵀ Δ_i                                                              (6)
         θ⁻   ← (1 − τ) θ⁻ + τ θ                                                                       (7)
Data     Replay: act by the sampler, store, sample; uniformly random actions at first. Without exploration the best
         under q of some samples, made from the same noise every time.
Differs  The Stein direction is taken before the squashing, where the density has no edges at which the Stein identity
         would fail. f is added to the noise and begins near 0, so that the first actions are spread over the box and
         every mode has some. h is the median of the squared distances over log M, without gradient; particles i and j
         are two sets, so that none of them attracts itself. Both losses descend in one backward: they reach disjoint
         parameters. Entropy is that of actions in the environment's units; n-step rewards leave out the entropy of
         the steps between.
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
from lit_rl.functional.distributions import LOG_2
from lit_rl.functional.losses import weighted_mean
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.heads import QFunction
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.sampler import SamplerPolicy, repeated


def sampled_soft_value(
    q: Float[Tensor, "M B"], log_density: float | Float[Tensor, "M B"], alpha: float
) -> Float[Tensor, " B"]:
    """(1) from the values of M sampled actions. Low in the mean, the lower the fewer samples (Jensen).

    Args:
        q: of the samples.
        log_density: log p, that they were drawn with.
        alpha: the temperature, in units of reward.
    """
    return alpha * (torch.logsumexp(q / alpha - log_density, 0) - math.log(len(q)))


def stein_direction(
    particles: Float[Tensor, "M B A"], score: Float[Tensor, "M B A"], moved: Float[Tensor, "N B A"]
) -> Float[Tensor, "N B A"]:
    """Δ of (5): where ``moved`` should go to be distributed as p, for each of B distributions.

    Args:
        particles: u_j, M of them.
        score: ∇ log p(u_j).
        moved: u_i, N of them.
    """
    apart = particles[:, None] - moved[None]  # [M, N, B, A], u_j − u_i
    squared = apart.square().sum(-1)
    width = squared.flatten(0, 1).median(0).values / math.log(max(2, len(particles)))  # h, [B]
    width = width.clamp(min=torch.finfo(width.dtype).eps)
    kernel = (-squared / width).exp()[..., None]
    repulsion = -2.0 * apart / width[:, None] * kernel  # ∇_{u_j} k(u_j, u_i)
    return (kernel * score[:, None] + repulsion).mean(0)


def log_squashing(unsquashed: Float[Tensor, "*B A"]) -> Float[Tensor, "*B"]:
    """Σ_k log(1 − tanh² u_k) of (4), in its stable form; formula sheet 0.4."""
    return 2.0 * (LOG_2 - unsquashed - torch.nn.functional.softplus(-2.0 * unsquashed)).sum(-1)


def sampler_loss(moved: Float[Tensor, "N B A"], direction: Float[Tensor, "N B A"]) -> Float[Tensor, "N B"]:
    """Per sample, a function whose gradient is minus the step (6); only its slope means something."""
    return -(moved * direction.detach()).sum(-1)


class SoftQContinuous(Agent):
    """Learns the values of the policy of greatest return plus α times entropy, and a network that samples from it.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body of q and of the sampler.
        optimizer: how parameters move.
        gamma: discount per step.
        alpha: the temperature, in units of reward.
        tau: weight of θ in the Polyak average (7).
        value_samples: M of (1).
        particles: of each of the two sets of (5); also the candidates for the greedy action.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Box",)
    policy: SamplerPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=1_000_000, batch_size=128, replay_ratio=1.0, warmup=1_000),
        net: Body = MLP((128, 128), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=1e-3),
        gamma: float = 0.99,
        alpha: float = 0.1,
        tau: float = 0.01,
        value_samples: int = 32,
        particles: int = 16,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        observation_space, space = self.env.observation_space, self.env.action_space
        assert isinstance(space, spaces.Box)
        self.require(space.is_bounded(), "env", self.env.id, f"SoftQContinuous needs a bounded Box; it has {space}")
        self.require(alpha > 0, "alpha", alpha, "a temperature is positive")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.require(value_samples >= 1, "value_samples", value_samples, "at least one is needed")
        self.require(particles >= 2, "particles", particles, "a kernel needs two")
        self.alpha, self.tau, self.value_samples, self.particles = alpha, tau, value_samples, particles
        q = QFunction(net, observation_space, space)
        self.policy = SamplerPolicy(net, observation_space, space, q, particles)
        self.q_target = TargetNetwork(q)

    @property
    def q(self) -> QFunction:
        """q(s, a; θ)."""
        return self.policy.q

    def minibatches(self, data: Transition) -> Iterator[Transition]:
        """One per update; all of them count in the normalisers, where there are any."""
        if len(data.reward):
            self.policy.update_statistics(data.obs)
            self.q.update_statistics(data.obs, data.action)
        yield from unstack(data)

    @torch.no_grad()
    def next_value(self, obs: Observation, rows: int) -> Tensor:
        """V [B] of (1)."""
        policy = self.policy
        drawn = torch.rand(self.value_samples, rows, policy.dimensions, device=policy.centre.device)
        action = policy.centre + policy.half_width * (2.0 * drawn - 1.0)
        log_density = -float((2.0 * policy.half_width).log().sum())
        return sampled_soft_value(self.q_target(repeated(obs, self.value_samples), action), log_density, self.alpha)

    def particle_step(self, obs: Observation, rows: int) -> tuple[Tensor, Tensor]:
        """u_i [N, B, A], with gradient to φ, and Δ_i of (5)."""
        policy = self.policy
        noise = torch.randn(2 * self.particles, rows, policy.dimensions, device=policy.centre.device)
        unsquashed = policy.unsquashed(obs, noise)
        fixed, moved = unsquashed.chunk(2)
        fixed = fixed.detach().requires_grad_()
        value = self.q(repeated(obs, self.particles), policy.squash(fixed))
        log_density = value / self.alpha + log_squashing(fixed)  # (4)
        (score,) = torch.autograd.grad(log_density.sum(), fixed)
        return moved, stein_direction(fixed.detach(), score, moved.detach())  # (5)

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(6)."""
        rows = len(batch.reward)
        target = batch.reward + batch.discount * self.next_value(batch.next_obs, rows)  # (1)-(2)
        error = self.q(batch.obs, batch.action) - target
        self.experience.learnt(batch.index, error)
        moved, direction = self.particle_step(batch.obs, rows)
        spread = torch.tanh(moved.detach()).std(0).mean()
        self.record(value=target, td_error=error.detach().abs(), action_spread=spread)
        return {
            "td_loss": weighted_mean(0.5 * error.square(), batch.weight),  # (3)
            "sampler_loss": sampler_loss(moved, direction).mean(),  # (6)
        }

    def after_update(self) -> None:
        """(7)."""
        self.q_target.follow(self.tau)

    def state_value(self, obs: Observation) -> Tensor:
        """q(s, a) [B] of the greedy action, for the diagnostic; it holds the entropy still to come."""
        return self.policy.candidates(obs)[1].amax(0)
