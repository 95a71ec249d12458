"""Which step of a line search is taken, for many problems at once. Formula sheet: 9.2.1a."""

from jaxtyping import Bool, Int
from torch import Tensor


def first_good(good: Bool[Tensor, "L N"]) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """The M problems for which any of L step lengths is good, and the place of the first one that is."""
    kept = good.any(0).nonzero().squeeze(-1)
    return kept, good[:, kept].int().argmax(0)
