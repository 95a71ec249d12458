"""Policy gradient with an off-policy critic as control variate (QProp).

Paper    Gu et al. 2017 (Q-Prop), 3; Tucker et al. 2018 (caveats).       Formula sheet: 5.6b, 5.6c, 5.6.2a
Update   y_j   = r + γ(1 − terminated) Q(s', a'; φ⁻),  a' ~ π(·|s'),  L(φ) = ½ mean (Q(s, a; φ) − y)²       (1)
         Â     = GAE(λ) of the fresh rollout with V; λ = 1 and whole episodes: return − V, without bias      (2)
         Ā(s,a) = Q(s, a) − Σ_a' π(a'|s) Q(s, a')                       finitely many actions              (3)
                = ∇_a Q(s, a)|_{a = μ(s)} · (a − μ(s))                  Gaussian: Q to first order in a
         ∇J    = mean ∇ log π(a|s) (Â − η Ā(s, a))                                                        (4)
               + η mean ∇ Σ_a π(a|s) Q(s, a),  or  η mean ∇_a Q(s, a)|_{a = μ(s)} ∇ μ(s)                   (5)
         η     = 1, or from Cov = mean Ā Â of the rollout before: ``conservative`` 1[Cov > 0], ``aggressive``
                 sign Cov, ``adaptive`` Cov / mean Ā²                                                     (6)
         L(V)  = c_v mean (V(s) − Â − V_old(s))²,  φ⁻ ← (1 − τ) φ⁻ + τ φ                                   (7)
         (4) without (5) is biased for every Q (5.6b); together they are not, whatever Q is, and vary less.
Data     Rehearsal: a rollout of T steps of N environments for one step of the policy, and transitions of the
         rollouts before it for (1): Q knows nothing of the actions that it is subtracted from.
Differs  A plain gradient step where the paper takes TRPO's. η is one number, from the rollout before: a sign taken
         from the very sample that it multiplies, as in the paper, would be biased (Tucker et al. 2018).
"""

from collections.abc import Iterator
from typing import Literal

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor, nn

from lit_rl.agent import Agent
from lit_rl.algorithms.actor_critic.off_policy_actor_critic import expected_q, q_loss
from lit_rl.batch import Observation, Rollout, Transition, map_tensors, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.rehearsal import Rehearsal, Rehearsed
from lit_rl.envs.recipe import Env
from lit_rl.functional.returns import generalized_advantage
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.heads import QFunction
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import VALUE_GAIN, linear_head
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from lit_rl.policies.categorical import CategoricalPolicy
from lit_rl.policies.gaussian import GaussianPolicy
from lit_rl.policies.network import legal_actions

Strength = Literal["one", "conservative", "aggressive", "adaptive"]


