"""Online actor-critic with eligibility traces.

Paper    Sutton and Barto 2018, section 13.5.       Formula sheet: 5.3c, 5.6.1b
Update   δ   = r + γ(1 − terminated) V(s') − V(s)                                             (1)
         e_φ ← γλ e_φ + ∇ V(s),                e_φ = 0 before an episode's first step              (2)
         e_θ ← γλ e_θ + [γᵏ] ∇ log π(a|s),     k steps into the episode; the factor if ``discounted``  (3)
         φ   ← φ + α δ e_φ,    θ ← θ + α δ e_θ                                                 (4)
Data     Rollouts of one step, T = 1: an update after every step of the N environments.
Differs  With N > 1 every environment has traces of its own, and (4) takes the mean over them, which is what makes it
         work with networks. Adam for plain steps; the critic's rate is ``critic_lr_scale`` times the policy's. The
         traces belong to one process's environments: with several, only those of the first are saved.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Rollout, select
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.policy_gradient import ascent_loss, per_episode_gradients
from lit_rl.functional.traces import accumulating_trace
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy


def td_error(
    reward: Float[Tensor, " N"],
    discount: Float[Tensor, " N"],
    value: Float[Tensor, " N"],
    next_value: Float[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """(1). ``discount`` is γ(1 − terminated)."""
    return reward + discount * next_value - value


class Direction(NamedTuple):
    """Where (4) goes, the mean over environments."""

    policy: Tensor  # [P], δ e_θ
    critic: Tensor  # [P'], δ e_φ


class OnlineActorCritic(Agent):
    """An update of policy and critic after every step.

    Args:
        env: environment recipe, or its id.
        data: rollouts of one step, without workers.
        net: policy and critic.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of both traces; 0 is the one-step actor-critic.
        discounted: the factor γᵏ of (3): discount option 2, the gradient of the discounted return.
        critic_lr_scale: learning rate of the critic, as a multiple of the policy's.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy
    policy_trace: Tensor
    critic_trace: Tensor

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=250),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=1e-3, max_grad_norm=1.0),
        gamma: float = 0.99,
        lam: float = 0.9,
        discounted: bool = False,
        critic_lr_scale: float = 2.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(data.steps == 1, "data.steps", data.steps, "online means an update after every step")
        self.require(data.workers == 0, "data.workers", data.workers, "workers' data lag, and nothing here corrects it")
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(critic_lr_scale > 0, "critic_lr_scale", critic_lr_scale, "it is positive")
        self.lam, self.discounted, self.critic_lr_scale = lam, discounted, critic_lr_scale
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.require(not self.networks.recurrent, "net.body", net.body, "it has a memory; PPO serves those")
        self.policy = self.networks.policy
        for name, parameters in (("policy_trace", self.of_policy), ("critic_trace", self.of_critic)):
            width = sum(parameter.numel() for parameter in parameters)
            self.register_buffer(name, torch.zeros(self.env.num_envs, width))

    @property
    def of_policy(self) -> list[Tensor]:
        """θ."""
        return list(self.policy.parameters())

    @property
    def of_critic(self) -> list[Tensor]:
        """φ; with a shared body, that too."""
        body = self.networks.critic_body or self.policy.body
        return [*body.parameters(), *self.networks.value_head.parameters()]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The critic's own parameters have a rate of their own."""
        shared = {id(parameter) for parameter in self.of_policy}
        own = [parameter for parameter in self.of_critic if id(parameter) not in shared]
        return [{"params": self.of_policy}, {"params": own, "lr_scale": self.critic_lr_scale}]

    def minibatches(self, data: Rollout) -> Iterator[Direction]:
        """(1)-(3) of one step."""
        self.networks.update_statistics(data.obs)
        obs, action = select(data.obs, 0), data.action[0]
        with torch.no_grad():
            next_value = self.networks.value(select(data.obs, 1)).float()
            if len(data.final_index):
                next_value[data.final_index] = self.networks.value(data.final_obs).float()
        with torch.enable_grad():
            outputs, value = self.networks(obs)
            outputs, value = outputs.float(), value.float()
            log_prob = self.policy.log_prob(outputs, obs, action)
            of_value = per_episode_gradients(value, self.of_critic)
            of_policy = per_episode_gradients(log_prob, self.of_policy)
        elapsed = data.episode_step[0]
        if self.discounted:
            of_policy = of_policy * (self.gamma**elapsed).unsqueeze(-1)
        decay = self.gamma * self.lam * (elapsed > 0)
        self.critic_trace.copy_(accumulating_trace(self.critic_trace, of_value, decay))  # (2)
        self.policy_trace.copy_(accumulating_trace(self.policy_trace, of_policy, decay))  # (3)
        discount = self.gamma * (~data.terminated[0]).float()
        delta = td_error(data.reward[0], discount, value.detach(), next_value)  # (1)
        self.record(td_error=delta.abs(), value=value, entropy=self.policy.entropy(outputs, obs))
        yield Direction(delta @ self.policy_trace / len(delta), delta @ self.critic_trace / len(delta))

    def loss(self, batch: Direction) -> dict[str, Tensor]:
        """(4)."""
        return {
            "policy_loss": ascent_loss(self.of_policy, batch.policy),
            "value_loss": ascent_loss(self.of_critic, batch.critic),
        }
