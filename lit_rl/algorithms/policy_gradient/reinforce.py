"""Likelihood-ratio policy gradient on whole episodes (REINFORCE).

Paper    Williams 1992; the optimal baseline: Greensmith, Bartlett and Baxter 2004; discounting: Thomas 2014.
         Formula sheet: 4.0a, 4.0b, 4.0c, 4.1a, 4.1.1a, 4.1.1b, 4.2.1a, 5.0a, 5.3a, 5.3b, 5.6a
Update   g = 1/M Σ_i Σ_t (x_{i,t} − b_{i,t}) ∇ log π(a_{i,t}|s_{i,t}),  M episodes, one step along g          (1)
         x = Σ_k γᵏ r_k               ``whole_return``: an action is credited with all of its episode            (2)
             Σ_{k≥t} γ^{k−t} r_k      ``reward_to_go``: only with what follows; γᵗ is dropped (option 1)          (3)
             γᵗ Σ_{k≥t} γ^{k−t} r_k   ``discounted_reward_to_go``: the gradient of E Σ_k γᵏ r_k (option 2)        (4)
             1                        ``maximum_likelihood`` of its own actions: E g = 0, a negative control      (5)
         b = 0, the mean of x over the batch, over the other episodes, over the other episodes at the same time,
             the constant of least variance of every parameter, or V(s_t) (times γᵗ in (4))                  (6)
         L = ½ mean (V(s_t) − y_t)²,  y = x, without the γᵗ of (4); only where b = V                            (7)
Data     WholeEpisodes: M whole episodes of the policy of the moment, one update, then the next ones.
Differs  Adam for plain ascent. An episode that a time limit ends counts with the rewards that it has: the return under
         the limit is what is improved. ``standardize`` scales the weights of a batch to mean 0 and deviation 1, which
         is a same-batch baseline too. V is fitted after (1) has used it, so that (1) keeps its expectation.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Trajectories, select
from lit_rl.data.episodes import Episodes
from lit_rl.data.whole_episodes import WholeEpisodes
from lit_rl.envs.recipe import Env
from lit_rl.functional.policy_gradient import (
    ascent_loss,
    elapsed_discount,
    gradient_variance,
    leave_one_out_baseline,
    mean_baseline,
    optimal_baseline,
    per_episode_gradients,
    per_time_baseline,
    pseudo_loss,
    reward_to_go,
    standardize,
    whole_return,
)
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy

Weight = Literal["whole_return", "reward_to_go", "discounted_reward_to_go", "maximum_likelihood"]
Baseline = Literal["none", "mean", "leave_one_out", "per_time", "optimal", "learned"]

CONSTANT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda weight, mask: torch.zeros_like(weight),
    "mean": mean_baseline,
    "leave_one_out": leave_one_out_baseline,
    "per_time": per_time_baseline,
}
"""Baselines that are functions of the batch's own weights."""


def learning_signal(reward: Float[Tensor, "T M"], gamma: float, kind: Weight) -> Float[Tensor, "T M"]:
    """x of (2), (3) or (5); (4) is (3) times ``elapsed_discount``."""
    if kind == "maximum_likelihood":
        return torch.ones_like(reward)  # (5)
    if kind == "whole_return":
        return whole_return(reward, gamma)  # (2)
    return reward_to_go(reward, gamma)  # (3)


def batch_baseline(weight: Float[Tensor, "T M"], mask: Bool[Tensor, "T M"], kind: str, whole: bool) -> Tensor:
    """b of (6) from the batch [T, M]; ``whole`` weights, equal at every step, are averaged over episodes, not steps."""
    if whole and kind != "per_time":
        return CONSTANT[kind](weight[:1], mask[:1]).expand_as(weight)
    return CONSTANT[kind](weight, mask)


def optimal_baseline_loss(
    parameters: list[Tensor], gradient: Float[Tensor, "M P"], score: Float[Tensor, "M P"]
) -> Float[Tensor, ""]:
    """(1) with a baseline for each parameter, which no weights of the log-likelihood could say."""
    return ascent_loss(parameters, (gradient - optimal_baseline(gradient, score) * score).mean(0))


class Minibatch(NamedTuple):
    """The B steps of M whole episodes."""

    obs: Observation  # [B, ...]
    action: Tensor  # [B] or [B, A]
    weight: Tensor  # [B], x − b; x alone where b is optimal
    target: Tensor  # [B], y
    mask: Tensor  # [T, M] bool; its True entries, row by row, are the B steps


