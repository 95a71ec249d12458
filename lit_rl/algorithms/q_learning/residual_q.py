"""Residual algorithm for action values (ResidualQ).

Paper    Baird 1995, "Residual algorithms: reinforcement learning with function approximation".
         Formula sheet: 6.3b, 6.2.1a, 7.3.1a
Update   a*  = argmax_a' q(s', a'; θ)
         d   = q(s, a; θ) − r − γ(1 − terminated) q(s', a*; θ)                                     (1)
         step along  −d (∇q(s, a; θ) − η γ(1 − terminated) ∇q(s', a*; θ))                          (2)
Data     Fresh rollouts of one step, as Q-learning.
Differs  η = 0 is Q-learning, η = 1 the residual gradient, which descends the squared Bellman error. From a single
         successor that is biased where transitions are random: the values of the possible successors are pulled
         together. ``residual_loss`` takes a second, independent successor for the gradient in (2), which removes the
         bias; who steps through an environment meets one successor of each pair, so this agent cannot have two.
         Slow; for comparison, and where the semi-gradient diverges. (2) is summed over a round.
"""

from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import Rollout, Transition
from lit_rl.data.episodes import Episodes
from lit_rl.data.fresh import fresh_transitions
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, legal_values
from lit_rl.nn.q_network import QNetwork
from lit_rl.nn.table import Table
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions


class Successor(NamedTuple):
    """What a step into s'' bootstraps from."""

    discount: Float[Tensor, " B"]  # γ(1 − terminated) of that step
    q: Float[Tensor, "B A"]  # q(s'', ·; θ)
    mask: Bool[Tensor, "B A"] | None = None  # the actions that are legal in s''


def residual_loss(
    q: Float[Tensor, "B A"],
    action: Int[Tensor, " B"],
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    next_q: Float[Tensor, "B A"],
    eta: float,
    next_mask: Bool[Tensor, "B A"] | None = None,
    second: Successor | None = None,
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """A function whose gradient is that of (2), per sample, and d of (1).

    Only its slope means something: d counts as a constant in it. With s' in (1) and ``second``, another draw s'' from
    p(·|s, a), in (2) the step is d (∇q(s, a) − η γ(1 − terminated'') ∇ max_a q(s'', a)). The two are independent, so
    that for η = 1 its mean is the gradient of ½ (E d)². A single successor gives that of ½ E d², which is ½ Var d more.
    Two draws need a model, or a simulator that can be set back.
    """
    value, following = chosen(q, action), _bootstrap(Successor(discount, next_q, next_mask))
    d = (value - reward - following).detach()  # (1)
    return d * (value - eta * (following if second is None else _bootstrap(second))), d  # (2)


def _bootstrap(successor: Successor) -> Float[Tensor, " B"]:
    """γ(1 − terminated) max_a q(·, a); its gradient is that of the best action's value."""
    return successor.discount * chosen(successor.q, legal_values(successor.q, successor.mask).argmax(-1))


class ResidualQ(ActionValueAgent):
    """Q-learning that may also move the value of the successor.

    Args:
        env: environment recipe, or its id.
        data: how many steps between two updates.
        net: the values.
        optimizer: how parameters move.
        gamma: discount per step.
        eta: η, how much of the successor's gradient counts.
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
        eta: float = 0.5,
        exploration: Exploration = EpsilonGreedy(0.1),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, None, evaluation)
        self.require(0 <= eta <= 1, "eta", eta, "it lies in [0, 1]")
        self.eta = eta

    def minibatches(self, data: Rollout) -> Iterator[Transition]:
        """All steps of the round, once."""
        batch = fresh_transitions(data, self.gamma)
        self.policy.body.update_statistics(batch.obs)
        yield batch

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(2)."""
        q, next_q = self.policy.outputs(batch.obs), self.policy.outputs(batch.next_obs)
        mask = legal_actions(batch.next_obs)
        loss, d = residual_loss(q, batch.action, batch.reward, batch.discount, next_q, self.eta, mask)
        self.record(q=q, td_error=d.abs())
        return {"td_loss": loss.sum()}
