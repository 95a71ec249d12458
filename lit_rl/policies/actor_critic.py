"""A policy and the value function beside it, as on-policy algorithms use them."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.batch import Observation, Rollout, map_tensors, select
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.layers import run
from lit_rl.nn.mlp import POLICY_GAIN, VALUE_GAIN, linear_head
from lit_rl.nn.network import BuiltBody
from lit_rl.policies.categorical import BernoulliPolicy, CategoricalPolicy, MultiCategoricalPolicy
from lit_rl.policies.gaussian import GaussianPolicy

STOCHASTIC_SPACES = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")

StochasticPolicy = CategoricalPolicy | MultiCategoricalPolicy | BernoulliPolicy | GaussianPolicy


@dataclass(frozen=True)
class ActorCritic:
    """Recipe of the two networks.

    Args:
        body: of the policy, and of the critic.
        shared: one body for both (formula sheet 5.4a); always so where the body has a memory.
        log_std: log σ that a Gaussian policy begins with.
    """

    body: Body = field(default_factory=MLP)
    shared: bool = False
    log_std: float = 0.0

    def build(self, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> "ActorCriticNetworks":
        """Build both for one environment's spaces."""
        return ActorCriticNetworks(self, observation_space, action_space)


class Evaluation(NamedTuple):
    """A rollout seen by the networks as they are now."""

    value: Tensor  # [T, N]
    next_value: Tensor  # [T, N], of the true successor of every step
    log_prob: Tensor  # [T, N]
    outputs: Tensor  # [T, N, P], of the policy's head


class ActorCriticNetworks(nn.Module):
    """The policy, and V(s) on a body of its own or on the policy's."""

    def __init__(self, recipe: ActorCritic, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        super().__init__()
        body = recipe.body.build(observation_space)
        self.recurrent = bool(body.state_size)
        orthogonal = recipe.body.head_is_orthogonal
        self.policy = _policy(body, action_space, recipe.log_std, POLICY_GAIN if orthogonal else None)
        shared = recipe.shared or self.recurrent
        self.critic_body = None if shared else recipe.body.build(observation_space)
        self.value_head = linear_head(body.out_features, 1, VALUE_GAIN if orthogonal else None)

    def forward(
        self, obs: Observation, state: Tensor | None = None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Policy outputs [B, P] and values [B] of observations [B, ...].

        With a memory, observations are segments [T, N, ...] with ``state`` [N, H] before them and ``start``
        [T, N] where an episode begins; rows come out in the order t · N + n, B = T · N.
        """
        if self.recurrent:
            features, _ = self.policy.body(obs, state, start)
            features = features.flatten(0, 1)
            return self.policy.head(features), self.value_head(features).squeeze(-1)
        features = self.policy.body(obs)
        of_critic = features if self.critic_body is None else self.critic_body(obs)
        return run(self.policy.head, features), run(self.value_head, of_critic).squeeze(-1)

    def value(self, obs: Observation) -> Tensor:
        """V [B] of observations [B, ...], without a memory."""
        return run(self.value_head, (self.critic_body or self.policy.body)(obs)).squeeze(-1)

    @torch.no_grad()
    def evaluate(self, rollout: Rollout) -> Evaluation:
        """Values and log-probabilities of a rollout in one batched forward, under the networks as they are now."""
        steps, envs = rollout.reward.shape
        if self.recurrent:
            outputs, value, after_end = self._unroll(rollout)
        else:
            outputs, value = self(map_tensors(lambda tensor: tensor.flatten(0, 1), rollout.obs))
            after_end = self.value(rollout.final_obs) if len(rollout.final_index) else None
        value = value.float().view(steps + 1, envs)
        next_value = value[1:].clone()
        if after_end is not None:
            next_value.view(-1)[rollout.final_index] = after_end.float()
        played = steps * envs
        obs = map_tensors(lambda tensor: tensor[:-1].flatten(0, 1), rollout.obs)
        outputs = outputs[:played].float()
        log_prob = self.policy.log_prob(outputs, obs, rollout.action.flatten(0, 1))
        return Evaluation(value[:-1], next_value, log_prob.view(steps, envs), outputs.view(steps, envs, -1))

    def _unroll(self, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor | None]:
        """Step by step, since the value after an episode's end needs the memory at that end."""
        steps, envs = rollout.reward.shape
        body, state = self.policy.body, rollout.state
        done = rollout.done
        ends = rollout.final_index // envs
        features, values_after = [], []
        for t in range(steps + 1):
            if t > 0:
                here = ends == t - 1
                if here.any():
                    env = rollout.final_index[here] % envs
                    final = select(rollout.final_obs, here)
                    values_after.append(self.value_head(body.step(final, state[env])[0]).squeeze(-1))
                state = state.masked_fill(done[t - 1].unsqueeze(-1), 0.0)
            at_t = select(rollout.obs, t)
            feature, state = body.step(at_t, state)
            features.append(feature)
        flat = torch.cat(features)
        return (
            self.policy.head(flat),
            self.value_head(flat).squeeze(-1),
            torch.cat(values_after) if values_after else None,
        )

    def update_statistics(self, obs: Observation) -> None:
        """Take observations [..., *shape] into the running normalisers, where there are any."""
        self.policy.body.update_statistics(obs)
        if self.critic_body is not None:
            self.critic_body.update_statistics(obs)


def _policy(body: BuiltBody, space: gymnasium.Space, log_std: float, gain: float | None) -> StochasticPolicy:
    def head(outputs: Any) -> nn.Linear:
        return linear_head(body.out_features, int(outputs), gain)

    if isinstance(space, gymnasium.spaces.Discrete):
        return CategoricalPolicy(body, head(space.n), space)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return MultiCategoricalPolicy(body, head(space.nvec.sum()), space)
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return BernoulliPolicy(body, head(np.prod(space.shape)), space)
    if isinstance(space, gymnasium.spaces.Box):
        return GaussianPolicy(body, head(np.prod(space.shape)), space, log_std)
    raise ValueError(f"no stochastic policy acts in {space}; use {', '.join(STOCHASTIC_SPACES)}")
