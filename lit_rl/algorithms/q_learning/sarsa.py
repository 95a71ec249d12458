"""Online SARSA and expected SARSA, with a table or a network (Sarsa).

Paper    Rummery & Niranjan 1994; van Seijen et al. 2009.       Formula sheet: 6.2.1a, 6.2.1b, 6.2.1c, 7.3.1a
Update   y    = r + γ(1 − terminated) q(s', a'; θ),  a' the next action, or expected: Σ_a' π(a'|s') q(s', a'; θ)   (1)
         L(θ) = Σ ½ (q(s, a; θ) − y)²,  y held fixed                                                              (2)
Data     Fresh rollouts of a few steps. On-policy: it learns the values of the policy that explores.
Differs  The next action of a rollout's last step, and of one that a time limit cut, has not been taken: it is
         drawn from π. (2) is a sum, as in Q-learning.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.algorithms.q_learning.q_learning import online_loss
from lit_rl.batch import Rollout, Transition, map_tensors
from lit_rl.data.episodes import Episodes
from lit_rl.data.fresh import fresh_transitions
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, expected_target
from lit_rl.nn.q_network import QNetwork
from lit_rl.nn.table import Table
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions


class SarsaBatch(NamedTuple):
    """Transitions [B] and what was done next."""

    steps: Transition
    next_action: Tensor  # [B] int, −1 where it has not been taken


def next_actions(rollout: Rollout) -> Int[Tensor, "T N"]:
    """The action after each step of its episode; −1 after the rollout's last step and after an episode's end."""
    following = rollout.action.roll(-1, 0)
    following[-1] = -1
    return following.masked_fill(rollout.done, -1)


def sarsa_target(
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    next_q: Float[Tensor, "B A"],
    next_action: Int[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """y of (1) for the actions taken."""
    return reward + discount * chosen(next_q, next_action)


class Sarsa(ActionValueAgent):
    """Learns what its own exploring is worth.

    Args:
        env: environment recipe, or its id.
        data: how many steps between two updates.
        net: the values.
        optimizer: how parameters move.
        gamma: discount per step.
        exploration: how it acts on its values, and whose values it learns.
        expected: average over the next action instead of taking the one that came.
        evaluation: episodes played at each validation.
    """

    action_spaces = ("Discrete",)

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=8, rollouts_per_batch=20),
        net: QNetwork = QNetwork(Table()),
        optimizer: Optimizer = Optimizer(lr=0.01, name="sgd"),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonGreedy(0.1),
        expected: bool = False,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, None, evaluation)
        self.expected = expected

    def minibatches(self, data: Rollout) -> Iterator[SarsaBatch]:
        """All steps of the round, once."""
        steps, following = fresh_transitions(data, self.gamma), next_actions(data)
        self.policy.body.update_statistics(steps.obs)
        yield SarsaBatch(steps, following.flatten())

    def loss(self, batch: SarsaBatch) -> dict[str, Tensor]:
        """(1)-(2)."""

        def by_env(rows: Tensor) -> Tensor:
            return rows.unflatten(0, (-1, self.env.num_envs))  # [T, N, A]: each may explore in a way of its own

        steps, action = batch
        with torch.no_grad():
            next_q, mask = self.policy.outputs(steps.next_obs), legal_actions(steps.next_obs)
            probabilities = self.policy.probabilities(by_env(next_q), map_tensors(by_env, mask)).flatten(0, 1)
            if self.expected:
                target = expected_target(steps.reward, steps.discount, next_q, probabilities)  # (1)
            else:
                likely = probabilities.clamp(min=0) + (steps.discount == 0)[:, None]  # any will do after the end
                drawn = torch.multinomial(likely, 1).squeeze(1)
                target = sarsa_target(
                    steps.reward, steps.discount, next_q, torch.where(action < 0, drawn, action)
                )  # (1)
        q = self.policy.outputs(steps.obs)
        error = chosen(q, steps.action) - target
        self.record(q=q, td_error=error.detach().abs())
        return {"td_loss": online_loss(error)}  # (2)
