"""Double deep Q-network (DoubleDQN).

Paper    van Hasselt, Guez & Silver 2016, "Deep Reinforcement Learning with Double Q-learning".
         Formula sheet: 7.4.1a, 7.3.1a, 7.6a, G2
Update   a*   = argmax_a' q(s', a'; θ)                                   (1)
         y    = r + γ(1 − terminated) q(s', a*; θ⁻)                      (2)
         L(θ) = mean w huber(q(s, a; θ) − y)                             (3)
Data     Replay: act ε-greedily in q, store, sample.
Differs  Adam for RMSProp. The network that learns selects the action and its slow copy evaluates it. w is 1,
         or the importance weight of a prioritised replay (H2); n-step rewards come ready from the replay.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import Transition
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, double_q_target
from lit_rl.functional.losses import huber_loss
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions


def double_td_error(
    q: Float[Tensor, "B A"],
    action: Int[Tensor, " B"],
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    selecting_q: Float[Tensor, "B A"],
    evaluating_q: Float[Tensor, "B A"],
    next_mask: Bool[Tensor, "B A"] | None = None,
) -> Float[Tensor, " B"]:
    """q(s, a) − y per sample, (1)-(2). ``discount`` is γⁿ(1 − terminated); no gradient reaches the target."""
    target = double_q_target(reward, discount, selecting_q.detach(), evaluating_q.detach(), next_mask)
    return chosen(q, action) - target


class DoubleDQN(ActionValueAgent):
    """DQN whose maximum is selected by one network and valued by the other.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: the Q-network.
        optimizer: how parameters move.
        gamma: discount per step.
        exploration: how it acts on its values.
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
        exploration: Exploration = EpsilonGreedy(),
        target: TargetUpdate = TargetUpdate(),
        huber_delta: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, target, evaluation)
        self.require(huber_delta > 0, "huber_delta", huber_delta, "it is positive")
        self.huber_delta = huber_delta

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(3)."""
        q = self.policy.outputs(batch.obs)
        with torch.no_grad():
            selecting, evaluating = self.policy.outputs(batch.next_obs), self.q_target(batch.next_obs)
        mask = legal_actions(batch.next_obs)
        error = double_td_error(q, batch.action, batch.reward, batch.discount, selecting, evaluating, mask)  # (1)-(2)
        self.experience.learnt(batch.index, error)
        self.record(q=q, td_error=error.detach().abs())
        return {"td_loss": huber_loss(error, self.huber_delta, batch.weight)}  # (3)
