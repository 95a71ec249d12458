"""Twin delayed deep deterministic policy gradient (TD3).

Paper    Fujimoto, van Hoof & Meger 2018, "Addressing function approximation error in actor-critic methods",
         Algorithm 1.       Formula sheet: H4, 7.5.3a, 7.1c, 7.3.1a, G2
Update   ã    = clip(μ(s'; φ⁻) + clip(ε, −c, c)),  ε ~ N(0, σ̃²)                            (1)
         y    = r + γ(1 − terminated) min_j q_j(s', ã; θ⁻)                                  (2)
         L(θ) = Σ_j mean w ½ (q_j(s, a; θ) − y)²                                            (3)
         every d-th update, before its targets move:
         L(φ) = −mean q_1(s, μ(s; φ); θ),  θ held fixed                                     (4)
         θ⁻  ← (1 − τ) θ⁻ + τ θ,  φ⁻ ← (1 − τ) φ⁻ + τ φ                                    (5)
Data     Replay: act by μ(s) plus noise, clipped to the box; store what was executed; uniformly random at first.
Differs  (4) descends in the same backward as (3), on the critics before that step; they reach disjoint
         parameters. The actor has no gradient in the other updates: under DDP unused parameters must be looked
         for. σ̃ and c are in units of half the action's range. d = 1, σ̃ = 0 and one critic is DDPG.
"""

import math
from collections.abc import Iterator

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.algorithms.actor_critic.ddpg import deterministic_actor_loss, deterministic_target
from lit_rl.batch import Observation, Transition, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.critics import critics_loss
from lit_rl.functional.losses import weighted_mean
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.frozen import Frozen
from lit_rl.nn.heads import Critics
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import POLICY_GAIN, linear_head
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.deterministic import DeterministicPolicy
from lit_rl.policies.exploration import GaussianNoise, Noise


def smoothed_action(
    action: Float[Tensor, "*shape"], normal: Float[Tensor, "*shape"], sigma: float, clip: float
) -> Float[Tensor, "*shape"]:
    """(1) for actions in [−1, 1]; ``normal`` is standard normal noise of their shape."""
    return (action + (sigma * normal).clamp(-clip, clip)).clamp(-1.0, 1.0)


class TD3(Agent):
    """DDPG with two critics, a delayed actor, and targets smoothed over actions.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body of the actor and of each critic.
        optimizer: how parameters move.
        gamma: discount per step.
        tau: weight of the new parameters in (5).
        noise: added to the actor's actions.
        target_noise: σ̃ of half the action's range.
        noise_clip: c, of half the action's range.
        policy_delay: d, updates of the critics for one of the actor.
        critics: of which the smallest counts.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Box",)
    policy: DeterministicPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=1_000_000, batch_size=256, replay_ratio=1.0, warmup=1_000),
        net: Body = MLP((256, 256), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=1e-3),
        gamma: float = 0.99,
        tau: float = 0.005,
        noise: Noise = GaussianNoise(0.1),
        target_noise: float = 0.2,
        noise_clip: float = 0.5,
        policy_delay: int = 2,
        critics: int = 2,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        space = self.env.action_space
        assert isinstance(space, spaces.Box)
        self.require(space.is_bounded(), "env", self.env.id, f"TD3 needs a bounded Box; it has {space}")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.require(target_noise >= 0, "target_noise", target_noise, "a standard deviation is 0 or positive")
        self.require(noise_clip >= 0, "noise_clip", noise_clip, "it is 0 or positive")
        self.require(policy_delay >= 1, "policy_delay", policy_delay, "it counts updates, from 1")
        self.require(critics >= 1, "critics", critics, "at least one is needed")
        self.tau, self.target_noise, self.noise_clip, self.policy_delay = tau, target_noise, noise_clip, policy_delay
        body = net.build(self.env.observation_space)
        if body.state_size:
            raise ValueError("TD3 learns from single transitions and its net has a memory: use a body without one")
        head = linear_head(body.out_features, math.prod(space.shape), POLICY_GAIN)
        self.policy = DeterministicPolicy(body, head, space, noise)
        self.critics = Critics(net, self.env.observation_space, space, critics)
        self.actor_target, self.critics_target = TargetNetwork(self.actor), TargetNetwork(self.critics)
        self.frozen_critic = Frozen(self.critics.members[0])

    @property
    def actor(self) -> Layers:
        """The network of the policy, before squashing."""
        return Layers(self.policy.body, self.policy.head)

    def minibatches(self, data: Transition) -> Iterator[Transition]:
        """One per update; all of them count in the normalisers, where there are any."""
        if len(data.reward):
            self.policy.body.update_statistics(data.obs)
            self.critics.update_statistics(data.obs, data.action)
        yield from unstack(data)

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(4)."""
        with torch.no_grad():
            outputs = self.actor_target(batch.next_obs)
            smoothed = smoothed_action(
                torch.tanh(outputs), torch.randn_like(outputs), self.target_noise, self.noise_clip
            )  # (1)
            next_q = self.critics_target(batch.next_obs, self.policy.scale(smoothed))
            target = deterministic_target(batch.reward, batch.discount, next_q)  # (2)
        q = self.critics(batch.obs, batch.action)
        td_error = (q.detach() - target).abs().mean(0)
        self.experience.learnt(batch.index, td_error)
        self.record(q=q, td_error=td_error)
        losses = {"critic_loss": weighted_mean(critics_loss(q, target), batch.weight)}  # (3)
        if (self.updates + 1) % self.policy_delay == 0:
            q_of_policy = self.frozen_critic(batch.obs, self.policy.greedy(batch.obs))
            losses["actor_loss"] = deterministic_actor_loss(q_of_policy).mean()  # (4)
        return losses

    def after_update(self) -> None:
        """(5)."""
        if self.updates % self.policy_delay == 0:
            self.critics_target.follow(self.tau)
            self.actor_target.follow(self.tau)

    def schedules(self) -> dict[str, float]:
        """σ."""
        return {"noise": self.policy.noise.schedule(self.env_steps)}

    def state_value(self, obs: Observation) -> Tensor:
        """The smallest q(s, μ(s)) [B], for the diagnostic."""
        return self.critics(obs, self.policy.greedy(obs)).amin(0)
