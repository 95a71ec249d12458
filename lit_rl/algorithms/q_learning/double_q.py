"""Double Q-learning with two estimators (DoubleQ).

Paper    van Hasselt 2010, "Double Q-learning", Algorithm 1.       Formula sheet: 7.4a, 7.3.1a
Update   a coin says which of A and B learns; with X that one and Z the other:
         a*   = argmax_a' q_X(s', a')                                   (1)
         y    = r + γ(1 − terminated) q_Z(s', a*)                       (2)
         L(X) = mean w huber(q_X(s, a) − y)                             (3)
Data     Replay, or with a capacity and batch of one step the online algorithm; act on q_A + q_B.
Differs  Networks as well as tables (``net.body`` Table). Only the slow copies of both enter (1)-(2); a
         ``target`` that copies at every update removes them. Squared errors, as for tables: a large ``huber_delta``.
         Only X has a gradient in an update: under DDP unused parameters must be looked for (``trainer.strategy:
         ddp_find_unused_parameters_true``).
"""

from typing import Any

import torch
from torch import Tensor, nn

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.algorithms.q_learning.double_dqn import double_td_error
from lit_rl.batch import Transition
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.losses import huber_loss
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.optimizer import Optimizer
from lit_rl.policies.action_values import TwoEstimatorPolicy
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions


class DoubleQ(ActionValueAgent):
    """Two estimators, each valued by the other, so that neither believes its own noise.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: of each estimator.
        optimizer: how parameters move.
        gamma: discount per step.
        exploration: how it acts on the sum of the estimators.
        target: how their slow copies follow them.
        huber_delta: where the loss turns from quadratic to linear.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    policy: TwoEstimatorPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=100_000, batch_size=128, replay_ratio=0.1, warmup=1_000),
        net: QNetwork = QNetwork(),
        optimizer: Optimizer = Optimizer(lr=2.5e-4, max_grad_norm=10.0),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonGreedy(),
        target: TargetUpdate = TargetUpdate(),
        huber_delta: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, target, evaluation)
        self.require(huber_delta > 0, "huber_delta", huber_delta, "it is positive")
        self.huber_delta = huber_delta

    def build_policy(self, net: QNetwork, exploration: Exploration) -> TwoEstimatorPolicy:
        """Two networks of the same form."""
        one, other = (net.build(self.env.observation_space, self.actions) for _ in range(2))
        return TwoEstimatorPolicy(one, other, exploration)

    @property
    def q(self) -> nn.Module:
        """Both estimators, each a body and a head."""
        return nn.ModuleList(self.policy.estimators)

    def state_value(self, obs: Any) -> Tensor:
        """max_a of the mean of both [B]."""
        return super().state_value(obs) / 2

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(3)."""
        learning = int(torch.rand(()) < 0.5)  # the coin
        network = self.policy.estimators[learning]
        q = network(batch.obs)
        with torch.no_grad():
            slow = list(self.q_target.slow.children())
            own, other = (slow[i](batch.next_obs) for i in (learning, 1 - learning))
        mask = legal_actions(batch.next_obs)
        error = double_td_error(q, batch.action, batch.reward, batch.discount, own, other, mask)  # (1)-(2)
        self.experience.learnt(batch.index, error)
        self.record(q=q, td_error=error.detach().abs())
        return {"td_loss": huber_loss(error, self.huber_delta, batch.weight)}  # (3)
