"""What has been seen of a finite world: counts of transitions and sums of rewards, [S, A] tables."""

import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.algorithms.tabular.table_agent import Array, Steps


class TransitionCounts(nn.Module):
    """n(s, a, s') with one column more for s' = "the episode ended", and Σ r(s, a), in float64 buffers."""

    transitions: Tensor
    reward: Tensor

    def __init__(self, states: int, actions: int) -> None:
        super().__init__()
        self.register_buffer("transitions", torch.zeros(states, actions, states + 1, dtype=torch.float64))
        self.register_buffer("reward", torch.zeros(states, actions, dtype=torch.float64))

    def add(self, steps: Steps) -> None:
        """Count transitions [B]."""
        successor = np.where(steps.terminated, self.reward.shape[0], steps.next_state)
        np.add.at(self.transitions.numpy(), (steps.state, steps.action, successor), 1.0)
        np.add.at(self.reward.numpy(), (steps.state, steps.action), steps.reward)

    @property
    def visits(self) -> Array:
        """n(s, a) [S, A]."""
        return self.transitions.sum(-1).numpy()
