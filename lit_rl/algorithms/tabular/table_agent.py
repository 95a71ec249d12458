"""What agents share that learn tables by rules of their own, without gradients."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.envs.recipe import Env
from lit_rl.optimizer import Optimizer
from lit_rl.policies.table import count_states, states_of

Array = np.ndarray


class Steps(NamedTuple):
    """The steps of a rollout as plain arrays, in the order in which they were taken: t first, then environments."""

    state: Array  # [B] int
    action: Array  # [B] int
    reward: Array  # [B]
    next_state: Array  # [B] int, the true successor
    terminated: Array  # [B] bool
    done: Array  # [B] bool


class TableAgent(Agent):
    """Keeps tables in float64 buffers of its policy, so that saving, loading and playing need nothing of their own.

    A subclass writes :meth:`sweep`. The one optimiser holds no parameters.
    """

    def __init__(self, env: Env | str, data: Any, gamma: float, evaluation: Episodes, step_size: float = 1.0) -> None:
        super().__init__(env, data, Optimizer(lr=step_size, name="sgd"), gamma, evaluation)
        assert isinstance(self.env.action_space, spaces.Discrete)
        self.states, self.actions = count_states(self.env.observation_space), int(self.env.action_space.n)

    @abstractmethod
    def sweep(self, data: Any) -> dict[str, float]:
        """Learn from a round's data: change tables in place, return what to plot."""

    def minibatches(self, data: Any) -> Iterator[Any]:
        """The round as it is: one update."""
        yield data

    def update(self, minibatch: Any) -> None:
        """One sweep, without a loss."""
        with torch.no_grad():
            found = self.sweep(minibatch)
        self.policy.count(updates=1)
        self.after_update()
        self.record(**found)

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Nothing: see :meth:`sweep`."""
        return {}


class ArrayAgent(TableAgent):
    """Sweeps or counts in numpy, so that its tables stay in the CPU's memory, wherever the trainer learns."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        return super()._apply(lambda table: fn(table).cpu(), recurse)


def steps_of(rollout: Rollout) -> Steps:
    """[T, N] → [T·N] on the CPU."""
    obs = torch.as_tensor(states_of(rollout.obs)).long().cpu().numpy()
    following = obs[1:].copy()
    following.reshape(-1)[rollout.final_index.cpu().numpy()] = (
        torch.as_tensor(states_of(rollout.final_obs)).long().cpu().numpy()
    )
    columns = (rollout.action.long(), rollout.reward.double(), rollout.terminated, rollout.done)
    action, reward, terminated, done = (column.cpu().numpy().reshape(-1) for column in columns)
    return Steps(obs[:-1].reshape(-1), action, reward, following.reshape(-1), terminated, done)
