"""Off-policy actor-critic (OffPolicyActorCritic).

Paper    Degris et al. 2012; Heess et al. 2015 (SVG(0)); Espeholt et al. 2018 (V-trace).
         Formula sheet: 5.5c, 5.5d, 5.5e, H1
Update   ``correction: q_trick``: a critic Q of the policy that learns, whoever acted:
         y     = r + γ(1 − terminated) Q(s', a'; θ⁻),  a' ~ π(·|s') fresh                              (1)
         L(θ)  = ½ mean (Q(s, a; θ) − y)²                                                             (2)
         ∇J    = mean_s 1/m Σ_j ∇ log π(a_j|s) (Q(s, a_j) − b_j),  a_j ~ π(·|s) fresh      ``score``    (3)
                 b_j = 0, or with ``baseline`` the mean of Q(s, ·) over the other m − 1 actions
         ∇J    = mean_s ∇ Σ_a π(a|s) Q(s, a)                                              ``exact``    (4)
         ∇J    = mean_s 1/m Σ_j ∇ Q(s, a_j),  a_j = μ(s) + σ ξ_j                          ``pathwise`` (5)
         θ⁻   ← (1 − τ) θ⁻ + τ θ                                                                      (6)
         ``importance``: a critic V of it, V-trace targets v and advantages A of windows of L steps:
         L     = ½ mean (V(s) − v)²,  ∇J = mean A ∇ log π(a|s)                                        (7)
         ``none``, the naive method, which is wrong and stands here to show it: (7) with every ratio π/μ = 1,
         so that V is the value of the policies of old, and a is none of π's actions.
Data     Replay for the Q trick, WindowReplay for V-trace: act by sampling π, store, sample uniformly.
Differs  Actor and critic descend in one optimiser step: they reach disjoint parameters. States come from the
         memory, not from π (5.5d). With finitely many actions (1) takes the expectation over a'.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Transition, map_tensors, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.data.windows import Window, WindowReplay
from lit_rl.envs.recipe import Env
from lit_rl.functional.distributions import masked_logits
from lit_rl.functional.losses import weighted_mean
from lit_rl.functional.returns import vtrace
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.frozen import Frozen
from lit_rl.nn.heads import QFunction
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import POLICY_GAIN, VALUE_GAIN, linear_head
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.categorical import CategoricalPolicy
from lit_rl.policies.gaussian import GaussianPolicy
from lit_rl.policies.network import legal_actions
from lit_rl.schedules import Scheduled, as_schedule

Correction = Literal["q_trick", "importance", "none"]
Gradient = Literal["score", "exact", "pathwise"]


def q_loss(
    q: Float[Tensor, " B"], reward: Float[Tensor, " B"], discount: Float[Tensor, " B"], next_q: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """(1)-(2) per sample. ``discount`` is γⁿ(1 − terminated); no gradient reaches ``next_q``."""
    return 0.5 * (q - (reward + discount * next_q).detach()).square()


def score_loss(log_prob: Float[Tensor, "m B"], q: Float[Tensor, "m B"], baseline: bool = False) -> Float[Tensor, " B"]:
    """−(3) per state, of m fresh actions; no gradient reaches ``q``. A baseline needs m ≥ 2."""
    q = q.detach()
    if baseline:
        q = q - (q.sum(0) - q) / (len(q) - 1)
    return -(log_prob * q).mean(0)


def expected_q(
    logits: Float[Tensor, "B A"], q: Float[Tensor, "B A"], mask: Bool[Tensor, "B A"] | None = None
) -> Float[Tensor, " B"]:
    """Σ_a π(a|s) Q(s, a) of (4) and (1); no gradient reaches ``q``."""
    return (masked_logits(logits, mask).softmax(-1) * q.detach()).sum(-1)


def as_window(batch: Window | Transition) -> tuple[Transition, Tensor, Tensor]:
    """Time first: steps [L, B], which of them count, and which are the last of their window; a transition is L = 1."""
    if isinstance(batch, Transition):
        valid = torch.ones_like(batch.reward, dtype=torch.bool).unsqueeze(0)
        return map_tensors(lambda tensor: tensor.unsqueeze(0), batch), valid, valid
    steps, valid = map_tensors(lambda tensor: tensor.transpose(0, 1), batch)
    return steps, valid, torch.cat([~valid[1:], torch.ones_like(valid[:1])])


class OffPolicyActorCritic(Agent):
    """A policy gradient from replayed transitions, by a critic of the policy that learns.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from; windows of them where ``correction`` is ``importance``.
        net: body of the policy, and of the critic.
        optimizer: how parameters move.
        gamma: discount per step.
        tau: weight of θ in the Polyak average (6).
        correction: what makes old data speak of the new policy: the ``q_trick``, ``importance`` weights, or ``none``.
        gradient: estimator of the Q trick's policy gradient; null is ``exact`` or, in a Box, ``pathwise``.
        samples: m, fresh actions per state.
        baseline: leave-one-out mean in (3), which turns Q into an advantage.
        entropy_weight: c_H, of an entropy bonus in the actor's loss, scheduled over env steps; it is not part of the
            values.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete", "Box")
    policy: CategoricalPolicy | GaussianPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=100_000, batch_size=128, replay_ratio=0.5, warmup=1_000),
        net: Body = MLP((128, 128), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=1e-3),
        gamma: float = 0.99,
        tau: float = 0.01,
        correction: Correction = "q_trick",
        gradient: Gradient | None = None,
        samples: int = 1,
        baseline: bool = False,
        entropy_weight: Scheduled = 0.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.discrete = isinstance(self.env.action_space, spaces.Discrete)
        exact: Gradient = "exact" if self.discrete else "pathwise"
        self.gradient, self.correction = gradient or exact, correction
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.require(self.gradient in ("score", exact), "gradient", gradient, f"here it is score or {exact}")
        self.require(samples >= 1, "samples", samples, "at least one action is needed")
        scored = self.gradient == "score" and samples >= 2
        self.require(scored or not baseline, "baseline", baseline, "it needs gradient 'score' and samples from 2")
        windows = isinstance(data, WindowReplay)
        right = {"q_trick": not windows, "importance": windows, "none": True}
        self.require(correction in right, "correction", correction, f"it is one of {', '.join(right)}")
        rule = "the Q trick learns from a Replay, importance weights from a WindowReplay"
        self.require(right[correction], "data", type(data).__name__, rule)
        self.tau, self.samples, self.baseline = tau, samples, baseline
        self.entropy_weight = as_schedule(entropy_weight)
        self.policy = self._policy(net)
        self.critic = self._critic(net)
        if correction == "q_trick":
            self.critic_target, self.frozen_critic = TargetNetwork(self.critic), Frozen(self.critic)

    def _policy(self, net: Body) -> CategoricalPolicy | GaussianPolicy:
        body, space = net.build(self.env.observation_space), self.env.action_space
        self.require(body.state_size == 0, "net", net, "it has a memory, and single transitions have none")
        gain = POLICY_GAIN if net.head_is_orthogonal else None
        if isinstance(space, spaces.Discrete):
            return CategoricalPolicy(body, linear_head(body.out_features, int(space.n), gain), space)
        assert isinstance(space, spaces.Box)
        return GaussianPolicy(body, linear_head(body.out_features, int(space.low.size), gain), space)

    def _critic(self, net: Body) -> nn.Module:
        """Q(s, a), Q(s, ·) or V(s)."""
        space = self.env.action_space
        if self.correction == "q_trick" and not self.discrete:
            return QFunction(net, self.env.observation_space, space)
        body = net.build(self.env.observation_space)
        outputs = int(space.n) if self.correction == "q_trick" and isinstance(space, spaces.Discrete) else 1
        return Layers(body, linear_head(body.out_features, outputs, VALUE_GAIN if net.head_is_orthogonal else None))

    def minibatches(self, data: Transition | Window) -> Iterator[Transition | Window]:
        """One per update; all of them count in the normalisers, where there are any."""
        steps = data.steps if isinstance(data, Window) else data
        if len(steps.reward):
            self.policy.body.update_statistics(steps.obs)
            if isinstance(self.critic, QFunction):
                self.critic.update_statistics(steps.obs, steps.action)
            else:
                self.critic[0].update_statistics(steps.obs)  # type: ignore[index, operator]
        yield from unstack(data)

    def loss(self, batch: Transition | Window) -> dict[str, Tensor]:
        """(1)-(5) or (7), and the entropy bonus."""
        if self.correction == "q_trick":
            assert isinstance(batch, Transition)
            outputs, obs = self.policy.outputs(batch.obs), batch.obs
            critic_loss = self.critic_loss(batch)
            losses = {"critic_loss": critic_loss, "actor_loss": self.actor_loss(outputs, batch.obs).mean()}
            entropy = self.policy.entropy(outputs, obs).mean()
        else:
            losses, entropy = self.value_losses(*as_window(batch))
        self.record(entropy=entropy.detach())
        if weight := self.entropy_weight(self.env_steps):
            losses["entropy_loss"] = -weight * entropy
        return losses

    def critic_loss(self, batch: Transition) -> Tensor:
        """(1)-(2)."""
        with torch.no_grad():
            outputs = self.policy.outputs(batch.next_obs)
            if self.discrete:
                next_q = expected_q(outputs, self.critic_target(batch.next_obs), legal_actions(batch.next_obs))
            else:
                (action,) = self.fresh_actions(outputs, batch.next_obs, 1)
                next_q = self.critic_target(batch.next_obs, action)
        if self.discrete:
            q = self.critic(batch.obs).gather(-1, batch.action.long().unsqueeze(-1)).squeeze(-1)
        else:
            q = self.critic(batch.obs, batch.action)
        self.experience.learnt(batch.index, q.detach() - (batch.reward + batch.discount * next_q))
        self.record(q=q)
        return weighted_mean(q_loss(q, batch.reward, batch.discount, next_q), batch.weight)

    def actor_loss(self, outputs: Tensor, obs: Observation) -> Tensor:
        """(3), (4) or (5) per state [B], from the policy's ``outputs`` there."""
        if self.gradient == "exact":
            return -expected_q(outputs, self.critic(obs).detach(), legal_actions(obs))  # (4)
        action = self.fresh_actions(outputs, obs, self.samples)
        repeated = map_tensors(lambda tensor: tensor.expand(self.samples, *tensor.shape), obs)
        if self.gradient == "pathwise":
            return -self.frozen_critic(repeated, action).mean(0)  # (5)
        action = action.detach()
        with torch.no_grad():
            if self.discrete:
                q = self.critic(repeated).gather(-1, action.unsqueeze(-1)).squeeze(-1)
            else:
                q = self.critic(repeated, action)
        log_prob = self.policy.log_prob(outputs.expand(self.samples, *outputs.shape), repeated, action)
        return score_loss(log_prob, q, self.baseline)  # (3)

    def fresh_actions(self, outputs: Tensor, obs: Observation, count: int) -> Tensor:
        """Actions [count, B] or [count, B, A] of π; Gaussian ones carry the gradient of μ + σ ξ."""
        if isinstance(self.policy, GaussianPolicy):
            noise = torch.randn(count, *outputs.shape, device=outputs.device, dtype=outputs.dtype)
            return outputs + self.policy.log_std.exp() * noise
        probability = masked_logits(outputs.detach(), legal_actions(obs)).softmax(-1)
        return torch.multinomial(probability, count, replacement=True).T

    def value_losses(self, steps: Transition, valid: Tensor, last: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(7), and the mean entropy, from windows [L, B]."""
        outputs = self.policy.outputs(steps.obs)
        log_prob = self.policy.log_prob(outputs, steps.obs, steps.action)
        value = self.critic(steps.obs).squeeze(-1)
        with torch.no_grad():
            next_value = self.critic(steps.next_obs).squeeze(-1)
            log_ratio = log_prob - steps.log_prob if self.correction == "importance" else torch.zeros_like(log_prob)
        corrected = vtrace(steps.reward, value.detach(), next_value, steps.discount, last, log_ratio=log_ratio.detach())
        count = valid.sum()
        self.record(rho=(corrected.rho * valid).sum() / count, value=(value.detach() * valid).sum() / count)
        losses = {
            "critic_loss": 0.5 * ((value - corrected.target).square() * valid).sum() / count,  # (7)
            "actor_loss": -(corrected.advantage * log_prob * valid).sum() / count,  # (7)
        }
        return losses, (self.policy.entropy(outputs, steps.obs) * valid).sum() / count

    def after_update(self) -> None:
        """(6)."""
        if self.correction == "q_trick":
            self.critic_target.follow(self.tau)

    def schedules(self) -> dict[str, float]:
        """c_H."""
        return {"entropy_weight": self.entropy_weight(self.env_steps)}