class REINFORCE(Agent):
    """One policy-gradient step per batch of whole episodes.

    Args:
        env: environment recipe, or its id.
        data: whole episodes.
        net: policy, and critic where the baseline is learnt.
        optimizer: how parameters move.
        gamma: discount per step.
        weight: x, what an action is credited with.
        baseline: b, what is subtracted from it.
        standardize: scale the weights of a batch to mean 0 and deviation 1.
        average_over: what (1) divides by: ``episodes`` M, or their ``steps``, which only changes the scale.
        variance_every: updates between two analyses that log the variance of the gradient estimate under every
            baseline, as ``train/gradient_variance_…``; null makes none. One analysis costs some ten updates.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy

    def __init__(
        self,
        env: Env | str,
        data: WholeEpisodes = WholeEpisodes(),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=3e-3),
        gamma: float = 0.99,
        weight: Weight = "reward_to_go",
        baseline: Baseline = "learned",
        standardize: bool = True,
        average_over: Literal["episodes", "steps"] = "episodes",
        variance_every: int | None = None,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(data.window == 1, "data.window", data.window, "episodes of older policies need importance weights")
        self.require(
            variance_every is None or variance_every >= 1, "variance_every", variance_every, "it counts updates"
        )
        self.weight, self.baseline, self.standardize = weight, baseline, standardize
        self.average_over, self.variance_every = average_over, variance_every
        networks = net.build(self.env.observation_space, self.env.action_space)
        self.require(not networks.recurrent, "net.body", net.body, "it has a memory; use a body without one")
        self.policy = networks.policy
        self.critic = networks if baseline == "learned" else None

    def minibatches(self, data: Trajectories) -> Iterator[Minibatch]:
        """(2)-(6)."""
        rows = select(data.obs, data.mask)
        self.policy.body.update_statistics(rows)
        if self.critic is not None and self.critic.critic_body is not None:
            self.critic.critic_body.update_statistics(rows)
        signal = learning_signal(data.reward, self.gamma, self.weight)
        if self.variance_every is not None and self.updates % self.variance_every == 0:
            self._analyse(data, signal)
        weight = self._weights(data, signal, self.baseline)
        if self.standardize:
            weight = standardize(weight, data.mask)
        yield Minibatch(rows, data.action[data.mask], weight[data.mask], signal[data.mask], data.mask)

    def _weights(self, data: Trajectories, signal: Tensor, baseline: Baseline) -> Tensor:
        """x − b [T, M]; an optimal b is subtracted from gradients later."""
        scale = elapsed_discount(signal, self.gamma) if self.weight == "discounted_reward_to_go" else 1.0  # (4)
        if baseline == "learned":
            assert self.critic is not None
            value = torch.zeros_like(signal)
            with torch.no_grad():
                value[data.mask] = self.critic.value(select(data.obs, data.mask)).float()
            return scale * (signal - value)
        whole = self.weight in ("whole_return", "maximum_likelihood")
        kind = "none" if baseline == "optimal" else baseline
        return scale * signal - batch_baseline(scale * signal, data.mask, kind, whole)  # (6)

    def loss(self, batch: Minibatch) -> dict[str, Tensor]:
        """(1), (7)."""
        outputs = self.policy.outputs(batch.obs).float()
        log_prob = self.policy.log_prob(outputs, batch.obs, batch.action)
        self.record(entropy=self.policy.entropy(outputs, batch.obs))
        count = batch.mask.shape[1] if self.average_over == "episodes" else len(batch.weight)
        if self.baseline == "optimal":
            gradient, score = (
                self._per_episode(log_prob, batch.mask, batch.weight),
                self._per_episode(log_prob, batch.mask),
            )
            scale = batch.mask.shape[1] / count
            return {
                "policy_loss": scale * optimal_baseline_loss(list(self.policy.parameters()), gradient, score)
            }  # (1)
        losses = {"policy_loss": pseudo_loss(log_prob, batch.weight, count)}  # (1)
        if self.critic is not None:
            error = self.critic.value(batch.obs).float() - batch.target
            losses["value_loss"] = 0.5 * error.square().mean()  # (7)
        return losses

    def _per_episode(self, log_prob: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Σ_t w_{i,t} ∇ log π of every episode [M, P] from rows [B]; the score where there is no weight."""
        weighted = log_prob if weight is None else log_prob * weight
        terms = torch.zeros(mask.shape, dtype=log_prob.dtype, device=log_prob.device).masked_scatter(mask, weighted)
        return per_episode_gradients(terms.sum(0), list(self.policy.parameters()))

    @torch.enable_grad()
    def _analyse(self, data: Trajectories, signal: Tensor) -> None:
        """Variance of (1) on this batch under every baseline, before standardising."""
        rows = select(data.obs, data.mask)
        log_prob = self.policy.log_prob(self.policy.outputs(rows).float(), rows, data.action[data.mask])
        score = self._per_episode(log_prob, data.mask)
        for baseline in get_args(Baseline):
            if baseline == "learned" and self.critic is None:
                continue
            weight = self._weights(data, signal, baseline)[data.mask]
            gradient = self._per_episode(log_prob, data.mask, weight)
            if baseline == "optimal":
                gradient = gradient - optimal_baseline(gradient, score) * score
            self.metrics.add({f"gradient_variance_{baseline}": gradient_variance(gradient)})