def residual_loss(
    log_prob: Float[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
    control: Float[Tensor, "*batch"],
    strength: Float[Tensor, ""],
) -> Float[Tensor, "*batch"]:
    """−(4) per step: −log π (Â − η Ā); gradient reaches ``log_prob`` alone."""
    return -log_prob * (advantage - strength * control).detach()


def strength_of(
    kind: Strength, advantage: Float[Tensor, "*batch"], control: Float[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """η of (6). Ā has mean zero given the state, so that the mean of the product is the covariance."""
    covariance = (advantage * control).mean()
    if kind == "one":
        return torch.ones_like(covariance)
    if kind == "conservative":
        return (covariance > 0).to(covariance.dtype)
    if kind == "aggressive":
        return covariance.sign()
    return covariance / control.square().mean().clamp(min=1e-12)


class QProp(Agent):
    """On-policy policy gradient whose variance an off-policy Q-function takes away.

    Args:
        env: environment recipe, or its id.
        data: fresh rollouts, and a memory of those before.
        net: policy and V.
        critic: body of Q.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of the advantage estimator.
        tau: weight of φ in the Polyak average (7).
        strength: η, how far the control variate is trusted.
        value_weight: c_v.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete", "Box")
    policy: CategoricalPolicy | GaussianPolicy
    strength_now: Tensor

    def __init__(
        self,
        env: Env | str,
        data: Rehearsal = Rehearsal(),
        net: ActorCritic = ActorCritic(),
        critic: Body = MLP((128, 128), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=1e-3, max_grad_norm=10.0),
        gamma: float = 0.99,
        lam: float = 0.95,
        tau: float = 0.01,
        strength: Strength = "conservative",
        value_weight: float = 0.5,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        kinds = ("one", "conservative", "aggressive", "adaptive")
        self.require(strength in kinds, "strength", strength, f"it is one of {', '.join(kinds)}")
        self.lam, self.tau, self.strength, self.value_weight = lam, tau, strength, value_weight
        observation_space, action_space = self.env.observation_space, self.env.action_space
        self.networks = net.build(observation_space, action_space)
        self.require(not self.networks.recurrent, "net.body", net.body, "it has a memory; PPO serves those")
        policy = self.networks.policy
        assert isinstance(policy, CategoricalPolicy | GaussianPolicy)
        self.policy = policy
        self.critic: nn.Module
        if isinstance(action_space, spaces.Discrete):
            body = critic.build(observation_space)
            gain = VALUE_GAIN if critic.head_is_orthogonal else None
            self.critic = Layers(body, linear_head(body.out_features, int(action_space.n), gain))
        else:
            self.critic = QFunction(critic, observation_space, action_space)
        self.critic_target = TargetNetwork(self.critic)
        self.register_buffer("strength_now", torch.tensor(float(strength == "one")))  # nothing is known before

    def minibatches(self, data: Rehearsed) -> Iterator[Transition | Rollout]:
        """K of the past for Q, then the rollout."""
        self.networks.update_statistics(data.rollout.obs)
        if len(data.past.reward) and isinstance(self.critic, QFunction):
            self.critic.update_statistics(data.past.obs, data.past.action)
        elif len(data.past.reward):
            self.critic[0].update_statistics(data.past.obs)  # type: ignore[index, operator]
        yield from unstack(data.past)
        yield data.rollout

    def loss(self, batch: Transition | Rollout) -> dict[str, Tensor]:
        """(1) of the past; (2)-(7) of a rollout."""
        return self.critic_loss(batch) if isinstance(batch, Transition) else self.policy_losses(batch)

    def critic_loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)."""
        with torch.no_grad():
            outputs = self.policy.outputs(batch.next_obs)
            if isinstance(self.policy, GaussianPolicy):
                action = outputs + self.policy.log_std.exp() * torch.randn_like(outputs)
                next_q = self.critic_target(batch.next_obs, action)
            else:
                next_q = expected_q(outputs, self.critic_target(batch.next_obs), legal_actions(batch.next_obs))
        if isinstance(self.policy, GaussianPolicy):
            q = self.critic(batch.obs, batch.action)
        else:
            q = self.critic(batch.obs).gather(-1, batch.action.long().unsqueeze(-1)).squeeze(-1)
        self.record(q=q)
        return {"critic_loss": q_loss(q, batch.reward, batch.discount, next_q).mean()}

    def policy_losses(self, rollout: Rollout) -> dict[str, Tensor]:
        """(2)-(7)."""
        now = self.networks.evaluate(rollout)
        discount = self.gamma * (~rollout.terminated).float()
        advantage = generalized_advantage(
            rollout.reward, now.value, now.next_value, discount, rollout.done, lam=self.lam
        ).flatten()  # (2)
        obs = map_tensors(lambda tensor: tensor[:-1].flatten(0, 1), rollout.obs)
        action = rollout.action.flatten(0, 1)
        outputs, value = self.networks(obs)
        control, expected = self.control_variate(outputs, obs, action)
        strength = self.strength_now.clone()
        self.strength_now.copy_(strength_of(self.strength, advantage, control))  # (6), for the next rollout
        residual = advantage - strength * control
        self.record(strength=strength, residual_variance=residual.var() / advantage.var().clamp(min=1e-12))
        log_prob = self.policy.log_prob(outputs, obs, action)
        return {
            "residual_loss": residual_loss(log_prob, advantage, control, strength).mean(),  # (4)
            "expected_loss": -strength * expected.mean(),  # (5)
            "value_loss": self.value_weight * (value - (advantage + now.value.flatten())).square().mean(),  # (7)
        }

    def control_variate(self, outputs: Tensor, obs: Observation, action: Tensor) -> tuple[Tensor, Tensor]:
        """Ā [B] of (3), without gradient, and the expectation [B] whose gradient is (5), up to a constant."""
        if isinstance(self.policy, GaussianPolicy):
            mean = outputs.detach().requires_grad_()
            with torch.enable_grad():
                slope = torch.autograd.grad(self.critic(obs, mean).sum(), mean)[0]
            action = action.reshape(outputs.shape)
            return (slope * (action - mean.detach())).sum(-1), (slope * outputs).sum(-1)
        with torch.no_grad():
            q = self.critic(obs)
        expected = expected_q(outputs, q, legal_actions(obs))
        return q.gather(-1, action.long().unsqueeze(-1)).squeeze(-1) - expected.detach(), expected

    def after_update(self) -> None:
        """(7)."""
        self.critic_target.follow(self.tau)
