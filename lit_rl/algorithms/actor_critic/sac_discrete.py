"""Soft actor-critic for finitely many actions (SACDiscrete).

Paper    Christodoulou 2019, "Soft actor-critic for discrete action settings", 3; Haarnoja et al. 2018.
         Formula sheet: 15.6.5a, 15.5a, 7.3.1a, G2
Update   V(s)  = Σ_a π(a|s) [min_j q_j(s, a; θ⁻) − α log π(a|s)]                                     (1)
         y     = r + γ(1 − terminated) V(s')                                                         (2)
         L(θ)  = Σ_j mean w ½ (q_j(s, a; θ) − y)²                                                    (3)
         L(φ)  = mean Σ_a π(a|s; φ) [α log π(a|s; φ) − min_j q_j(s, a; θ)],  θ held fixed            (4)
         L(α)  = −log α · mean Σ_a π(a|s) (log π(a|s) + H̄(s)),  H̄(s) = c log A(s), π held fixed       (5)
         θ⁻   ← (1 − τ) θ⁻ + τ θ                                                                     (6)
Data     Replay: act by sampling π, store, sample; uniformly random actions at first.
Differs  Expectations over actions are sums, in (1), (4) and (5), as in the paper. All three losses descend in one
         backward and one optimiser step: they reach disjoint parameters. Each state's target entropy counts its own
         legal actions. w is 1, or the importance weight of a prioritised replay (H2); n-step rewards leave out the
         entropy of the steps between. val/overestimation also holds the entropy still to come.
"""

import math
from collections.abc import Iterator

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Transition, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen
from lit_rl.functional.critics import critics_loss
from lit_rl.functional.distributions import masked_logits
from lit_rl.functional.losses import weighted_mean
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.heads import DiscreteCritics
from lit_rl.nn.mlp import linear_head
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.categorical import CategoricalPolicy
from lit_rl.policies.network import legal_actions


def log_probabilities(
    logits: Float[Tensor, "*B A"], mask: Bool[Tensor, "*B A"] | None = None
) -> tuple[Float[Tensor, "*B A"], Float[Tensor, "*B A"]]:
    """π and log π of every action. An illegal one has π = 0, and log π = 0 so that no sum over actions sees it."""
    log_pi = masked_logits(logits, mask).log_softmax(-1)
    if mask is None:
        return log_pi.exp(), log_pi
    return torch.where(mask, log_pi.exp(), 0.0), torch.where(mask, log_pi, 0.0)


def expected_soft_value(
    pi: Float[Tensor, "*B A"],
    log_pi: Float[Tensor, "*B A"],
    q: Float[Tensor, "E *B A"],
    alpha: float | Float[Tensor, ""],
) -> Float[Tensor, "*B"]:
    """(1): the value of π in all its future entropy, where q holds that of later steps."""
    return (pi * (q.amin(0) - alpha * log_pi)).sum(-1)


def temperature_loss(
    log_alpha: Float[Tensor, ""],
    pi: Float[Tensor, "*B A"],
    log_pi: Float[Tensor, "*B A"],
    target_entropy: float | Float[Tensor, "*B"],
) -> Float[Tensor, "*B"]:
    """(5) per sample. No gradient reaches π."""
    entropy = -(pi * log_pi).sum(-1).detach()
    return log_alpha * (entropy - target_entropy)


class SACDiscrete(Agent):
    """Off-policy actor-critic that maximises return plus entropy, over finitely many actions.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body of the policy and of each critic.
        optimizer: how parameters move.
        gamma: discount per step.
        tau: weight of θ in the Polyak average (6).
        alpha: the temperature; null learns it by (5), from 1.
        entropy_share: c, the target entropy as a share of the greatest, log A(s).
        critics: E, of which the smallest counts.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    policy: CategoricalPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=100_000, batch_size=64, replay_ratio=0.5, warmup=1_000),
        net: Body = MLP((256, 256), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=3e-4),
        gamma: float = 0.99,
        tau: float = 0.005,
        alpha: float | None = None,
        entropy_share: float = 0.98,
        critics: int = 2,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.require(alpha is None or alpha > 0, "alpha", alpha, "a temperature is positive, or null to learn it")
        self.require(0 <= entropy_share < 1, "entropy_share", entropy_share, "no policy has more than its share 1")
        self.require(critics >= 1, "critics", critics, "at least one is needed")
        self.tau, self.entropy_share = tau, entropy_share
        observation_space, action_space = self.env.observation_space, self.env.action_space
        assert isinstance(action_space, spaces.Discrete)
        self.actions = int(action_space.n)
        self.critics = DiscreteCritics(net, observation_space, self.actions, critics)
        self.critics_target = TargetNetwork(self.critics)
        body = net.build(observation_space)
        head = linear_head(body.out_features, self.actions, 1.0 if net.head_is_orthogonal else None)
        self.policy = CategoricalPolicy(body, head, action_space)
        self.log_alpha = torch.nn.Parameter(torch.tensor(math.log(alpha or 1.0)), requires_grad=alpha is None)

    def minibatches(self, data: Transition) -> Iterator[Transition]:
        """One per update; all of them count in the normalisers, where there are any."""
        if len(data.reward):
            self.policy.body.update_statistics(data.obs)
            self.critics.update_statistics(data.obs)
        yield from unstack(data)

    def distribution(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """π and log π [B, A]."""
        return log_probabilities(self.policy.outputs(obs), legal_actions(obs))

    def target_entropy(self, obs: Observation) -> Tensor | float:
        """H̄ of (5), [B] where the legal actions differ."""
        mask = legal_actions(obs)
        if mask is None:
            return self.entropy_share * math.log(self.actions)
        return self.entropy_share * mask.sum(-1).clamp(min=1).log()

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(5)."""
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            next_value = expected_soft_value(
                *self.distribution(batch.next_obs), self.critics_target(batch.next_obs), alpha
            )  # (1)
            target = batch.reward + batch.discount * next_value  # (2)
        values = self.critics(batch.obs)
        q = chosen(values, batch.action.expand(len(values), -1))
        pi, log_pi = self.distribution(batch.obs)
        td_error = (q.detach() - target).abs().mean(0)
        self.experience.learnt(batch.index, td_error)
        entropy = -(pi * log_pi).detach().sum(-1).mean()
        self.record(q=q, td_error=td_error, entropy=entropy, alpha=alpha)
        losses = {
            "critic_loss": weighted_mean(critics_loss(q, target), batch.weight),  # (3)
            "actor_loss": -expected_soft_value(pi, log_pi, values.detach(), alpha).mean(),  # (4)
        }
        if self.log_alpha.requires_grad:
            share = self.target_entropy(batch.obs)
            losses["temperature_loss"] = temperature_loss(self.log_alpha, pi, log_pi, share).mean()  # (5)
        return losses

    def after_update(self) -> None:
        """(6)."""
        self.critics_target.follow(self.tau)

    def state_value(self, obs: Observation) -> Tensor:
        """The smallest q(s, a) [B] of the likeliest action, for the diagnostic."""
        return chosen(self.critics(obs).amin(0), self.distribution(obs)[0].argmax(-1))
