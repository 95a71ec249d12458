"""q(s, a) of finitely many actions as one number for each pair, instead of one output for each action."""

from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from jaxtyping import Float, Int
from torch import Tensor, nn

from lit_rl.batch import Observation, map_tensors
from lit_rl.functional.action_values import chosen
from lit_rl.nn.body import Body
from lit_rl.nn.flatten import entry, leaves
from lit_rl.nn.network import BuiltBody


class PairBody(BuiltBody):
    """Observations [..., *shape] → features [..., A, D] of every pair (s, a); the body reads the action one-hot.

    Args:
        recipe: of the body, built for a Dict of ``observation`` and ``action``; it may not have a memory.
        space: of one observation.
        actions: A.

    Raises:
        ValueError: the body has a memory.
    """

    every: Tensor  # [A]

    def __init__(self, recipe: Body, space: gymnasium.Space, actions: int) -> None:
        super().__init__()
        self.body = recipe.build(spaces.Dict({"observation": space, "action": spaces.Discrete(actions)}))
        if self.body.state_size:
            raise ValueError("a net of pairs (s, a) has no memory: use MLP or CNN, or one output for each action")
        self.out_features = self.body.out_features
        self._path, leaf = next(leaves(space))
        self._dims = len(leaf.shape or ())
        self.register_buffer("every", torch.arange(actions), persistent=False)

    def forward(self, obs: Observation) -> Float[Tensor, "*B A D"]:
        """Of all actions."""
        return self.body(self._all_pairs(obs)).movedim(0, -2)

    def pair(self, obs: Observation, action: Int[Tensor, "*B"]) -> Float[Tensor, "*B D"]:
        """Of the actions taken."""
        return self.body({"observation": obs, "action": action})

    def update_statistics(self, obs: Any) -> None:
        """See :meth:`BuiltBody.update_statistics`; every action counts as often as the others."""
        self.body.update_statistics(self._all_pairs(obs))

    def _all_pairs(self, obs: Any) -> dict[str, Any]:
        """Observations and actions [A, ...], every action beside every observation."""
        actions, some = len(self.every), entry(obs, self._path)
        leading = some.shape[: some.dim() - self._dims]
        return {
            "observation": map_tensors(lambda tensor: tensor.expand(actions, *tensor.shape), obs),
            "action": self.every.view(actions, *[1] * len(leading)).expand(actions, *leading),
        }


class PairHead(nn.Module):
    """Features [..., D] → one value each [...]."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        """The values."""
        return self.layer(features).squeeze(-1)


def chosen_value(body: nn.Module, head: nn.Module, obs: Observation, action: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """q(s, a) of the actions taken, of a network of either shape; of pairs no others are worked out."""
    if isinstance(body, PairBody):
        return head(body.pair(obs, action))
    return chosen(head(body(obs)), action)
