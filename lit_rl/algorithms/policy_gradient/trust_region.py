"""A step of the policy alone, measured by how far its distributions move; what NPG and TRPO are made of.

Every quantity is a mean over the states of all ranks, so that all of them take the same step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.algorithms.policy_gradient.minibatches import Minibatch, standardized
from lit_rl.batch import Observation, map_tensors
from lit_rl.collective import all_mean
from lit_rl.functional.improvement import surrogate_gain
from lit_rl.functional.natural_gradient import Product, conjugate_gradient, flatten, gauss_newton_product
from lit_rl.policies.actor_critic import ActorCritic, ActorCriticNetworks, StochasticPolicy


@dataclass(frozen=True)
class Fisher:
    """How the Fisher matrix is inverted.

    Args:
        iterations: of conjugate gradients.
        damping: added to the diagonal; without it few samples or flat directions make steps explode.
        stride: only every so many states enter the matrix, which is cheaper and noisier.
    """

    iterations: int = 15
    damping: float = 0.1
    stride: int = 1

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.stride < 1 or not self.damping >= 0:
            raise ValueError(f"Fisher needs iterations ≥ 1, stride ≥ 1 and damping ≥ 0; got {self}")


@dataclass(frozen=True)
class CriticFit:
    """How the critic is fitted to each rollout, after the policy has moved.

    Args:
        epochs: passes over the rollout.
        minibatch_size: rows per update.
    """

    epochs: int = 10
    minibatch_size: int = 128

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.minibatch_size < 1:
            raise ValueError(f"CriticFit needs epochs ≥ 1 and minibatch_size ≥ 1; got {self}")


class PolicyBatch(NamedTuple):
    """All B rows of a rollout, for the one step of the policy."""

    obs: Observation  # [B, ...]
    action: Tensor  # [B] or [B, A]
    advantage: Tensor  # [B]


class ValueBatch(NamedTuple):
    """B rows for the regression of the critic."""

    obs: Observation  # [B, ...]
    target: Tensor  # [B], G


class PolicyStep:
    """A policy θ over one batch of its states, and what a step Δθ does there.

    Args:
        policy: without a memory; its weights are θ.
        batch: rows that it has collected.
        stride: every so many states enter the Fisher matrix.

    Raises:
        FloatingPointError: the gradient is not finite.
    """

    gradient: Tensor
    """g = ∇ mean ρ A at ρ = 1, the policy gradient [P], with A standardised."""

    def __init__(self, policy: StochasticPolicy, batch: PolicyBatch, stride: int = 1) -> None:
        self.policy, self.obs, self.action = policy, batch.obs, batch.action
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.start = flatten([p.detach() for p in self.parameters])
        self.advantage = standardized(batch.advantage)
        self.every = slice(None, None, stride)
        outputs = policy.outputs(batch.obs)
        self._distribution = policy.distribution(outputs)
        self._log_prob = policy.log_prob(outputs, batch.obs, batch.action)
        surrogate = surrogate_gain(self._log_prob - self._log_prob.detach(), self.advantage)
        gradient = torch.autograd.grad(surrogate, self.parameters, retain_graph=True)
        self.gradient = all_mean(flatten(gradient))
        self.entropy = policy.entropy(outputs, batch.obs).detach().mean()
        if not self.gradient.isfinite().all():
            raise FloatingPointError(
                f"the policy gradient is not finite after {int(policy.version)} updates ({int(policy.env_steps)} env "
                f"steps); the weights are as they were: look at the rewards and the critic"
            )

    def fisher(self) -> Product:
        """v ↦ F v, F = E_s E_{a∼π} ∇log π ∇log πᵀ with the expectation over actions in closed form."""
        outputs = self._distribution[self.every]
        obs = map_tensors(lambda tensor: tensor[self.every], self.obs)
        at = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.policy.kl(at.detach(), at, obs).mean(), at, create_graph=True)

        def curvature(along: Tensor) -> Tensor:
            return torch.autograd.grad(slope, at, along, retain_graph=True)[0]

        product = gauss_newton_product(outputs, self.parameters, curvature)
        return lambda vector: all_mean(product(vector))

    def sampled_fisher(self) -> Product:
        """v ↦ F̂ v with the actions taken: F̂ = mean ∇log π(a|s) ∇log π(a|s)ᵀ.

        F̂⁻¹ g are the weights w of the regression of A on the compatible features ∇log π: Kakade 2001, theorem 1.
        """
        log_prob = self._log_prob[self.every]
        product = gauss_newton_product(log_prob, self.parameters, lambda along: along / len(along))
        return lambda vector: all_mean(product(vector))

    @torch.no_grad()
    def try_step(self, step: Tensor) -> tuple[float, float]:
        """Move the policy to θ + Δθ. Returns what its surrogate gains there, and the mean KL(θ‖θ + Δθ)."""
        self.move(self.start + step)
        outputs = self.policy.outputs(self.obs)
        log_ratio = self.policy.log_prob(outputs, self.obs, self.action) - self._log_prob
        divergence = self.policy.kl(self._distribution, self.policy.distribution(outputs), self.obs).mean()
        gain, kl = all_mean(torch.stack([surrogate_gain(log_ratio, self.advantage), divergence])).tolist()
        return gain, kl

    @torch.no_grad()
    def move(self, to: Tensor) -> None:
        """θ ← ``to`` [P], in place: whoever acts with these weights sees it."""
        pieces = to.split([p.numel() for p in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            parameter.copy_(piece.view_as(parameter))


def damped_inverse(product: Product, vector: Tensor, recipe: Fisher) -> Tensor:
    """(F + damping · I)⁻¹ ``vector``."""
    return conjugate_gradient(lambda v: product(v).add_(v, alpha=recipe.damping), vector, recipe.iterations)


def policy_then_critic(rows: Minibatch, fit: CriticFit) -> Iterator[PolicyBatch | ValueBatch]:
    """All rows for the policy, then shuffled minibatches for the critic."""
    yield PolicyBatch(rows.obs, rows.action, rows.advantage)
    values = ValueBatch(rows.obs, rows.target)
    for _ in range(fit.epochs):
        for index in torch.randperm(len(rows.target), device=rows.target.device).split(fit.minibatch_size):
            yield map_tensors(partial(torch.index_select, dim=0, index=index), values)


def value_loss(value: Float[Tensor, " B"], target: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """½ (V(s) − G)² per sample."""
    return 0.5 * (value - target).square()


def backward_of_critic(networks: ActorCriticNetworks, loss: Tensor) -> None:
    """Gradients of the critic alone, averaged over ranks here: DDP would wait for those of the policy for ever."""
    critic = critic_parameters(networks)
    gradients = torch.autograd.grad(loss, critic)
    mean = all_mean(flatten(gradients))
    for parameter, gradient in zip(critic, mean.split([p.numel() for p in critic]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def critic_parameters(networks: ActorCriticNetworks) -> list[Tensor]:
    """What the regression moves."""
    assert networks.critic_body is not None
    return [*networks.critic_body.parameters(), *networks.value_head.parameters()]


def build_apart(net: ActorCritic, agent: Any) -> ActorCriticNetworks:
    """The two networks for an agent that moves its policy and its critic by different rules.

    Raises:
        ValueError: they share a body, or have a memory.
    """
    networks = net.build(agent.env.observation_space, agent.env.action_space)
    if networks.critic_body is None:
        raise ValueError(
            f"{type(agent).__name__} moves the policy and the critic by different rules, and net lets them share a "
            f"body: set shared to false, and take a body without memory"
        )
    return networks
