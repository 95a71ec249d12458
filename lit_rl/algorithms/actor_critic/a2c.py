"""Advantage actor-critic with environments in lockstep (A2C).

Paper    Mnih et al. 2016, section 4 and Algorithm S3, made synchronous.       Formula sheet: 5.5a, 5.4a, 5.6.1a, G1
Update   G_t  = λ-return of V over the T steps, bootstrapped with V(s_{t+T}); λ = 1: all rewards up to there     (1)
         A_t  = G_t − V(s_t), without gradient                                                              (2)
         L(θ) = −mean log π(a|s) A  −  c_H mean H(π(·|s))                                                    (3)
              + c_v mean (V(s) − G)²                                                                           (4)
Data     Rollouts: T steps of N environments, one update, the next T steps.
Differs  Environments step together, so that the gradient is the mean over them of what the paper's workers would apply
         one after the other; RMSProp's statistics are of that mean. Policy and critic are separate networks unless
         ``net.shared``.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Rollout, map_tensors
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.returns import lambda_returns
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy


def advantage_actor_critic_loss(
    log_prob: Float[Tensor, "*batch"], value: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Policy and value loss per step, (2)-(4): −log π A and (V − G)², A = G − V; no gradient reaches ``target``."""
    error = value - target.detach()
    return log_prob * error.detach(), error.square()


class A2C(Agent):
    """One small update after every few steps of many environments.

    Args:
        env: environment recipe, or its id.
        data: rollouts of T steps, without workers: what is learnt from must be of the policy of the moment.
        net: policy and critic.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of the returns; below 1 it trades variance for bias.
        value_weight: c_v.
        entropy_weight: c_H.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=5, rollouts_per_batch=50),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=7e-4, name="rmsprop", eps=1e-5, max_grad_norm=0.5),
        gamma: float = 0.99,
        lam: float = 1.0,
        value_weight: float = 0.5,
        entropy_weight: float = 0.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(data.workers == 0, "data.workers", data.workers, "workers' data lag, and nothing here corrects it")
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.lam, self.value_weight, self.entropy_weight = lam, value_weight, entropy_weight
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.require(not self.networks.recurrent, "net.body", net.body, "it has a memory; PPO serves those")
        self.policy = self.networks.policy

    def minibatches(self, data: Rollout) -> Iterator[Rollout]:
        """The rollout as a whole."""
        self.networks.update_statistics(data.obs)
        yield data

    def targets(self, batch: Rollout, value: Tensor) -> Tensor:
        """(1), from V of all T + 1 observations."""
        next_value = value[1:].detach().clone()
        if len(batch.final_index):
            with torch.no_grad():
                next_value.view(-1)[batch.final_index] = self.networks.value(batch.final_obs).float()
        discount = self.gamma * (~batch.terminated).float()
        return lambda_returns(batch.reward, next_value, discount, batch.done, lam=self.lam)

    def loss(self, batch: Rollout) -> dict[str, Tensor]:
        """(1)-(4)."""
        steps, envs = batch.reward.shape
        flat = map_tensors(lambda tensor: tensor.flatten(0, 1), batch.obs)
        outputs, value = self.networks(flat)
        value = value.float().view(steps + 1, envs)
        target = self.targets(batch, value)  # (1)
        acted, obs = outputs[: steps * envs].float(), map_tensors(lambda tensor: tensor[: steps * envs], flat)
        log_prob = self.policy.log_prob(acted, obs, batch.action.flatten(0, 1)).view(steps, envs)
        policy_loss, value_loss = advantage_actor_critic_loss(log_prob, value[:-1], target)
        entropy = self.policy.entropy(acted, obs).mean()
        self.record(entropy=entropy.detach())
        losses = {"policy_loss": policy_loss.mean(), "value_loss": self.value_weight * value_loss.mean()}  # (3)-(4)
        if self.entropy_weight:
            losses["entropy_loss"] = -self.entropy_weight * entropy  # (3)
        return losses
