"""Distributions over actions as pure functions of their parameters: no objects, reduced over action axes first.

``*batch`` is any leading shape, [B] or [T, N]. KL(p‖q) = E_p[log p − log q] ≥ 0. Formula sheet: 0.3, 0.4.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

LOG_2 = math.log(2.0)
LOG_2PI = math.log(2.0 * math.pi)


class SquashedSample(NamedTuple):
    """A reparameterised draw: gradients flow into mean and log_std."""

    action: Tensor  # [*batch, A], scale · tanh(u) + bias
    unsquashed: Tensor  # [*batch, A], u; keep it, atanh(action) loses digits
    log_prob: Tensor  # [*batch], of the action


# --- one of A -------------------------------------------------------------------------------------------------


def masked_logits(
    logits: Float[Tensor, "*batch A"], mask: Bool[Tensor, "*batch A"] | None
) -> Float[Tensor, "*batch A"]:
    """Give illegal actions (False) the lowest finite logit.

    Their probability is exactly 0 and they get no gradient; as −∞ it would make 0 · log 0 = NaN in entropies.
    """
    return logits if mask is None else torch.where(mask, logits, torch.finfo(logits.dtype).min)


def categorical_log_prob(
    logits: Float[Tensor, "*batch A"], action: Int[Tensor, "*batch"], mask: Bool[Tensor, "*batch A"] | None = None
) -> Float[Tensor, "*batch"]:
    """log π(a) of one action per row; a huge negative number for an illegal one."""
    log_prob = masked_logits(logits, mask).log_softmax(-1)
    return log_prob.gather(-1, action.long().unsqueeze(-1)).squeeze(-1)


def categorical_entropy(
    logits: Float[Tensor, "*batch A"], mask: Bool[Tensor, "*batch A"] | None = None
) -> Float[Tensor, "*batch"]:
    """−Σ_a π(a) log π(a), over the legal actions."""
    log_prob = masked_logits(logits, mask).log_softmax(-1)
    return -(log_prob.exp() * log_prob).sum(-1)


def categorical_kl(
    logits_p: Float[Tensor, "*batch A"],
    logits_q: Float[Tensor, "*batch A"],
    mask: Bool[Tensor, "*batch A"] | None = None,
) -> Float[Tensor, "*batch"]:
    """KL(p‖q) of two policies with the same legal actions."""
    log_p, log_q = masked_logits(logits_p, mask).log_softmax(-1), masked_logits(logits_q, mask).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def categorical_mode(
    logits: Float[Tensor, "*batch A"], mask: Bool[Tensor, "*batch A"] | None = None
) -> Int[Tensor, "*batch"]:
    """The likeliest legal action."""
    return masked_logits(logits, mask).argmax(-1)


# --- several independent choices: logits of block k stand at Σ_{j<k} nvec_j … -----------------------------------


def _blocks(parameters: Tensor | None, nvec: Sequence[int]) -> Sequence[Any]:
    """Split the last axis into one tensor per choice."""
    return [None] * len(nvec) if parameters is None else parameters.split(list(nvec), dim=-1)


def multi_categorical_log_prob(
    logits: Float[Tensor, "*batch D"],
    action: Int[Tensor, "*batch A"],
    nvec: Sequence[int],
    mask: Bool[Tensor, "*batch D"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Σ_k log π_k(a_k), choice k having ``nvec[k]`` options and D = Σ nvec."""
    rows = zip(_blocks(logits, nvec), action.unbind(-1), _blocks(mask, nvec), strict=True)
    return torch.stack([categorical_log_prob(*row) for row in rows]).sum(0)


def multi_categorical_entropy(
    logits: Float[Tensor, "*batch D"], nvec: Sequence[int], mask: Bool[Tensor, "*batch D"] | None = None
) -> Float[Tensor, "*batch"]:
    """Σ_k H(π_k)."""
    rows = zip(_blocks(logits, nvec), _blocks(mask, nvec), strict=True)
    return torch.stack([categorical_entropy(*row) for row in rows]).sum(0)


