"""Fitted value iteration (FittedValueIteration).

Paper    Gordon 1995, "Stable function approximation in dynamic programming"; Tsitsiklis & Van Roy 1996.
         Formula sheet: 6.1.4a, 6.1.3a, 6.0a, 6.3a
Update   y(s) = max_a [ r(s, a) + γ Σ_s' p(s'|s, a) V(s'; θ) ],  θ held fixed             (1)
         θ    ← argmin Σ_s ½ (V(s; θ) − y(s))²: exactly, or by S steps of minibatches     (2)
Data     KnownModel: the environment's own tables; one round is (1) and (2) once, over all states.
Differs  All states that can be acted in are fitted, with equal weights; terminal ones are worth 0 whatever V says.
         A table fitted exactly is value iteration; with other features it may diverge, see StateFeatures.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.data.episodes import Episodes
from lit_rl.data.known_model import KnownModel
from lit_rl.envs.recipe import Env
from lit_rl.nn.body import Body
from lit_rl.nn.q_network import QNetwork
from lit_rl.nn.regression import Regression, least_squares_
from lit_rl.nn.table import Table
from lit_rl.optimizer import Optimizer
from lit_rl.planning.dynamic_programming import bellman
from lit_rl.planning.evaluation import action_value
from lit_rl.planning.model import Model, expectation, flow
from lit_rl.policies.table import TablePolicy, count_states


class Fitted(NamedTuple):
    """Rows of one regression."""

    state: Tensor  # [B] int
    target: Tensor  # [B], y


def value_loss(value: Float[Tensor, " B"], target: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """½ (V − y)² per state, (2)."""
    return 0.5 * (value - target).square()


def matters(model: Model) -> Bool[Tensor, " S"]:
    """States that are left, entered or begun in while an episode goes on: all but terminal ones (and walls)."""
    pairs = torch.ones_like(model.reward)
    left = expectation(model.transition, torch.ones_like(model.initial)) + model.reward.abs()
    return (left.amax(-1) > 0) | (flow(model.transition, pairs) > 0) | (model.initial > 0)


class FittedValueIteration(Agent):
    """Value iteration whose values are a function of the state instead of a table.

    It acts greedily in r + γ Σ p V, for which it needs the model too.

    Args:
        env: environment recipe, or its id: a finite MDP, or FrozenLake, Taxi, CliffWalking.
        data: how many rounds.
        net: of V: features of the state's number, on which one linear layer stands.
        optimizer: how parameters move where the regression is by steps.
        gamma: discount per step.
        regression: how (2) is solved.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy
    every: Tensor  # [S], the numbers of all states

    def __init__(
        self,
        env: Env | str,
        data: KnownModel = KnownModel(),
        net: Body = Table(),
        optimizer: Optimizer = Optimizer(lr=1e-3),
        gamma: float = 0.99,
        regression: Regression = Regression("least_squares"),
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        by_steps = regression.method == "gradient"
        optimizer = optimizer if by_steps else Optimizer(lr=0.0, name="sgd")  # it moves nothing, and has no state
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.regression = regression
        assert isinstance(self.env.action_space, spaces.Discrete)
        states = count_states(self.env.observation_space)
        self.policy = TablePolicy(self.env.observation_space, int(self.env.action_space.n))
        self.v = QNetwork(net).build(self.env.observation_space, 1)
        regression.refuse_hidden_layers(self.v[0])
        self.register_buffer("every", torch.arange(states), persistent=False)

    def value(self, state: Tensor) -> Float[Tensor, " B"]:
        """V of states [B] given by their numbers."""
        return self.v(state).squeeze(-1)

    def minibatches(self, data: Model) -> Iterator[Fitted]:
        """One regression on all states; then the policy looks one step ahead with what it has become."""
        with torch.no_grad():
            target = bellman(data, self.value(self.every).double(), self.gamma)  # (1)
        alive = torch.nonzero(matters(data)).squeeze(-1)
        everything = Fitted(alive, target[alive].float())
        if self.regression.method == "least_squares":
            yield everything
        else:
            size = self.regression.batch_size or len(alive)
            for _ in range(self.regression.steps):
                index = torch.randperm(len(alive))[:size].to(alive.device) if size < len(alive) else slice(None)
                yield Fitted(alive[index], everything.target[index])
        with torch.no_grad():
            value = self.value(self.every).double()
            self.policy.q.copy_(action_value(data, value, self.gamma))
        residual = (bellman(data, value, self.gamma) - value)[alive].abs().max()
        self.record(residual=residual, start_value=data.initial @ value)

    def update(self, minibatch: Fitted) -> None:
        """A step of (2), or all of it."""
        if self.regression.method == "gradient":
            super().update(minibatch)
            return
        with torch.no_grad():
            before = self.loss(minibatch)
            body, head = self.v
            least_squares_(head, body(minibatch.state), minibatch.target)  # type: ignore[arg-type]
        self.policy.count(updates=1)
        self.record(**before)

    def loss(self, batch: Fitted) -> dict[str, Tensor]:
        """(2), in the mean over the states."""
        return {"value_loss": value_loss(self.value(batch.state), batch.target).mean()}
