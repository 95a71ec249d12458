"""Fitted Q-iteration (FittedQ).

Paper    Ernst, Geurts & Wehenkel 2005, "Tree-based batch mode reinforcement learning"; Riedmiller 2005, "Neural fitted
         Q iteration".       Formula sheet: 6.1.4b, 6.0a, 7.2a, 7.3.1a
Update   after every N environment steps, K times on all transitions D so far:
         y_i = r_i + γ(1 − terminated) max_a' q(s'_i, a'; θ),  θ held fixed                            (1)
         θ   ← argmin Σ_i ½ (q(s_i, a_i; θ) − y_i)²: exactly, or by S steps of minibatches             (2)
Data     GrowingBatch: act ε-greedily in q for N steps, then all of D.
Differs  q is a network, from which each regression goes on, instead of trees that are grown anew; of two shapes, s → A
         values or (s, a) → one (``net.inputs``). Riedmiller's is the second, with Rprop on the whole of D. Of several
         processes each solves (2) exactly for the rows of all, which it holds meanwhile; by steps each has its own D.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import Observation, Transition, map_tensors
from lit_rl.collective import all_mean, all_rows
from lit_rl.data.episodes import Episodes
from lit_rl.data.growing import GrowingBatch
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import q_target
from lit_rl.nn.pairs import PairBody, PairHead, chosen_value
from lit_rl.nn.q_network import QNetwork
from lit_rl.nn.regression import Regression, least_squares_
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions

CHUNK = 8192  # rows of D whose targets are worked out at once


class Fitted(NamedTuple):
    """Rows of one regression."""

    obs: Observation  # [B, ...]
    action: Tensor  # [B]
    target: Tensor  # [B], y


def squared_error(value: Float[Tensor, " B"], target: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """½ (q − y)² per row, (2)."""
    return 0.5 * (value - target).square()


class FittedQ(ActionValueAgent):
    """Fits q to its own one-step targets, again and again, on everything that it has seen.

    Args:
        env: environment recipe, or its id.
        data: N, and how much is kept.
        net: the Q-network.
        optimizer: how parameters move where the regression is by steps.
        gamma: discount per step.
        exploration: how it acts on its values.
        iterations: K, regressions after every N steps.
        regression: how (2) is solved.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)

    def __init__(
        self,
        env: Env | str,
        data: GrowingBatch = GrowingBatch(),
        net: QNetwork = QNetwork(),
        optimizer: Optimizer = Optimizer(lr=1e-3, max_grad_norm=10.0),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonGreedy(),
        iterations: int = 10,
        regression: Regression = Regression(),
        evaluation: Episodes = Episodes(),
    ) -> None:
        by_steps = regression.method == "gradient"
        optimizer = optimizer if by_steps else Optimizer(lr=0.0, name="sgd")  # it moves nothing, and has no state
        super().__init__(env, data, net, optimizer, gamma, exploration, None, evaluation)
        self.require(iterations >= 1, "iterations", iterations, "it counts regressions, from 1")
        regression.refuse_hidden_layers(self.policy.body)
        if not by_steps and not isinstance(self.policy.head, nn.Linear | PairHead):
            raise ValueError("FittedQ: least_squares fits one linear layer, and a duelling head has two")
        self.iterations, self.regression = iterations, regression

    def minibatches(self, data: Transition) -> Iterator[Fitted]:
        """K regressions on D; the targets of each by the network that the one before has left."""
        self.policy.body.update_statistics(data.obs)
        exact = self.regression.method == "least_squares"
        if exact:
            data = map_tensors(all_rows, data)
        rows = len(data.reward)
        for _ in range(self.iterations):
            everything = Fitted(data.obs, data.action, self.targets(data))
            size = self.regression.batch_size or rows
            if exact or size >= rows:
                yield from [everything] * (1 if exact else self.regression.steps)
                continue
            order = torch.empty(0, dtype=torch.int64)
            for _ in range(self.regression.steps):
                if len(order) < size:
                    order = torch.randperm(rows)
                index, order = order[:size].to(data.reward.device), order[size:]
                yield map_tensors(lambda tensor, index=index: tensor[index], everything)  # type: ignore[misc]

    @torch.no_grad()
    def targets(self, data: Transition) -> Float[Tensor, " B"]:
        """(1) for every row."""
        found = []
        for start in range(0, len(data.reward), CHUNK):
            part = map_tensors(lambda tensor, at=slice(start, start + CHUNK): tensor[at], data)  # type: ignore[misc]
            next_q = self.policy.outputs(part.next_obs)
            found.append(q_target(part.reward, part.discount, next_q, legal_actions(part.next_obs)))
        return torch.cat(found)

    def update(self, minibatch: Fitted) -> None:
        """A step of (2), or all of it."""
        if self.regression.method == "gradient":
            super().update(minibatch)
            return
        with torch.no_grad():
            before = self.loss(minibatch)
            self.solve(minibatch)
            for parameter in self.policy.head.parameters():
                all_mean(parameter.data)  # processors may differ in the last bits
            after = self.loss(minibatch)
        self.policy.count(updates=1)
        self.record(**before, residual=after["td_loss"])

    def solve(self, batch: Fitted) -> None:
        """(2), exactly."""
        body, head = self.policy.body, self.policy.head
        if isinstance(body, PairBody):
            least_squares_(head.layer, body.pair(batch.obs, batch.action), batch.target)  # type: ignore[union-attr, arg-type]
        else:
            least_squares_(head, body(batch.obs), batch.target, batch.action)  # type: ignore[arg-type]

    def loss(self, batch: Fitted) -> dict[str, Tensor]:
        """(2), in the mean over the rows."""
        q = chosen_value(self.policy.body, self.policy.head, batch.obs, batch.action)
        self.record(q=q, td_error=(q.detach() - batch.target).abs())
        return {"td_loss": squared_error(q, batch.target).mean()}
