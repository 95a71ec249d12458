"""Online Q-learning, with a table or a network (QLearning).

Paper    Watkins 1989; Watkins & Dayan 1992.       Formula sheet: 6.2.1a, 6.2.1b, 6.2.1c, 7.3.1a
Update   y   = r + γ(1 − terminated) max_a' q(s', a'; θ),  θ held fixed        (1)
         L(θ) = Σ ½ (q(s, a; θ) − y)²                                          (2)
Data     Fresh rollouts of one step: act, learn from that step, forget it.
Differs  Off-policy, whatever acts. Each transition makes its own step: (2) is a sum over the steps of a round
         (one for each environment), not a mean. ``net.body`` Table with SGD is the tabular algorithm.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.algorithms.q_learning.dqn import td_error
from lit_rl.batch import Rollout, Transition
from lit_rl.data.episodes import Episodes
from lit_rl.data.fresh import fresh_transitions
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.nn.q_network import QNetwork
from lit_rl.nn.table import Table
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions


def online_loss(error: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """(2): its step of size α moves a table's entry by α (y − q)."""
    return 0.5 * error.square().sum()


class QLearning(ActionValueAgent):
    """Learns from each step as it is made.

    Args:
        env: environment recipe, or its id.
        data: how many steps between two updates.
        net: the values.
        optimizer: how parameters move.
        gamma: discount per step.
        exploration: how it acts on its values.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1, rollouts_per_batch=100),
        net: QNetwork = QNetwork(Table()),
        optimizer: Optimizer = Optimizer(lr=0.01, name="sgd"),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonGreedy(0.1),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, None, evaluation)

    def minibatches(self, data: Rollout) -> Iterator[Transition]:
        """All steps of the round, once."""
        batch = fresh_transitions(data, self.gamma)
        self.policy.body.update_statistics(batch.obs)
        yield batch

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(2)."""
        with torch.no_grad():
            next_q = self.policy.outputs(batch.next_obs)
        q = self.policy.outputs(batch.obs)
        error = td_error(q, batch.action, batch.reward, batch.discount, next_q, legal_actions(batch.next_obs))  # (1)
        self.record(q=q, td_error=error.detach().abs())
        return {"td_loss": online_loss(error)}  # (2)
