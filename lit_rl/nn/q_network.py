"""The network of a Q-learner with finitely many actions, and how its slow copy follows, as recipes."""

from dataclasses import dataclass, field
from typing import Literal

import gymnasium
from torch import nn

from lit_rl.nn.body import MLP, Body
from lit_rl.nn.heads import DuellingHead
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import linear_head
from lit_rl.nn.network import BuiltBody
from lit_rl.nn.pairs import PairBody, PairHead
from lit_rl.nn.table import StateFeatures, Table


@dataclass(frozen=True)
class QNetwork:
    """Recipe of q(s, ·): a body and a head.

    Args:
        body: what the observation passes first.
        duelling: split q into V and A (formula sheet H3).
        inputs: ``state`` has one output for each action; ``pair`` reads (s, a) and has one (formula sheet 6.1.4b).
    """

    body: Body = field(default_factory=lambda: MLP((120, 84), "relu", orthogonal=False))
    duelling: bool = False
    inputs: Literal["state", "pair"] = "state"

    def __post_init__(self) -> None:
        if self.duelling and isinstance(self.body, Table):
            raise ValueError("QNetwork: a Table has no duelling head; leave duelling off")
        if self.inputs not in ("state", "pair"):
            raise ValueError(f"QNetwork.inputs is {self.inputs!r}; it is state or pair")
        if self.inputs == "pair" and (self.duelling or isinstance(self.body, Table)):
            raise ValueError("QNetwork.inputs is pair: it goes with an MLP or CNN and without duelling")

    def build(self, observation_space: gymnasium.Space, outputs: int) -> Layers:
        """Body and head: observations [B, ...] → values [B, outputs]."""
        if self.inputs == "pair":
            pairs = PairBody(self.body, observation_space, outputs)
            gain = 1.0 if self.body.head_is_orthogonal else None
            return Layers(pairs, PairHead(linear_head(pairs.out_features, 1, gain)))
        body = self.body.build(observation_space)
        return Layers(body, self._head(body, outputs))

    def _head(self, body: BuiltBody, outputs: int) -> nn.Module:
        if isinstance(self.body, (Table, StateFeatures)):
            table = nn.Linear(body.out_features, outputs, bias=False)
            nn.init.constant_(table.weight, self.body.initial)
            return table
        gain = 1.0 if self.body.head_is_orthogonal else None
        kind = DuellingHead if self.duelling else linear_head
        return kind(body.out_features, outputs, gain)


@dataclass(frozen=True)
class TargetUpdate:
    """How the slow copy θ⁻ follows θ; are read from it (formula sheet 7.1b, 7.1c).

    Args:
        every: updates between hard copies θ⁻ ← θ, when ``tau`` is 1.
        tau: weight of θ in a Polyak average after every update; 1 copies hard.
    """

    every: int = 500
    tau: float = 1.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"TargetUpdate.every is {self.every}: it counts updates, from 1")
        if not 0 < self.tau <= 1:
            raise ValueError(f"TargetUpdate.tau is {self.tau}: the weight of the new parameters lies in (0, 1]")
