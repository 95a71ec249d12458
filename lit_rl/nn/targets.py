"""Target networks: slow copies of networks that learn. Formula sheet: 7.1b, 7.1c."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lit_rl.functional.targets import hard_update, polyak_update


class TargetNetwork(nn.Module):
    """θ⁻: begins as a copy of ``online``, learns nothing, and follows it when told to.

    Running statistics are copied as they are, since an average of old and new ones belongs to neither.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.slow = copy.deepcopy(online).requires_grad_(False)
        self._online = [online]  # in a list: the copied network is no part of its copy
        self._parameters_of: tuple[list[Tensor], list[Tensor]] | None = None
        self._has_statistics = bool(set(online.state_dict()) - {name for name, _ in online.named_parameters()})

    def forward(self, *arguments: Any) -> Any:
        """What the copy computes; its own parameters take no gradient."""
        return self.slow(*arguments)

    def follow(self, tau: float = 1.0) -> None:
        """θ⁻ ← (1 − τ) θ⁻ + τ θ; with ``tau`` = 1 a plain copy."""
        if self._parameters_of is None:  # walking the modules costs more than the update itself
            self._parameters_of = list(self.slow.parameters()), list(self._online[0].parameters())
        if tau == 1.0:
            hard_update(*self._parameters_of)
        else:
            polyak_update(*self._parameters_of, tau)
        if self._has_statistics:
            hard_update(self.slow.buffers(), self._online[0].buffers())

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._parameters_of = None  # moving to a device may replace them
        return super()._apply(fn, recurse)
