"""Target networks: slow copies of networks that learn. Formula sheet: 7.1b, 7.1c."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lit_rl.functional.targets import hard_update, polyak_update
from lit_rl.nn.normalizer import Normalizer


class TargetNetwork(nn.Module):
    """θ⁻: begins as a copy of ``online``, learns nothing, and follows it when told to.

    A :class:`Normalizer` is shared, so that both see an observation alike (formula sheet C.8).
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        shared = {id(module): module for module in online.modules() if isinstance(module, Normalizer)}
        self.slow = copy.deepcopy(online, shared).requires_grad_(False)
        self._online = [online]  # in a list: the copied network is no part of its copy
        self._parameters_of: tuple[list[Tensor], list[Tensor]] | None = None

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

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self._parameters_of = None  # moving to a device may replace them
        return super()._apply(fn, recurse)
