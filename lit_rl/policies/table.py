"""Acting from tables: one row for each state of a Discrete observation."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lit_rl.batch import Observation
from lit_rl.policies.categorical import best_action
from lit_rl.policies.network import legal_actions
from lit_rl.policies.policy import Act, Policy
from lit_rl.schedules import Constant, Schedule


def count_states(space: gymnasium.Space) -> int:
    """S of a Discrete observation, alone or beside its mask of legal actions.

    Raises:
        ValueError: another space.
    """
    if isinstance(space, spaces.Dict) and set(space.spaces) == {"observation", "action_mask"}:
        space = space["observation"]
    if not isinstance(space, spaces.Discrete):
        raise ValueError(f"a table needs Discrete observations, not {space}: use an agent with a network")
    return int(space.n)


def states_of(obs: Any) -> Any:
    """State numbers [...] of observations, arrays or tensors, with or without a mask."""
    return obs["observation"] if isinstance(obs, dict) else obs


class TablePolicy(Policy):
    """Greedy in a table q [S, A]; exploring, ε-greedy, or softmax(q/temperature) where that is positive.

    Exploring, equal actions are equally likely: a table that knows nothing yet walks at random, not against a wall.

    Args:
        observation_space: Discrete, with or without a mask.
        actions: A.
        epsilon: probability of a random action, over env steps.
        temperature: α of the softmax; 0 is ε-greedy.
        initial: what every entry begins with.
    """

    q: Tensor

    def __init__(
        self,
        observation_space: gymnasium.Space,
        actions: int,
        epsilon: Schedule = Constant(0.0),
        temperature: float = 0.0,
        initial: float = 0.0,
    ) -> None:
        super().__init__()
        table = torch.full((count_states(observation_space), actions), initial, dtype=torch.float64)
        self.register_buffer("q", table)
        self.schedule, self.temperature = epsilon, temperature
        self.epsilon = epsilon(0)

    def refresh(self) -> None:
        """Read ε."""
        self.epsilon = self.schedule(int(self.env_steps))

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        """See :meth:`Policy.act`."""
        chances = self.distribution(states_of(obs), legal_actions(obs), explore)
        return Act(*draw(chances, rng, explore), state)

    def distribution(self, state: Any, mask: np.ndarray | None = None, explore: bool = True) -> np.ndarray:
        """π(·|s) [N, A] in states [N]: what exact evaluation of this policy needs."""
        values = self.q.cpu().numpy()[state]
        if mask is not None:
            values = np.where(mask, values, -np.inf)
        if explore and self.temperature > 0:
            weight = np.exp((values - values.max(-1, keepdims=True)) / self.temperature)
            return weight / weight.sum(-1, keepdims=True)
        if not explore:
            return np.eye(values.shape[-1])[values.argmax(-1)]
        legal, best = np.isfinite(values), values == values.max(-1, keepdims=True)
        shares = [part / part.sum(-1, keepdims=True) for part in (legal, best)]
        return self.epsilon * shares[0] + (1.0 - self.epsilon) * shares[1]

    def forward(self, obs: Observation) -> Tensor:
        """The greedy action [B]: what is exported."""
        return best_action(self.q[states_of(obs)], legal_actions(obs))


def draw(chances: np.ndarray, rng: np.random.Generator, explore: bool) -> tuple[np.ndarray, np.ndarray]:
    """Actions [N] by their chances [N, A] and their log-probabilities [N]; the likeliest without exploration."""
    if explore:
        cumulative = chances.cumsum(-1)
        action = (cumulative <= rng.random((len(chances), 1)) * cumulative[:, -1:]).sum(-1)
    else:
        action = chances.argmax(-1)
    return action, np.log(chances[np.arange(len(action)), action]).astype(np.float32)
