"""A memory of past observations. Formula sheet: H11."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_rl.nn.layers import run
from lit_rl.nn.mlp import mlp
from lit_rl.nn.network import BuiltBody

Cell = Literal["gru", "lstm"]


class RecurrentNetwork(BuiltBody):
    """Observations and a state → features and the next state: one step, or a whole segment at once.

    The state [N, S] is flat, zero at the start of an episode: S = H for a GRU, 2H (hidden | cell) for an LSTM.

    Args:
        body: observations [B, ...] → features [B, D].
        hidden: H, the width of the memory.
        cell: ``gru`` or ``lstm``.
        orthogonal: orthogonal weights and zero biases, else torch's own.
        after: widths of the layers, with ReLU, from the memory to the features; none, and the memory is the features.
    """

    def __init__(
        self, body: BuiltBody, hidden: int, cell: Cell, orthogonal: bool = True, after: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.body = body
        kind = nn.GRUCell if cell == "gru" else nn.LSTMCell
        self.cell: nn.GRUCell | nn.LSTMCell = kind(body.out_features, hidden)
        if orthogonal:
            for weight in (self.cell.weight_ih, self.cell.weight_hh):
                for gate in weight.data.split(hidden):
                    nn.init.orthogonal_(gate)
            nn.init.zeros_(self.cell.bias_ih)
            nn.init.zeros_(self.cell.bias_hh)
        self.after = mlp((hidden, *after), "relu", orthogonal)
        self.hidden, self.out_features = hidden, (hidden, *after)[-1]
        self.state_size = hidden if cell == "gru" else 2 * hidden

    def update_statistics(self, obs: Tensor | dict[str, Any]) -> None:
        """See :meth:`BuiltBody.update_statistics`."""
        self.body.update_statistics(obs)

    def forward(
        self, obs: Tensor | dict[str, Any], state: Float[Tensor, "N S"], start: Bool[Tensor, "T N"]
    ) -> tuple[Float[Tensor, "T N F"], Float[Tensor, "N S"]]:
        """Unroll over T steps; equal to T calls of :meth:`step` with the state zeroed where ``start``.

        Args:
            obs: [T, N, ...].
            state: before the first step.
            start: whether a step is the first of its episode: what was before is forgotten.
        """
        states = self.unroll(obs, state, start)
        return self.features(states), states[-1]

    def unroll(
        self, obs: Tensor | dict[str, Any], state: Float[Tensor, "N S"], start: Bool[Tensor, "T N"]
    ) -> Float[Tensor, "T N S"]:
        """The state after each of T steps; arguments as of :meth:`forward`."""
        states = []
        for x, first in zip(self.body(obs), start, strict=True):
            state = self._advance(x, state.masked_fill(first[:, None], 0.0))
            states.append(state)
        return torch.stack(states)

    def features(self, state: Float[Tensor, "*N S"]) -> Float[Tensor, "*N F"]:
        """What the head reads of a state."""
        return run(self.after, state[..., : self.hidden])

    def step(
        self, obs: Tensor | dict[str, Any], state: Float[Tensor, "N S"]
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N S"]]:
        """One step for observations [N, ...]."""
        state = self._advance(self.body(obs), state)
        return self.features(state), state

    def _advance(self, x: Tensor, state: Tensor) -> Tensor:
        state = state.to(self.cell.weight_hh.dtype)  # the memory of acting is in float32, whatever the weights are in
        if isinstance(self.cell, nn.GRUCell):
            return self.cell(x, state)
        hidden, memory = state.chunk(2, -1)
        return torch.cat(self.cell(x, (hidden, memory)), -1)
