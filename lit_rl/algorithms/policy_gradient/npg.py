"""Natural policy gradient (NPG).

Paper    Kakade 2001; Peters and Schaal 2008.       Formula sheet: 8.2a, 8.2b, 4.3a, 4.3b, G1
Update   A   = GAE(λ), standardised over the rollout                                             (1)
         g   = mean A ∇log π(a|s; θ)                                                             (2)
         d   = (F + damping)⁻¹ g by conjugate gradients, where F is                              (3)
               fisher      E_s E_{a∼π} ∇log π ∇log πᵀ, in closed form over the actions
               compatible  mean ∇log π(a|s) ∇log π(a|s)ᵀ over the actions taken: d is then the
                           weights of the regression of A on the compatible features ∇log π
               euclidean   the identity, without damping: d = g
         θ ← θ + α d,  α given, or α = √(2ε / dᵀFd), so that KL(θ‖θ + αd) ≈ ε;
                       for the Euclidean direction α = √(ε / dᵀd), so that ‖αd‖² = ε             (4)
         L(φ) = ½ mean (V(s; φ) − G)²,   G = A + V(s; φ_old), for some epochs                    (5)
Data     Rollouts: T steps of N environments; the policy steps once on all of them, then the critic fits.
Differs  GAE for the papers' value functions. No line search: that is TRPO. An update of the counters is one step of
         the policy or one minibatch of the critic.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.algorithms.policy_gradient.minibatches import advantages_and_targets, all_rows
from lit_rl.algorithms.policy_gradient.trust_region import (
    CriticFit,
    Fisher,
    PolicyBatch,
    PolicyStep,
    ValueBatch,
    backward_of_critic,
    build_apart,
    damped_inverse,
    policy_then_critic,
    value_loss,
)
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.natural_gradient import kl_sized, norm_sized
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy
from lit_rl.schedules import Scheduled, as_schedule

Direction = Literal["fisher", "compatible", "euclidean"]


def step_along(
    step: PolicyStep, direction: Direction, fisher: Fisher, trust_region: float | None, rate: float
) -> Float[Tensor, " P"]:
    """(3)-(4): α d. With a ``trust_region`` ε the ``rate`` counts for nothing."""
    if direction == "euclidean":
        return rate * step.gradient if trust_region is None else norm_sized(step.gradient, trust_region)
    product = step.fisher() if direction == "fisher" else step.sampled_fisher()
    d = damped_inverse(product, step.gradient, fisher)
    return rate * d if trust_region is None else kl_sized(d, product(d), trust_region)


class NPG(Agent):
    """One step per rollout along the policy gradient, in the metric of the policy's distributions.

    Args:
        env: environment recipe, or its id.
        data: rollouts; their size is T · N.
        net: policy and critic, with bodies of their own.
        optimizer: how the critic moves.
        gamma: discount per step.
        lam: λ of the advantage estimator.
        direction: d, as in (3).
        trust_region: ε in (4); null steps by ``rate`` instead.
        rate: α where there is no trust region; may be scheduled over env steps.
        fisher: how (3) is solved.
        critic: how it is fitted to each rollout.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=1024),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=1e-3),
        gamma: float = 0.99,
        lam: float = 0.95,
        direction: Direction = "fisher",
        trust_region: float | None = 0.01,
        rate: Scheduled = 0.05,
        fisher: Fisher = Fisher(),
        critic: CriticFit = CriticFit(),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(
            direction in get_args(Direction), "direction", direction, f"one of {', '.join(get_args(Direction))}"
        )
        self.require(
            trust_region is None or trust_region > 0, "trust_region", trust_region, "positive, or null for none"
        )
        self.lam, self.direction, self.trust_region, self.rate = lam, direction, trust_region, as_schedule(rate)
        self.require(self.rate(0) > 0, "rate", rate, "a step along the gradient is positive")
        self.fisher, self.critic = fisher, critic
        self.networks = build_apart(net, self)
        self.policy = self.networks.policy

    def minibatches(self, data: Rollout) -> Iterator[PolicyBatch | ValueBatch]:
        """(1), all rows for the policy, then minibatches for the critic."""
        self.networks.update_statistics(data.obs)
        now = self.networks.evaluate(data)
        advantage, target = advantages_and_targets(self, data, now)
        yield from policy_then_critic(all_rows(data, now, advantage, target), self.critic)

    def update(self, minibatch: PolicyBatch | ValueBatch) -> None:
        """(2)-(4) for the policy; one step down (5) for the critic."""
        if isinstance(minibatch, ValueBatch):
            super().update(minibatch)
            return
        with torch.autocast(self.device.type, enabled=False):  # the step is too small for 16 bits
            step = PolicyStep(self.policy, minibatch, self.fisher.stride)  # (2)
            rate = self.rate(self.env_steps)
            gain, kl = step.try_step(step_along(step, self.direction, self.fisher, self.trust_region, rate))  # (3)-(4)
        self.policy.count(updates=1)
        self.record(surrogate_gain=gain, kl=kl, entropy=step.entropy, policy_grad_norm=step.gradient.norm())

    def loss(self, batch: ValueBatch) -> dict[str, Tensor]:
        """(5)."""
        return {"value_loss": value_loss(self.networks.value(batch.obs).float(), batch.target).mean()}

    def manual_backward(self, loss: Tensor) -> None:  # type: ignore[override]
        """See :func:`backward_of_critic`."""
        backward_of_critic(self.networks, loss)
