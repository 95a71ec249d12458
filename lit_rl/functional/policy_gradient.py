"""Weights and baselines of the likelihood-ratio gradient, over whole episodes side by side: pure, without gradient.

Episodes stand in columns [T, M], one per episode, padded behind its end; ``mask`` [T, M] says which steps were taken,
and rewards are 0 where it is False. Every estimator here is a weight w of the pseudo-loss (formula sheet 4.2.1a)

    L = −1/M Σ_i Σ_t log π(a_{i,t}|s_{i,t}) w_{i,t},    ∇L = −1/M Σ_i Σ_t w_{i,t} ∇ log π                        (1)

and a baseline b takes w − b for w. What keeps the expectation of (1): any b that does not depend on the action that
it stands beside. Means over the *same* batch do depend on it; leave-one-out means do not.

Means are taken of differences to the largest weight: where all are equal, w − b is then 0 to the last bit, and
:func:`standardize` finds no rounding errors to blow up.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.functional.returns import linear_recursion


def pseudo_loss(log_prob: Float[Tensor, "*batch"], weight: Float[Tensor, "*batch"], episodes: int) -> Float[Tensor, ""]:
    """(1): −1/M Σ log π sg[w], over the steps that were taken. Formula sheet: 4.2.1a."""
    return -(log_prob * weight.detach()).sum() / episodes


@torch.no_grad()
def reward_to_go(reward: Float[Tensor, "T M"], gamma: float) -> Float[Tensor, "T M"]:
    """G_t = Σ_{k≥t} γ^{k−t} r_k. Formula sheet: 4.1a, 5.3a."""
    return linear_recursion(reward, torch.full_like(reward, gamma))


@torch.no_grad()
def whole_return(reward: Float[Tensor, "T M"], gamma: float) -> Float[Tensor, "T M"]:
    """Σ_k γᵏ r_k of the episode, at each of its steps. Formula sheet: 4.0b, 5.26 of 5.3b."""
    return (elapsed_discount(reward, gamma) * reward).sum(0, keepdim=True).expand_as(reward)


def elapsed_discount(reward: Float[Tensor, "T M"], gamma: float) -> Float[Tensor, "T M"]:
    """γᵗ, t from 0 at each episode's start. Formula sheet: 5.3b."""
    steps = torch.arange(len(reward), device=reward.device, dtype=reward.dtype)
    return (gamma**steps).unsqueeze(-1).expand_as(reward)


@torch.no_grad()
def mean_baseline(weight: Float[Tensor, "T M"], mask: Bool[Tensor, "T M"]) -> Float[Tensor, "T M"]:
    """One constant: the mean over all steps that were taken. Formula sheet: 4.1.1a.

    Of whole returns in the same batch of M episodes of equal length: E[g] = (M − 1)/M ∇J.
    """
    most = weight[mask].max()
    return (most + ((weight - most) * mask).sum() / mask.sum()).expand_as(weight)


@torch.no_grad()
def leave_one_out_baseline(weight: Float[Tensor, "T M"], mask: Bool[Tensor, "T M"]) -> Float[Tensor, "T M"]:
    """The mean over all steps of the *other* episodes, 0 where there is no other. Formula sheet: 4.1.1a.

    Keeps the expectation exactly: episodes are independent.
    """
    most = weight[mask].max()
    total, count = ((weight - most) * mask).sum(0), mask.sum(0)
    others = count.sum() - count
    return ((most + (total.sum() - total) / others.clamp(min=1)) * (others > 0)).expand_as(weight)


@torch.no_grad()
def per_time_baseline(weight: Float[Tensor, "T M"], mask: Bool[Tensor, "T M"]) -> Float[Tensor, "T M"]:
    """The mean at time t over the *other* episodes that are still alive then, 0 where there is none.

    b_{i,t} = (Σ_j w_{j,t} − w_{i,t})/(n_t − 1). Formula sheet: 5.0a.
    """
    most = weight.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    below = (weight - most).where(mask, 0.0)
    others = mask.sum(1, keepdim=True) - mask.int()
    return ((most + (below.sum(1, keepdim=True) - below) / others.clamp(min=1)) * (others > 0)).where(mask, 0.0)


@torch.no_grad()
def optimal_baseline(
    gradient: Float[Tensor, "M P"], score: Float[Tensor, "M P"], leave_one_out: bool = True
) -> Float[Tensor, "M P"]:
    """The constant baseline of least variance, one per parameter k: b_k = E[u_k v_k]/E[v_k²].

    The gradient estimate is then mean_i (u_{i,k} − b_{i,k} v_{i,k}). Where no episode touched a parameter, b = 0.
    Source: Greensmith, Bartlett and Baxter 2004. Formula sheet: 4.1.1b.

    Args:
        gradient: u_i = Σ_t w_{i,t} ∇ log π of each episode.
        score: v_i = Σ_t ∇ log π of each episode.
        leave_one_out: the moments of episode i's baseline are over the others, which keeps the expectation.
    """
    product, square = gradient * score, score.square()
    above, below = product.sum(0, keepdim=True), square.sum(0, keepdim=True)
    if leave_one_out:
        above, below = above - product, below - square
    touched = below > 1e-9 * square.sum(0, keepdim=True)  # what is left of a difference that should be 0 is rounding
    return torch.where(touched, above / below, 0.0).expand_as(gradient)


@torch.no_grad()
def gradient_variance(gradient: Float[Tensor, "M P"]) -> Float[Tensor, ""]:
    """Trace of the covariance of the mean of M gradients, one per episode: Σ_k Var(g_k)/M.

    Of baselines from the same batch the gradients are not quite independent, and it is an approximation.
    Formula sheet: 4.1.1b. NaN for a single episode.
    """
    return gradient.var(0).sum() / len(gradient)


def standardize(weight: Float[Tensor, "T M"], mask: Bool[Tensor, "T M"]) -> Float[Tensor, "T M"]:
    """Zero mean and unit deviation over the steps that were taken; 0 where all are equal.

    A change of scale and a same-batch baseline at once, which breaks exact unbiasedness. Formula sheet: 4.0b.
    """
    rows = weight[mask]
    return (weight - rows.mean()) / (rows.std(correction=0) + 1e-8) * mask


def per_episode_gradients(terms: Float[Tensor, " M"], parameters: list[Tensor]) -> Float[Tensor, "M P"]:
    """∇ of each of M scalars by all parameters side by side; 0 where one does not depend on them.

    One batched backward pass; the graph is kept. Formula sheet: 4.1.1b.
    """
    each = torch.eye(len(terms), dtype=terms.dtype, device=terms.device)
    found = torch.autograd.grad(terms, parameters, each, retain_graph=True, allow_unused=True, is_grads_batched=True)
    columns = [
        each.new_zeros(len(terms), parameter.numel()) if gradient is None else gradient.flatten(1)
        for gradient, parameter in zip(found, parameters, strict=True)
    ]
    return torch.cat(columns, dim=1)


def ascent_loss(parameters: list[Tensor], direction: Float[Tensor, " P"]) -> Float[Tensor, ""]:
    """−θ·sg[g], whose gradient is −g: descends along a direction that is the gradient of no simpler loss.

    Its value means nothing. Formula sheet: 4.1.1b, 5.6.1b.
    """
    return -(torch.cat([parameter.flatten() for parameter in parameters]) @ direction.detach())
