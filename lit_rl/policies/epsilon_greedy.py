"""ε-greedy over action values."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from lit_rl.batch import Observation
from lit_rl.nn.network import BuiltBody
from lit_rl.policies.categorical import best_action
from lit_rl.policies.network import NetworkPolicy, legal_actions
from lit_rl.schedules import Schedule


class EpsilonGreedyPolicy(NetworkPolicy):
    """argmax_a q(s, a) with probability 1 − ε, else a uniformly random legal action.

    π(a|s) = ε/|A(s)| + (1 − ε) 1[a = argmax q]  (formula sheet 6.2.1b); ε is scheduled over env steps
    and read once per round of collecting.
    """

    def __init__(self, body: BuiltBody, head: nn.Module, epsilon: Schedule) -> None:
        super().__init__(body, head)
        self.schedule = epsilon
        self.epsilon = epsilon(0)
        self._without_mask: tuple[Any, Any] | None = None  # log-probabilities where every action is legal
        self._all_greedy = np.empty(0, np.float32)  # the first of them, for every row

    def refresh(self) -> None:
        """Also read ε."""
        super().refresh()
        epsilon = self.schedule(int(self.env_steps))
        if epsilon != self.epsilon:  # setting an attribute of a module costs microseconds
            self.epsilon, self._without_mask = epsilon, None

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """See :meth:`NetworkPolicy.choose`."""
        mask = legal_actions(obs)
        greedy = (outputs if mask is None else np.where(mask, outputs, -np.inf)).argmax(-1)
        if not explore:
            return greedy, np.zeros(len(greedy), np.float32)
        rows, actions = outputs.shape
        coin, which = rng.random((2, rows))  # which rows explore, and where to
        wild = coin < self.epsilon
        legal = actions if mask is None else mask.sum(-1)
        action = greedy
        if np.count_nonzero(wild):
            rank = (which * legal).astype(np.int64)
            random = rank if mask is None else (mask.cumsum(-1) > rank[:, None]).argmax(-1)
            action = np.where(wild, random, greedy)
        if mask is not None:
            of_greedy, of_others = self._log_probs(legal)
        else:
            if self._without_mask is None or len(self._all_greedy) != rows:
                self._without_mask = self._log_probs(actions)
                self._all_greedy = np.full(rows, self._without_mask[0], np.float32)
                self._all_greedy.flags.writeable = False
            if action is greedy:
                return action, self._all_greedy
            of_greedy, of_others = self._without_mask
        return action, np.where(action == greedy, of_greedy, of_others)

    def _log_probs(self, legal: Any) -> tuple[Any, Any]:
        """Of the greedy action and of any other one, among so many legal ones."""
        share = np.float32(self.epsilon) / legal
        with np.errstate(divide="ignore"):  # with ε = 0 no other action is ever taken
            return np.log(share + (1 - np.float32(self.epsilon))), np.log(share)

    def greedy(self, obs: Observation) -> Tensor:
        """argmax over the legal actions [B]."""
        return best_action(self.outputs(obs), legal_actions(obs))
