"""Markov chains: how a distribution moves, where it settles, and whether it does. Formula sheet: 3.1."""

from math import gcd

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def propagate(chain: Float[Tensor, "S S"], start: Float[Tensor, " S"], steps: int) -> Float[Tensor, "T1 S"]:
    """μ_0 … μ_T with μ_{t+1} = Pᵀ μ_t."""
    rows = [start]
    for _ in range(steps):
        rows.append(chain.mT @ rows[-1])
    return torch.stack(rows)


def stationary_distribution(chain: Float[Tensor, "S S"]) -> Float[Tensor, " S"]:
    """μ with μ = Pᵀ μ and Σ μ = 1, by least squares: unique where there is one recurrent class.

    Raises:
        ValueError: rows do not sum to 1, or several distributions are stationary.
    """
    states = len(chain)
    if not torch.allclose(chain.sum(-1), torch.ones_like(chain[0])):
        raise ValueError(
            "stationary_distribution: rows must sum to 1; a chain that ends has no stationary distribution"
        )
    if len(recurrent_classes(chain)) > 1:
        raise ValueError("stationary_distribution: the chain has several recurrent classes, so it is not unique")
    identity = torch.eye(states, dtype=chain.dtype, device=chain.device)
    system = torch.cat([chain.mT - identity, chain.new_ones(1, states)])
    right = torch.cat([chain.new_zeros(states), chain.new_ones(1)])
    return torch.linalg.lstsq(system, right.unsqueeze(-1)).solution.squeeze(-1).clamp(min=0)


def reachable(chain: Float[Tensor, "S S"]) -> Bool[Tensor, "S S"]:
    """Whether s' can be reached from s in any number of steps, 0 included."""
    reach = (chain > 0) | torch.eye(len(chain), dtype=torch.bool, device=chain.device)
    while True:
        further = (reach.double() @ reach.double()) > 0  # paths of twice the length
        if torch.equal(further, reach):
            return reach
        reach = further


def recurrent_classes(chain: Float[Tensor, "S S"]) -> list[list[int]]:
    """Sets of states that reach each other and nothing else: where the chain ends up."""
    reach = reachable(chain)
    mutual = reach & reach.mT
    closed = (reach == mutual).all(-1)  # all that is reached leads back
    found: list[list[int]] = []
    for state in closed.nonzero().flatten().tolist():
        members = mutual[state].nonzero().flatten().tolist()
        if members[0] == state:
            found.append(members)
    return found


def is_irreducible(chain: Float[Tensor, "S S"]) -> bool:
    """Whether every state leads to every other."""
    return bool(reachable(chain).all())


def period(chain: Float[Tensor, "S S"], state: int = 0) -> int:
    """Greatest common divisor of the lengths of all ways from ``state`` back to it; 0 where there is none.

    By breadth-first levels: every step u → v inside the class adds level(u) + 1 − level(v).
    """
    reach = reachable(chain)
    members = set((reach[state] & reach[:, state]).nonzero().flatten().tolist())
    edges = {u: [v for v in (chain[u] > 0).nonzero().flatten().tolist() if v in members] for u in members}
    level, frontier, found = {state: 0}, [state], 0
    while frontier:
        following = []
        for u in frontier:
            for v in edges[u]:
                if v not in level:
                    level[v] = level[u] + 1
                    following.append(v)
                found = gcd(found, level[u] + 1 - level[v])
        frontier = following
    return found


def is_ergodic(chain: Float[Tensor, "S S"]) -> bool:
    """Irreducible and aperiodic: any start converges to the one stationary distribution."""
    return is_irreducible(chain) and period(chain) == 1