def multi_categorical_kl(
    logits_p: Float[Tensor, "*batch D"],
    logits_q: Float[Tensor, "*batch D"],
    nvec: Sequence[int],
    mask: Bool[Tensor, "*batch D"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Σ_k KL(p_k‖q_k)."""
    rows = zip(_blocks(logits_p, nvec), _blocks(logits_q, nvec), _blocks(mask, nvec), strict=True)
    return torch.stack([categorical_kl(*row) for row in rows]).sum(0)


def multi_categorical_mode(
    logits: Float[Tensor, "*batch D"], nvec: Sequence[int], mask: Bool[Tensor, "*batch D"] | None = None
) -> Int[Tensor, "*batch A"]:
    """The likeliest legal option of every choice."""
    rows = zip(_blocks(logits, nvec), _blocks(mask, nvec), strict=True)
    return torch.stack([categorical_mode(*row) for row in rows], dim=-1)


# --- A independent bits ---------------------------------------------------------------------------------------


def bernoulli_log_prob(
    logits: Float[Tensor, "*batch A"], action: Shaped[Tensor, "*batch A"]
) -> Float[Tensor, "*batch"]:
    """Σ_k log π_k(a_k) of bits 0 or 1 in any dtype: log σ(l) for a 1, log σ(−l) for a 0."""
    return logsigmoid(logits * (2 * action.to(logits.dtype) - 1)).sum(-1)


def bernoulli_entropy(logits: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
    """Σ_k softplus(l_k) − l_k σ(l_k)."""
    return (softplus(logits) - logits * logits.sigmoid()).sum(-1)


def bernoulli_kl(logits_p: Float[Tensor, "*batch A"], logits_q: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
    """Σ_k σ(p_k)(p_k − q_k) + softplus(q_k) − softplus(p_k)."""
    return (logits_p.sigmoid() * (logits_p - logits_q) + softplus(logits_q) - softplus(logits_p)).sum(-1)


def bernoulli_mode(logits: Float[Tensor, "*batch A"]) -> Int[Tensor, "*batch A"]:
    """1 where likelier than 0."""
    return (logits > 0).long()


# --- diagonal Gaussian; log_std may be shared by all rows, [A] ------------------------------------------------


def gaussian_log_prob(
    mean: Float[Tensor, "*batch A"], log_std: Float[Tensor, "*#batch A"], action: Float[Tensor, "*batch A"]
) -> Float[Tensor, "*batch"]:
    """Σ_k log N(a_k; μ_k, σ_k²)."""
    return -(((action - mean) * (-log_std).exp()) ** 2 / 2 + log_std + LOG_2PI / 2).sum(-1)


def gaussian_entropy(mean: Float[Tensor, "*batch A"], log_std: Float[Tensor, "*#batch A"]) -> Float[Tensor, "*batch"]:
    """Σ_k log σ_k + (1 + log 2π)/2; ``mean`` gives the shape only."""
    return (log_std + (1.0 + LOG_2PI) / 2).expand_as(mean).sum(-1)


def gaussian_kl(
    mean_p: Float[Tensor, "*batch A"],
    log_std_p: Float[Tensor, "*#batch A"],
    mean_q: Float[Tensor, "*batch A"],
    log_std_q: Float[Tensor, "*#batch A"],
) -> Float[Tensor, "*batch"]:
    """Σ_k log(σ_q/σ_p) + [σ_p² + (μ_p − μ_q)²] / 2σ_q² − ½; also KL of the two squashed by one map."""
    ratio, shift = (log_std_p - log_std_q).exp(), (mean_p - mean_q) * (-log_std_q).exp()
    return (log_std_q - log_std_p + (ratio**2 + shift**2 - 1.0) / 2).sum(-1)


# --- tanh-squashed Gaussian: a = scale · tanh(u) + bias, u ~ N(μ, σ²); no entropy in closed form --------------


def squash(
    unsquashed: Float[Tensor, "*batch A"], scale: Float[Tensor, " A"], bias: Float[Tensor, " A"]
) -> Float[Tensor, "*batch A"]:
    """Scale · tanh(u) + bias: (low, high) is bias ∓ scale. Of the mean, it is the greedy action."""
    return scale * unsquashed.tanh() + bias


def _log_squash_slope(unsquashed: Tensor, scale: Tensor) -> Tensor:
    """log |da/du| = log(scale) + log(1 − tanh²u), the second in its stable form 2(log 2 − u − softplus(−2u))."""
    return scale.log() + 2.0 * (LOG_2 - unsquashed - softplus(-2.0 * unsquashed))


def squashed_gaussian_log_prob(
    mean: Float[Tensor, "*batch A"],
    log_std: Float[Tensor, "*#batch A"],
    unsquashed: Float[Tensor, "*batch A"],
    scale: Float[Tensor, " A"],
) -> Float[Tensor, "*batch"]:
    """Log-density of the action that ``unsquashed`` maps to; the bias has no part in it. Formula sheet: 0.4."""
    return gaussian_log_prob(mean, log_std, unsquashed) - _log_squash_slope(unsquashed, scale).sum(-1)


def squashed_gaussian_sample(
    mean: Float[Tensor, "*batch A"],
    log_std: Float[Tensor, "*#batch A"],
    noise: Float[Tensor, "*batch A"],
    scale: Float[Tensor, " A"],
    bias: Float[Tensor, " A"],
) -> SquashedSample:
    """The action for standard normal ``noise``, u = μ + σ · noise. Source: Haarnoja et al. 2018, app. C."""
    unsquashed = mean + log_std.exp() * noise
    log_density = -(noise**2 / 2 + log_std + LOG_2PI / 2)  # (u − μ)/σ is the noise itself
    log_prob = (log_density - _log_squash_slope(unsquashed, scale)).sum(-1)
    return SquashedSample(squash(unsquashed, scale, bias), unsquashed, log_prob)
