"""Batch actor-critic: fit a critic to a batch, then one policy step with it.

Paper    Konda and Tsitsiklis 2000; the estimators: Schulman et al. 2016.
         Formula sheet: 5.0b, 5.1a, 5.1b, 5.2a, 5.4a, 5.6.1a, 5.6.2a
Update   y_t  = Σ_{k≥t} γ^{k−t} r_k             ``monte_carlo``, V(s) where an episode or the rollout is cut         (1)
                r_t + γ(1 − terminated) V(s_{t+1})                        ``td``                                  (2)
                Σ_{t≤k<t+n} γ^{k−t} r_k + γⁿ(1 − terminated) V(s_{t+n})    ``n_step``                              (3)
                Σ_n (1 − λ) λⁿ⁻¹ of (3)                                   ``gae``                                 (4)
         φ   ← φ − α ∇ ½ mean (V(s; φ) − y)², ``updates`` times; y is made anew with φ before each               (5)
         A_t  = y_t − V(s_t; φ), with the fitted φ                                                            (6)
         θ   ← θ + α ∇ mean [log π(a|s; θ) A + c_H H(π(·|s; θ))], once                                        (7)
         With ``action_value`` the critic is Q(s, a): V(s) = Σ_a π(a|s) Q(s, a) in (1)-(4), Q(s, a) in (5), and
         A = Q(s, a) − V(s) in place of (6)                                                                   (8)
         With data from a simulator, (5) is fitted to the mean over R fresh runs of H steps from some states s:
         y    = 1/R Σ_r [Σ_{k<H} γᵏ r_k + γᴴ(1 − terminated) V(s_H)]                                         (9)
Data     Rollouts: T steps of N environments, then (5) and (7), then the next ones. SimulatedRollouts: also runs from
         states of theirs.
Differs  A is standardised over the batch. One Adam for both networks; with ``net.shared`` they have one body, which
         (5) moves too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Rollout, map_tensors
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.data.simulator import SimulatedRollout, SimulatedRollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.distributions import masked_logits
from lit_rl.functional.returns import discounted_returns, lambda_returns, n_step_returns
from lit_rl.functional.statistics import explained_variance
from lit_rl.nn.mlp import VALUE_GAIN, linear_head
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy
from lit_rl.policies.network import legal_actions

Target = Literal["monte_carlo", "td", "n_step", "gae"]


@dataclass(frozen=True)
class Critic:
    """Recipe of how a critic is fitted.

    Args:
        target: (1), (2), (3) or (4).
        n: steps of (3).
        lam: λ of (4).
        updates: gradient steps of (5) per rollout, each on all of it.
        lr_scale: its learning rate, as a multiple of the policy's.
        action_value: learn Q(s, a) in place of V(s); for Discrete actions.
    """

    target: Target = "gae"
    n: int = 5
    lam: float = 0.95
    updates: int = 10
    lr_scale: float = 1.0
    action_value: bool = False

    def __post_init__(self) -> None:
        if self.target not in get_args(Target):
            raise ValueError(f"Critic.target is {self.target!r}; it is one of {', '.join(get_args(Target))}")
        if self.n < 1 or self.updates < 1 or not 0 <= self.lam <= 1 or not self.lr_scale > 0:
            raise ValueError(f"Critic needs n ≥ 1, updates ≥ 1, λ in [0, 1] and a positive lr_scale; got {self}")

    def targets(
        self,
        reward: Float[Tensor, "T N"],
        next_value: Float[Tensor, "T N"],
        discount: Float[Tensor, "T N"],
        done: Bool[Tensor, "T N"],
    ) -> Float[Tensor, "T N"]:
        """y of (1)-(4)."""
        if self.target == "monte_carlo":
            return discounted_returns(reward, next_value, discount, done)  # (1)
        if self.target == "gae":
            return lambda_returns(reward, next_value, discount, done, lam=self.lam)  # (4)
        return n_step_returns(reward, next_value, discount, done, n=1 if self.target == "td" else self.n)  # (2), (3)


def critic_loss(value: Float[Tensor, " B"], target: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """½ (V − y)² per step, (5)."""
    return 0.5 * (value - target.detach()).square()


def policy_loss(log_prob: Float[Tensor, " B"], advantage: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """−log π A per step, (7)."""
    return -log_prob * advantage.detach()


class Fit(NamedTuple):
    """One step of (5) on the B steps of a rollout."""

    obs: Observation  # [B, ...]
    action: Tensor  # [B] or [B, A]
    target: Tensor  # [B], y


class Improve(NamedTuple):
    """The step (7) on the B steps of a rollout."""

    obs: Observation  # [B, ...]
    action: Tensor  # [B] or [B, A]
    advantage: Tensor  # [B]


class BatchActorCritic(Agent):
    """Several critic steps and one policy step per rollout.

    Args:
        env: environment recipe, or its id.
        data: rollouts of T steps, without workers: what is learnt from must be of the policy of the moment; or such
            with more runs from some of their states, to which the critic is fitted then.
        net: policy and critic.
        critic: how the critic is fitted.
        optimizer: how parameters move.
        gamma: discount per step.
        entropy_weight: c_H.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts | SimulatedRollouts = Rollouts(steps=64),
        net: ActorCritic = ActorCritic(),
        critic: Critic = Critic(),
        optimizer: Optimizer = Optimizer(lr=3e-3, max_grad_norm=0.5),
        gamma: float = 0.99,
        entropy_weight: float = 0.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        lag = isinstance(data, Rollouts) and data.workers > 0
        self.require(not lag, "data.workers", lag, "workers' data lag, and nothing here corrects it")
        simulated = isinstance(data, SimulatedRollouts)
        self.require(
            not (simulated and critic.action_value), "data", data, "simulated returns are those of V, not of Q"
        )
        self.critic, self.entropy_weight = critic, entropy_weight
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.require(not self.networks.recurrent, "net.body", net.body, "it has a memory; PPO serves those")
        self.policy = self.networks.policy
        if critic.action_value:
            space = self.env.action_space
            self.require(isinstance(space, spaces.Discrete), "critic.action_value", True, f"the actions are {space}")
            head, gain = self.networks.value_head, VALUE_GAIN if net.body.head_is_orthogonal else None
            self.networks.value_head = linear_head(head.in_features, int(space.n), gain)  # type: ignore[attr-defined]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The critic's own parameters have a rate of their own."""
        own = [self.networks.value_head, *([self.networks.critic_body] if self.networks.critic_body else [])]
        of_critic = [p for module in own for p in module.parameters()]
        return [
            {"params": list(self.policy.parameters())},
            {"params": of_critic, "lr_scale": self.critic.lr_scale},
        ]

    def critic_values(self, obs: Observation) -> Tensor:
        """V [B], or Q [B, A]."""
        body = self.networks.critic_body or self.policy.body
        values = self.networks.value_head(body(obs)).float()
        return values if self.critic.action_value else values.squeeze(-1)

    def state_values(self, obs: Observation) -> Tensor:
        """V [B] of observations; of a Q critic, by (8)."""
        values = self.critic_values(obs)
        if not self.critic.action_value:
            return values
        probabilities = masked_logits(self.policy.outputs(obs).float(), legal_actions(obs)).softmax(-1)
        return (probabilities * values).sum(-1)  # (8)

    def minibatches(self, data: Rollout | SimulatedRollout) -> Iterator[Fit | Improve]:
        """(5) with the targets of the moment, ``updates`` times; then (7) with the fitted critic."""
        simulated, data = (data, data.rollout) if isinstance(data, SimulatedRollout) else (None, data)
        self.networks.update_statistics(data.obs)
        obs = map_tensors(lambda tensor: tensor[:-1].flatten(0, 1), data.obs)
        action = data.action.flatten(0, 1)
        for _ in range(self.critic.updates):
            if simulated is None:
                yield Fit(obs, action, self.targets(data).flatten())  # (5)
            else:
                yield Fit(simulated.obs, simulated.action, self.simulated_targets(simulated))  # (5)
        with torch.no_grad():
            target, value = self.targets(data).flatten(), self.state_values(obs)
            if self.critic.action_value:
                advantage = self._of_action(self.critic_values(obs), action) - value  # (8)
            else:
                advantage = target - value  # (6)
        self.record(explained_variance=explained_variance(value, target))
        advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
        yield Improve(obs, action, advantage)

    @torch.no_grad()
    def targets(self, data: Rollout) -> Tensor:
        """y [T, N] of (1)-(4) under the critic as it is now."""
        steps, envs = data.reward.shape
        following = map_tensors(lambda tensor: tensor[1:].flatten(0, 1), data.obs)
        next_value = self.state_values(following)
        if len(data.final_index):
            next_value[data.final_index] = self.state_values(data.final_obs)
        discount = self.gamma * (~data.terminated).float()
        return self.critic.targets(data.reward, next_value.view(steps, envs), discount, data.done)

    @torch.no_grad()
    def simulated_targets(self, data: SimulatedRollout) -> Tensor:
        """y [S] of (9)."""
        beyond = self.state_values(data.last_obs).view_as(data.reward)
        return (data.reward + data.discount * beyond).mean(1)

    def loss(self, batch: Fit | Improve) -> dict[str, Tensor]:
        """(5), or (7)."""
        if isinstance(batch, Fit):
            values = self.critic_values(batch.obs)
            if self.critic.action_value:
                values = self._of_action(values, batch.action)
            return {"value_loss": critic_loss(values, batch.target).mean()}  # (5)
        outputs = self.policy.outputs(batch.obs).float()
        log_prob = self.policy.log_prob(outputs, batch.obs, batch.action)
        entropy = self.policy.entropy(outputs, batch.obs).mean()
        self.record(entropy=entropy.detach())
        losses = {"policy_loss": policy_loss(log_prob, batch.advantage).mean()}  # (7)
        if self.entropy_weight:
            losses["entropy_loss"] = -self.entropy_weight * entropy  # (7)
        return losses

    @staticmethod
    def _of_action(q: Tensor, action: Tensor) -> Tensor:
        return q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
