"""Proximal policy optimisation with a clipped surrogate (PPO).

Paper    Schulman et al. 2017, section 3 and Algorithm 1.       Formula sheet: 8.3a, 5.6.2a, G1
Update   A_t  = GAE(λ), standardised over the minibatch                                       (1)
         ρ    = exp(log π(a|s; θ) − log π(a|s; θ_old))                                        (2)
         L(θ) = −mean min(ρ A, clip(ρ, 1 − c, 1 + c) A)                                       (3)
              + ½ c_v mean (V(s) − G)²  −  c_H mean H(π(·|s)),   G_t = A_t + V_old(s_t)       (4)
Data     Rollouts: T steps of N environments, then epochs × shuffled minibatches over them.
Differs  Old log-probabilities and values are recomputed in one batch after collecting, which is faster
         and right under mixed precision. With ``data.workers`` the data lag, and V-trace (H1) takes the
         place of GAE. Epochs stop early where the KL estimate exceeds 1.5 ``target_kl``.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Rollout, map_tensors, select
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.returns import generalized_advantage, vtrace
from lit_rl.functional.statistics import approx_kl, explained_variance
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, Evaluation, StochasticPolicy
from lit_rl.safeguards import mean_over_ranks
from lit_rl.schedules import Scheduled, as_schedule


def clipped_surrogate_loss(
    log_ratio: Float[Tensor, " B"], advantage: Float[Tensor, " B"], clip: float
) -> Float[Tensor, " B"]:
    """−min(ρ A, clip(ρ, 1 − c, 1 + c) A) per sample, (2)-(3)."""
    ratio = log_ratio.exp()
    return -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


class Minibatch(NamedTuple):
    """B rows of a rollout; with a memory B = T · n rows of whole segments, observations as [T, n, ...]."""

    obs: Observation
    action: Tensor  # [B] or [B, A]
    log_prob: Tensor  # [B], log π(a|s; θ_old)
    advantage: Tensor  # [B]
    target: Tensor  # [B], G
    state: Tensor | None = None  # [n, H]
    start: Tensor | None = None  # [T, n]


class PPO(Agent):
    """Several epochs of clipped policy-gradient steps on each rollout.

    Args:
        env: environment recipe, or its id.
        data: rollouts; their size is T · N.
        net: policy and critic.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of the advantage estimator.
        epochs: passes over each rollout.
        minibatch_size: B, rows per update; with a memory, rounded to whole environments.
        clip: c, how far the ratio counts; may be scheduled over env steps.
        entropy_weight: c_H.
        target_kl: stop the epochs early beyond 1.5 times this divergence; null never does.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy
    value_weight = 0.5  # c_v

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=2.5e-4, eps=1e-5, max_grad_norm=0.5),
        gamma: float = 0.99,
        lam: float = 0.95,
        epochs: int = 4,
        minibatch_size: int = 256,
        clip: Scheduled = 0.2,
        entropy_weight: float = 0.0,
        target_kl: float | None = None,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(epochs >= 1, "epochs", epochs, "at least one pass is needed")
        self.require(minibatch_size >= 1, "minibatch_size", minibatch_size, "it counts rows, from 1")
        self.require(target_kl is None or target_kl > 0, "target_kl", target_kl, "it is positive, or null for none")
        self.lam, self.epochs, self.minibatch_size = lam, epochs, minibatch_size
        self.clip, self.entropy_weight, self.target_kl = as_schedule(clip), entropy_weight, target_kl
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.policy = self.networks.policy
        self._clip_now = self.clip(0)
        self._last_kl = torch.zeros(())

    def minibatches(self, data: Rollout) -> Iterator[Minibatch]:
        """(1), then epochs × shuffled minibatches."""
        self._clip_now = self.clip(self.env_steps)
        self.networks.update_statistics(data.obs)
        now = self.networks.evaluate(data)
        advantage, target = self.advantages(data, now)
        self.record(explained_variance=explained_variance(now.value.flatten(), target.flatten()))
        split = self._segments if self.networks.recurrent else self._rows
        for _ in range(self.epochs):
            yield from split(data, now.log_prob, advantage, target)
            if self.target_kl is not None and mean_over_ranks(self._last_kl, self.trainer) > 1.5 * self.target_kl:
                return

    def advantages(self, data: Rollout, now: Evaluation) -> tuple[Tensor, Tensor]:
        """(1) and the value targets G, both [T, N]; by V-trace where the data were collected by an older policy."""
        discount = self.gamma * (~data.terminated).float()
        if self.data.workers == 0:
            advantage = generalized_advantage(data.reward, now.value, now.next_value, discount, data.done, lam=self.lam)
            return advantage, advantage + now.value
        log_ratio = now.log_prob - data.log_prob
        corrected = vtrace(
            data.reward, now.value, now.next_value, discount, data.done, log_ratio=log_ratio, lam=self.lam
        )
        self.record(rho=corrected.rho.mean())
        return corrected.advantage, corrected.target

    def _rows(self, data: Rollout, log_prob: Tensor, advantage: Tensor, target: Tensor) -> Iterator[Minibatch]:
        obs = map_tensors(lambda tensor: tensor[:-1].flatten(0, 1), data.obs)
        rows = Minibatch(obs, data.action.flatten(0, 1), log_prob.flatten(), advantage.flatten(), target.flatten())
        for index in torch.randperm(advantage.numel(), device=advantage.device).split(self.minibatch_size):
            yield map_tensors(partial(torch.index_select, dim=0, index=index), rows)

    def _segments(self, data: Rollout, log_prob: Tensor, advantage: Tensor, target: Tensor) -> Iterator[Minibatch]:
        steps, envs = advantage.shape
        start = data.episode_step == 0
        for index in torch.randperm(envs, device=advantage.device).split(max(1, self.minibatch_size // steps)):
            yield Minibatch(
                obs=select(data.obs, (slice(0, steps), index)),
                action=data.action[:, index].flatten(0, 1),
                log_prob=log_prob[:, index].flatten(),
                advantage=advantage[:, index].flatten(),
                target=target[:, index].flatten(),
                state=data.state[index],
                start=start[:, index],
            )

    def loss(self, batch: Minibatch) -> dict[str, Tensor]:
        """(2)-(4)."""
        outputs, value = self.networks(batch.obs, batch.state, batch.start)
        obs = batch.obs if batch.start is None else map_tensors(lambda tensor: tensor.flatten(0, 1), batch.obs)
        outputs, value = outputs.float(), value.float()  # under mixed precision too, ρ begins at 1
        log_ratio = self.policy.log_prob(outputs, obs, batch.action) - batch.log_prob  # (2)
        entropy = self.policy.entropy(outputs, obs).mean()
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std(correction=0) + 1e-8)  # (1)
        self._diagnose(log_ratio.detach(), entropy.detach())
        return {
            "policy_loss": clipped_surrogate_loss(log_ratio, advantage, self._clip_now).mean(),  # (3)
            "value_loss": 0.5 * self.value_weight * (value - batch.target).square().mean(),  # (4)
            "entropy_loss": -self.entropy_weight * entropy,
        }

    def _diagnose(self, log_ratio: Tensor, entropy: Tensor) -> None:
        self._last_kl = approx_kl(log_ratio)
        clipped = (log_ratio.exp() - 1).abs() > self._clip_now
        self.record(kl=self._last_kl, clip_fraction=clipped.float().mean(), entropy=entropy)
