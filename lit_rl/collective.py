"""What the processes of a distributed run find out together: every one of them must make each call, in one order."""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")


def world_size() -> int:
    """How many processes learn together: 1 outside a distributed run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(x: Tensor) -> Tensor:
    """The sum of ``x`` over all ranks, in place; ``x`` itself in a single process."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def all_mean(x: Tensor) -> Tensor:
    """The mean of ``x`` over all ranks, in place and bit for bit the same on each; ``x`` itself in a single process."""
    if (ranks := world_size()) > 1:
        dist.all_reduce(x)
        x /= ranks
    return x


def all_rows(x: Tensor) -> Tensor:
    """The rows of ``x`` on all ranks, equally many on each, in the order of ranks; ``x`` itself in a single process."""
    if (ranks := world_size()) > 1:
        of_rank = [torch.empty_like(x) for _ in range(ranks)]
        dist.all_gather(of_rank, x)
        return torch.cat(of_rank)
    return x


def all_values(value: Value) -> list[Value]:
    """The ``value`` of each rank, in the order of ranks: anything that can be pickled."""
    of_rank = [value] * (ranks := world_size())
    if ranks > 1:
        dist.all_gather_object(of_rank, value)
    return of_rank
