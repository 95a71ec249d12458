"""Entropy, information, and how much an action matters, in nats. Formula sheet: 12.5a, 12.5.1a."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.model import Model, Successors


class Capacity(NamedTuple):
    """Of a channel."""

    capacity: Tensor  # [*batch], nats
    input: Tensor  # [*batch, A], the distribution that reaches it
    iterations: int


def entropy(p: Float[Tensor, "*batch X"]) -> Float[Tensor, "*batch"]:
    """H(p) = −Σ p log p."""
    return -torch.xlogy(p, p).sum(-1)


def kl_divergence(p: Float[Tensor, "*batch X"], q: Float[Tensor, "*batch X"]) -> Float[Tensor, "*batch"]:
    """KL(p‖q) = Σ p (log p − log q); infinite where q misses mass of p."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def mutual_information(joint: Float[Tensor, "*batch X Y"]) -> Float[Tensor, "*batch"]:
    """I(x; y) = KL(p(x, y)‖p(x) p(y)) = H(y) − H(y|x)."""
    independent = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    return kl_divergence(joint.flatten(-2), independent.flatten(-2))


def knn_entropy(points: Float[Tensor, "N D"], k: int = 3) -> float:
    """Differential entropy by the k-th nearest neighbours (Kozachenko–Leonenko), for N points without ties.

        H = ψ(N) − ψ(k) + (D/2) log π − log Γ(D/2 + 1) + (D/N) Σ_i log ε_i

    Raises:
        ValueError: fewer than k + 1 points, or ties (a distance of 0).
    """
    count, size = points.shape
    if count <= k:
        raise ValueError(f"knn_entropy: {count} points have no {k}-th neighbour")
    rows = [torch.cdist(part, points).kthvalue(k + 1).values for part in points.split(1024)]  # the nearest is itself
    distance = torch.cat(rows).double()
    if not (distance > 0).all():
        raise ValueError("knn_entropy: points coincide; add noise, or count them instead")
    digamma = torch.digamma(torch.tensor([count, k], dtype=torch.float64))
    ball = 0.5 * size * math.log(math.pi) - math.lgamma(0.5 * size + 1.0)
    return float(digamma[0] - digamma[1] + ball + size * distance.log().mean())


def blahut_arimoto(
    channel: Float[Tensor, "*batch A Y"], tolerance: float = 1e-12, max_iterations: int = 100_000
) -> Capacity:
    """max_ω I(a; y) of p(y|a), by ω(a) ∝ ω(a) exp D(a), D(a) = KL(p(·|a)‖Σ_a ω p).

    Σ ω D ≤ C ≤ max D bound the capacity; it stops where they are ``tolerance`` apart. Blahut 1972, Arimoto 1972.
    """
    weight = channel.new_full(channel.shape[:-1], 1.0 / channel.shape[-2])
    iterations = 0
    while True:
        outcome = (weight.unsqueeze(-1) * channel).sum(-2, keepdim=True)
        divergence = kl_divergence(channel, outcome.expand_as(channel))
        lower = (weight * divergence).sum(-1)
        gap = divergence.amax(-1) - lower
        iterations += 1
        if float(gap.max()) <= tolerance or iterations == max_iterations:
            return Capacity(lower, weight, iterations)
        weight = (weight.log() + divergence).softmax(-1)


def empowerment(model: Model, horizon: int = 1, tolerance: float = 1e-10) -> Capacity:
    """Capacity, for each state [S], from sequences of ``horizon`` actions to the state they lead to.

    An episode that ends counts as one further outcome. Klyubin, Polani & Nehaniv 2005.

    Raises:
        ValueError: sparse transitions.
    """
    if isinstance(model.transition, Successors):
        raise ValueError("empowerment needs a full table of transitions: FiniteMDP.as_dense().model()")
    states = len(model.reward)
    step = model.reward.new_zeros(states + 1, model.reward.shape[-1], states + 1)
    step[:states, :, :states] = model.transition
    step[:, :, states] = (1.0 - step[..., :states].sum(-1)).clamp(min=0.0)
    channel = step[:states]
    for _ in range(horizon - 1):
        channel = torch.einsum("sxu,uat->sxat", channel, step).flatten(1, 2)
    return blahut_arimoto(channel, tolerance)


def state_entropy(occupancy: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch"]:
    """H(d_π) of visits normalised to 1: a measure of coverage, at most log S."""
    return entropy(occupancy / occupancy.sum(-1, keepdim=True))
