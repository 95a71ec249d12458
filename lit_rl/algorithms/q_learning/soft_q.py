"""Soft Q-learning for finitely many actions (SoftQ).

Paper    Haarnoja, Tang, Abbeel & Levine 2017, "Reinforcement learning with deep energy-based policies", 3.
         Formula sheet: 15.6.1a, 15.5a, 15.2.1a, 7.1b, 7.1c, 7.3.1a, 7.6a
Update   V(s') = α log Σ_a' p(a'|s') exp(q(s', a'; θ⁻)/α),  p = 1, or 1/A(s') with ``prior: uniform``      (1)
         y     = r + γ(1 − terminated) V(s')                                                             (2)
         L(θ)  = mean w huber(q(s, a; θ) − y)                                                            (3)
         π(a|s) = exp((q(s, a) − V(s))/α) = softmax(q(s, ·)/α)                                           (4)
Data     Replay: act by (4), store, sample; greedily in q where it does not explore.
Differs  The sum over actions is exact: nothing is sampled. w is 1, or the importance weight of a prioritised replay
         (H2). n-step rewards come ready from the replay, without the entropy of the steps between: with α > 0 they
         are right for n = 1 alone. val/overestimation also holds the entropy still to come, at most
         α log A/(1 − γ).
"""

import sys
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import Transition
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, soft_value
from lit_rl.functional.losses import huber_loss
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import Boltzmann
from lit_rl.policies.network import legal_actions
from lit_rl.schedules import Scheduled, as_schedule

Prior = Literal["none", "uniform"]


def soft_td_error(
    q: Float[Tensor, "B A"],
    action: Int[Tensor, " B"],
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    next_q: Float[Tensor, "B A"],
    alpha: float,
    next_mask: Bool[Tensor, "B A"] | None = None,
    prior: Prior = "none",
) -> Float[Tensor, " B"]:
    """q(s, a) − y per sample, (1)-(2).

    Args:
        q: values in s.
        action: taken in s.
        reward: that it earned.
        discount: γⁿ(1 − terminated).
        next_q: values in s', of the network that gives targets; no gradient reaches them.
        alpha: the temperature, in units of reward.
        next_mask: legal actions in s'.
        prior: p(a'|s'): every action counts once, or all together once.
    """
    next_value = soft_value(next_q.detach(), alpha, next_mask)  # (1)
    if prior == "uniform":
        legal = torch.ones_like(next_q) if next_mask is None else next_mask.to(next_q.dtype)
        next_value = next_value - alpha * legal.sum(-1).clamp(min=1).log()
    return chosen(q, action) - (reward + discount * next_value)  # (2)


class SoftQ(ActionValueAgent):
    """Learns the values of the policy of greatest return plus α times entropy, and acts by it.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: the Q-network.
        optimizer: how parameters move.
        gamma: discount per step.
        alpha: α, in units of reward, over env steps; as it falls to 0, this is DQN.
        prior: ``none`` values every step alive by up to α log A, ``uniform`` by at most 0: where episodes end, or
            states differ in their legal actions, the two give different policies.
        target: how θ⁻ follows θ.
        huber_delta: where the loss turns from quadratic to linear.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    target: TargetUpdate

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=100_000, batch_size=128, replay_ratio=0.1, warmup=1_000),
        net: QNetwork = QNetwork(),
        optimizer: Optimizer = Optimizer(lr=2.5e-4, max_grad_norm=10.0),
        gamma: float = 0.99,
        alpha: Scheduled = 0.05,
        prior: Prior = "none",
        target: TargetUpdate = TargetUpdate(),
        huber_delta: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        lowest = min(as_schedule(alpha)(steps) for steps in (0, sys.maxsize))
        self.require(lowest > 0, "alpha", alpha, "a temperature is positive and stays so; DQN is its limit at 0")
        super().__init__(env, data, net, optimizer, gamma, Boltzmann(alpha), target, evaluation)
        self.require(prior in get_args(Prior), "prior", prior, "it is none or uniform")
        self.require(huber_delta > 0, "huber_delta", huber_delta, "it is positive")
        self.alpha, self.prior, self.huber_delta = as_schedule(alpha), prior, huber_delta

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(3)."""
        q = self.policy.outputs(batch.obs)
        with torch.no_grad():
            next_q = self.q_target(batch.next_obs)
        alpha, mask = self.alpha(self.env_steps), legal_actions(batch.next_obs)
        error = soft_td_error(q, batch.action, batch.reward, batch.discount, next_q, alpha, mask, self.prior)  # (1)-(2)
        self.experience.learnt(batch.index, error)
        entropy = torch.special.entr(self.policy.probabilities(q.detach(), legal_actions(batch.obs))).sum(-1)
        self.record(q=q, td_error=error.detach().abs(), entropy=entropy)
        return {"td_loss": huber_loss(error, self.huber_delta, batch.weight)}  # (3)
