"""Control as inference on a finite world: messages, posteriors, soft values. Formula sheet: 15.1a–15.5a.

Optimality is p(O_t = 1|s, a) = exp(r(s, a)/α). Without a prior over actions the sum over actions is plain (the
count of actions then enters every value as α log A per step); with one, it is the expectation under it:

    V(s) = α log Σ_a p(a|s) exp(Q(s, a)/α)                                                  (1)
    Q(s, a) = r + α log E_s' exp(V(s')/α)      conditioning on O: the dynamics turn optimistic    (2)
    Q(s, a) = r + γ E_s' V(s')                 variational, true dynamics: no optimism            (3)

What a kernel lacks to 1 ends the episode with V = 0, for ever optimal. Temperature 0 in (1) and (3) is the maximum.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.planning.dynamic_programming import Solution
from lit_rl.planning.evaluation import HorizonValues, action_value, greedy
from lit_rl.planning.model import Model, Successors, flow


def uniform_prior(model: Model) -> Float[Tensor, "*batch S A"]:
    """p(a|s) = 1/A."""
    return torch.full_like(model.reward, 1.0 / model.reward.shape[-1])


def soft_maximum(q: Float[Tensor, "..."], temperature: float, prior: Tensor | None = None) -> Tensor:
    """(1): α log Σ_a p(a|s) exp(Q/α) over the last axis, the maximum at α = 0.

    Raises:
        ValueError: the temperature is negative.
    """
    if temperature < 0:
        raise ValueError(f"soft_maximum: temperature is {temperature}; it is 0 or positive")
    if temperature == 0:
        return (q if prior is None else q.masked_fill(prior == 0, -torch.inf)).amax(-1)
    scaled = q / temperature if prior is None else q / temperature + prior.log()
    return temperature * scaled.logsumexp(-1)


def posterior_policy(q: Tensor, temperature: float, prior: Tensor | None = None) -> Tensor:
    """π(a|s) = p(a|s) exp((Q(s, a) − V(s))/α); greedy at α = 0."""
    if temperature == 0:
        return greedy(q if prior is None else q.masked_fill(prior == 0, -torch.inf))
    scaled = q / temperature if prior is None else q / temperature + prior.log()
    return scaled.softmax(-1)


def backward_messages(
    model: Model, horizon: int, temperature: float = 1.0, prior: Float[Tensor, "S A"] | None = None
) -> HorizonValues:
    """V_t = α log p(O_{t:T}|s_t) and Q_t = α log p(O_{t:T}|s_t, a_t) by (1)-(2), undiscounted. V_T = 0.

    Without a prior these are unnormalised by α log A per step. log p(O) = log Σ_s p₀(s) exp(V_0(s)/α).

    Raises:
        ValueError: sparse transitions, or a temperature of 0.
    """
    log_kernel, log_end = _log_kernel(model, temperature)
    values, qs = [torch.zeros_like(model.reward[..., 0])], []
    for _ in range(horizon):
        inner = torch.logsumexp(log_kernel + values[-1][None, None] / temperature, -1)
        qs.append(model.reward + temperature * torch.logaddexp(inner, log_end))  # (2)
        values.append(soft_maximum(qs[-1], temperature, prior))
    return HorizonValues(torch.stack(values[::-1]), torch.stack(qs[::-1]))


def log_evidence(model: Model, messages: HorizonValues, temperature: float = 1.0) -> Float[Tensor, ""]:
    """log p(O_{0:T}) = log Σ_s p₀(s) exp(V_0(s)/α)."""
    return torch.logsumexp(model.initial.log() + messages.value[0] / temperature, -1)


def forward_messages(
    model: Model, horizon: int, temperature: float = 1.0, prior: Float[Tensor, "S A"] | None = None
) -> Float[Tensor, "T S"]:
    """log α_t(s) = log p(s_t = s, O_{0:t−1}), up to a constant per step; −∞ where s cannot be.

    α_0 = p₀,  α_{t+1}(s') ∝ Σ_{s,a} p(s'|s, a) p(a|s) exp(r(s, a)/α) α_t(s)
    """
    log_kernel, _ = _log_kernel(model, temperature)
    step = model.reward / temperature + (0.0 if prior is None else prior.log())
    message = model.initial.log()
    rows = []
    for _ in range(horizon):
        rows.append(message - message.logsumexp(-1))
        message = torch.logsumexp((rows[-1][:, None, None] + step[..., None] + log_kernel).flatten(0, 1), 0)
    return torch.stack(rows)


def pair_posterior(
    model: Model, horizon: int, temperature: float = 1.0, prior: Float[Tensor, "S A"] | None = None
) -> Float[Tensor, "T S A"]:
    """p(s_t, a_t|O_{0:T}) ∝ α_t(s) p(a|s) exp(Q_t(s, a)/α), normalised over (s, a) for each t.

    Its states follow biased dynamics: where transitions or the start are random, the policy in the true world
    goes elsewhere. Summed over actions it is the state posterior. Needs a world in which no episode ends.

    Raises:
        ValueError: episodes end in this world.
    """
    if not isinstance(model.transition, Successors) and not torch.allclose(
        model.transition.sum(-1), torch.ones_like(model.reward)
    ):
        raise ValueError("pair_posterior: an episode that ends leaves its steps without a state; use absorbing states")
    q = backward_messages(model, horizon, temperature, prior).q
    joint = forward_messages(model, horizon, temperature, prior)[..., None] + q / temperature
    joint = joint if prior is None else joint + prior.log()
    return joint.flatten(1).softmax(-1).view_as(q)


def soft_backup(
    model: Model, value: Float[Tensor, "*batch S"], gamma: float, temperature: float, prior: Tensor | None = None
) -> tuple[Float[Tensor, "*batch S A"], Float[Tensor, "*batch S"]]:
    """(Q, V) by (3) and (1): a γ-contraction in the maximum norm."""
    q = action_value(model, value, gamma)
    return q, soft_maximum(q, temperature, prior)


def soft_value_iteration(
    model: Model, gamma: float, temperature: float, prior: Tensor | None = None, tolerance: float = 1e-10
) -> Solution:
    """The fixed point of (3) and (1), to ‖Q − Q*‖∞ ≤ ``tolerance``, with its policy exp((Q − V)/α).

    Raises:
        ValueError: γ ≥ 1, where the sweeps contract nothing.
    """
    if gamma >= 1:
        raise ValueError(f"soft_value_iteration: gamma is {gamma}; it needs gamma < 1, or soft_horizon_values")
    value, sweeps = torch.zeros_like(model.reward[..., 0]), 0
    while True:
        previous = value
        q, value = soft_backup(model, value, gamma, temperature, prior)
        sweeps += 1
        if gamma * float((value - previous).abs().max()) <= tolerance * (1.0 - gamma):
            return Solution(q, value, posterior_policy(q, temperature, prior), sweeps)


def soft_horizon_values(
    model: Model, horizon: int, temperature: float, prior: Tensor | None = None, gamma: float = 1.0
) -> HorizonValues:
    """V_t and Q_t by (3) and (1), V_T = 0: the variational counterpart of :func:`backward_messages`."""
    values, qs = [torch.zeros_like(model.reward[..., 0])], []
    for _ in range(horizon):
        q, value = soft_backup(model, values[-1], gamma, temperature, prior)
        qs.append(q)
        values.append(value)
    return HorizonValues(torch.stack(values[::-1]), torch.stack(qs[::-1]))


def evidence_bound(
    model: Model,
    policies: Float[Tensor, "T S A"],
    temperature: float,
    prior: Float[Tensor, "S A"] | None = None,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    """E_q Σ_t γᵗ [r + α H(π_t(·|s_t)) + α E log p(a|s_t)] in the true dynamics; without a prior no last term.

    Undiscounted it is at most α log p(O); :func:`soft_horizon_values` gives the policy that maximises it, and its
    value p₀ᵀV_0.
    """
    marginal, total = model.initial, model.reward.new_zeros(())
    for t, policy in enumerate(policies):
        free = -torch.xlogy(policy, policy)
        if prior is not None:
            free = free + torch.xlogy(policy, prior)
        pairs = marginal.unsqueeze(-1) * policy
        total = total + gamma**t * ((pairs * model.reward).sum() + temperature * (marginal @ free.sum(-1)))
        marginal = flow(model.transition, pairs)
    return total


def _log_kernel(model: Model, temperature: float) -> tuple[Tensor, Tensor]:
    """log p(s'|s, a), and the log-probability of the episode's end."""
    if isinstance(model.transition, Successors):
        raise ValueError("messages need a full table of transitions: FiniteMDP.as_dense().model()")
    if not temperature > 0:
        raise ValueError(f"messages need a positive temperature, not {temperature}")
    missing = (1.0 - model.transition.sum(-1)).clamp(min=0.0)
    return model.transition.log(), torch.where(missing > 1e-12, missing, torch.zeros_like(missing)).log()
