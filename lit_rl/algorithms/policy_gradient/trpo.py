"""Trust-region policy optimisation (TRPO).

Paper    Schulman et al. 2015, section 6 and appendix C.       Formula sheet: 8.2c, 8.2b, 8.0.1b, G1
Update   A    = GAE(λ), standardised over the rollout                                            (1)
         g    = ∇ mean ρ A,   ρ = π(a|s; θ)/π(a|s; θ_old), at θ = θ_old                          (2)
         x    ≈ (F + damping)⁻¹ g by conjugate gradients                                         (3)
         Δ    = √(2δ / xᵀFx) x                                                                   (4)
         θ   ← θ_old + 0.8ʲ Δ with the first j < ``backtracks`` at which the surrogate gains,
               mean (ρ − 1) A > 0, and mean KL(θ_old‖θ) ≤ δ; θ_old where there is none           (5)
         L(φ) = ½ mean (V(s; φ) − G)²,   G = A + V(s; φ_old), for some epochs                    (6)
Data     Rollouts: T steps of N environments; the policy steps once on all of them, then the critic fits.
Differs  GAE where the paper samples returns (single path). F by products that need no second derivative of the KL.
         An update of the counters is one step of the policy or one minibatch of the critic.
"""

from collections.abc import Iterator

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
from lit_rl.functional.natural_gradient import kl_sized
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, StochasticPolicy

SHRINK = 0.8  # of the step at each backtrack


def line_search(step: PolicyStep, full: Float[Tensor, " P"], limit: float, backtracks: int) -> tuple[float, float, int]:
    """(5): move the policy to the first shortened step that gains within the limit, or leave it where it was.

    Returns:
        Gain of the surrogate, KL, and j; (0, 0, ``backtracks``) where no step was taken.
    """
    for j in range(backtracks):
        gain, kl = step.try_step(SHRINK**j * full)
        if gain > 0 and kl <= limit:
            return gain, kl, j
    step.move(step.start)
    return 0.0, 0.0, backtracks


class TRPO(Agent):
    """One natural-gradient step per rollout, shortened until the policy gains without moving too far.

    Args:
        env: environment recipe, or its id.
        data: rollouts; their size is T · N.
        net: policy and critic, with bodies of their own.
        optimizer: how the critic moves.
        gamma: discount per step.
        lam: λ of the advantage estimator.
        max_kl: δ, mean divergence in nats that a step may reach.
        fisher: how (3) is solved.
        backtracks: shortenings tried in (5), from none.
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
        max_kl: float = 0.01,
        fisher: Fisher = Fisher(),
        backtracks: int = 10,
        critic: CriticFit = CriticFit(),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(max_kl > 0, "max_kl", max_kl, "a divergence that may be reached is positive")
        self.require(backtracks >= 1, "backtracks", backtracks, "at least the full step is tried")
        self.lam, self.max_kl, self.fisher, self.backtracks, self.critic = lam, max_kl, fisher, backtracks, critic
        self.networks = build_apart(net, self)
        self.policy = self.networks.policy

    def minibatches(self, data: Rollout) -> Iterator[PolicyBatch | ValueBatch]:
        """(1), all rows for the policy, then minibatches for the critic."""
        self.networks.update_statistics(data.obs)
        now = self.networks.evaluate(data)
        advantage, target = advantages_and_targets(self, data, now)
        yield from policy_then_critic(all_rows(data, now, advantage, target), self.critic)

    def update(self, minibatch: PolicyBatch | ValueBatch) -> None:
        """(2)-(5) for the policy; one step down (6) for the critic."""
        if isinstance(minibatch, ValueBatch):
            super().update(minibatch)
            return
        with torch.autocast(self.device.type, enabled=False):  # the step is too small for 16 bits
            step = PolicyStep(self.policy, minibatch, self.fisher.stride)  # (2)
            product = step.fisher()
            x = damped_inverse(product, step.gradient, self.fisher)  # (3)
            full = kl_sized(x, product(x), self.max_kl)  # (4)
            gain, kl, shortened = line_search(step, full, self.max_kl, self.backtracks)  # (5)
        self.policy.count(updates=1)
        self.record(surrogate_gain=gain, kl=kl, backtracks=shortened, policy_step=float(shortened < self.backtracks))
        self.record(entropy=step.entropy, policy_grad_norm=step.gradient.norm())

    def loss(self, batch: ValueBatch) -> dict[str, Tensor]:
        """(6)."""
        return {"value_loss": value_loss(self.networks.value(batch.obs).float(), batch.target).mean()}

    def manual_backward(self, loss: Tensor) -> None:  # type: ignore[override]
        """See :func:`backward_of_critic`."""
        backward_of_critic(self.networks, loss)
