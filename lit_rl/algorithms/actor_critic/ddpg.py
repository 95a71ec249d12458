"""Deep deterministic policy gradient (DDPG).

Paper    Lillicrap et al. 2016, "Continuous control with deep reinforcement learning", Algorithm 1; Silver et al.
         2014.       Formula sheet: 7.5.3a, 7.1c, 7.3.1a, G2
Update   y    = r + γ(1 − terminated) q(s', μ(s'; φ⁻); θ⁻)                 (1)
         L(θ) = mean w ½ (q(s, a; θ) − y)²                                 (2)
         L(φ) = −mean q(s, μ(s; φ); θ),  θ held fixed                      (3)
         θ⁻  ← (1 − τ) θ⁻ + τ θ,  φ⁻ ← (1 − τ) φ⁻ + τ φ                   (4)
Data     Replay: act by μ(s) plus noise, clipped to the box; store what was executed; uniformly random at first.
Differs  Both losses descend in one backward: they reach disjoint parameters. Independent Gaussian noise by
         default, the paper's Ornstein-Uhlenbeck process by configuration. No batch normalisation, no weight
         decay, and the action enters the first layer of the critic.
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


def deterministic_target(
    reward: Float[Tensor, " B"], discount: Float[Tensor, " B"], next_q: Float[Tensor, "E B"]
) -> Float[Tensor, " B"]:
    """y of (1); the smallest of several critics. ``discount`` is γⁿ(1 − terminated)."""
    return reward + discount * next_q.amin(0)


def deterministic_actor_loss(q: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """(3) per sample: its gradient is −dμ/dφ · dq/da (Silver et al. 2014, theorem 1)."""
    return -q


class DDPG(Agent):
    """A deterministic actor climbs the critic, which learns off-policy.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body of the actor and of the critic.
        optimizer: how parameters move.
        gamma: discount per step.
        tau: weight of the new parameters in (4).
        noise: added to the actor's actions.
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
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        space = self.env.action_space
        assert isinstance(space, spaces.Box)
        self.require(space.is_bounded(), "env", self.env.id, f"DDPG needs a bounded Box; it has {space}")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.tau = tau
        body = net.build(self.env.observation_space)
        if body.state_size:
            raise ValueError("DDPG learns from single transitions and its net has a memory: use a body without one")
        head = linear_head(body.out_features, math.prod(space.shape), POLICY_GAIN)
        self.policy = DeterministicPolicy(body, head, space, noise)
        self.critics = Critics(net, self.env.observation_space, space, 1)
        self.actor_target, self.critics_target = TargetNetwork(self.actor), TargetNetwork(self.critics)
        self.frozen_critics = Frozen(self.critics)

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
        """(1)-(3)."""
        with torch.no_grad():
            next_action = self.policy.squash(self.actor_target(batch.next_obs))
            next_q = self.critics_target(batch.next_obs, next_action)
            target = deterministic_target(batch.reward, batch.discount, next_q)  # (1)
        q = self.critics(batch.obs, batch.action)
        q_of_policy = self.frozen_critics(batch.obs, self.policy.greedy(batch.obs))
        td_error = (q.detach() - target).abs().mean(0)
        self.experience.learnt(batch.index, td_error)
        self.record(q=q, td_error=td_error)
        return {
            "critic_loss": weighted_mean(critics_loss(q, target), batch.weight),  # (2)
            "actor_loss": deterministic_actor_loss(q_of_policy[0]).mean(),  # (3)
        }

    def after_update(self) -> None:
        """(4)."""
        self.critics_target.follow(self.tau)
        self.actor_target.follow(self.tau)

    def schedules(self) -> dict[str, float]:
        """σ."""
        return {"noise": self.policy.noise.schedule(self.env_steps)}

    def state_value(self, obs: Observation) -> Tensor:
        """q(s, μ(s)) [B], for the diagnostic."""
        return self.critics(obs, self.policy.greedy(obs)).amin(0)
