"""Asynchronous advantage actor-critic (A3C).

Paper    Mnih et al. 2016, section 4 and Algorithm S3; Espeholt et al. 2018 (V-trace).   Formula sheet: 5.5b, G3, H1
Update   each of several worker processes, none waiting for another:
         θ_w ← θ,  collect T steps with π(·; θ_w)                                                       (1)
         v, A  = V-trace(λ) targets and advantages of those steps under θ_w,
                 with π = μ the λ-returns and v − V; λ = 1: all rewards of the T steps, then V          (2)
         g     = ∇ [−mean A log π(a|s; θ_w) + c_v mean (V(s; θ_w) − v)² − c_H mean H(π(·|s; θ_w))]      (3)
         and θ ← θ + step(g) as soon as g is there, with one optimiser's statistics for all             (4)
Data     Asynchronous: rollouts [T, N / n] of n workers, each with environments of its own.
Differs  The step (4) is made by one process, and θ is read and written as a whole under a lock: the paper's workers
         write without one. Windows are always T steps and go on beyond an episode's end. A worker reads θ once more
         before (2), whose ratios π/μ correct the lag of its steps; ``data.reread: false`` is the paper's, where the
         gradient at the old θ_w moves the new θ. What lag remains is logged and uncorrected.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Rollout, map_tensors
from lit_rl.data.asynchronous import Asynchronous, AsynchronousExperience, Contribution, Work
from lit_rl.data.episodes import Episodes
from lit_rl.envs.recipe import Env
from lit_rl.functional.returns import vtrace
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import STOCHASTIC_SPACES, ActorCritic, ActorCriticNetworks, StochasticPolicy


def actor_critic_loss(
    log_prob: Float[Tensor, "T N"],
    value: Float[Tensor, "T N"],
    advantage: Float[Tensor, "T N"],
    target: Float[Tensor, "T N"],
) -> tuple[Float[Tensor, "T N"], Float[Tensor, "T N"]]:
    """The first two terms of (3) per step, without c_v; no gradient reaches ``advantage`` and ``target``."""
    return -advantage.detach() * log_prob, (value - target.detach()).square()


def linear_loss(parameters: dict[str, Tensor], gradient: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Σ ⟨θ, g⟩: the function whose gradient is ``gradient``, wherever θ is."""
    return torch.stack([(parameters[name] * gradient[name]).sum() for name in gradient]).sum()


class GradientWork(Work):
    """(1)-(3) with copies of the networks."""

    def __init__(
        self, networks: ActorCriticNetworks, gamma: float, lam: float, value_weight: float, entropy_weight: float
    ) -> None:
        self.networks = networks
        self.copy = copy.deepcopy(networks)
        self.policy: StochasticPolicy = self.copy.policy
        self.gamma, self.lam = gamma, lam
        self.value_weight, self.entropy_weight = value_weight, entropy_weight

    def share(self) -> None:
        """See :meth:`Work.share`."""
        self.networks.share_memory()

    @torch.no_grad()
    def read(self) -> None:
        """θ_w ← θ, with statistics and counters."""
        for mine, theirs in zip(self.copy.state_dict().values(), self.networks.state_dict().values(), strict=True):
            mine.copy_(theirs)

    def gradient(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """g of (3), and the terms behind it."""
        terms, scalars = self.terms(rollout)
        named = dict(self.copy.named_parameters())
        gradient = torch.autograd.grad(sum(terms.values()), list(named.values()))  # type: ignore[arg-type]
        return dict(zip(named, gradient, strict=True)), {
            name: tensor.detach() for name, tensor in (terms | scalars).items()
        }

    def terms(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The terms of (3), and diagnostics."""
        steps, envs = rollout.reward.shape
        flat = map_tensors(lambda tensor: tensor.flatten(0, 1), rollout.obs)
        outputs, value = self.copy(flat)
        value = value.view(steps + 1, envs)
        next_value = value[1:].detach().clone()
        if len(rollout.final_index):
            with torch.no_grad():
                next_value.view(-1)[rollout.final_index] = self.copy.value(rollout.final_obs)
        acted, obs = outputs[: steps * envs], map_tensors(lambda tensor: tensor[: steps * envs], flat)
        log_prob = self.policy.log_prob(acted, obs, rollout.action.flatten(0, 1)).view(steps, envs)
        corrected = vtrace(
            rollout.reward,
            value[:-1].detach(),
            next_value,
            self.gamma * (~rollout.terminated).float(),
            rollout.done,
            log_ratio=log_prob.detach() - rollout.log_prob,
            lam=self.lam,
        )  # (2)
        policy_loss, value_loss = actor_critic_loss(log_prob, value[:-1], corrected.advantage, corrected.target)
        entropy = self.policy.entropy(acted, obs).mean()
        terms = {"policy_loss": policy_loss.mean(), "value_loss": self.value_weight * value_loss.mean()}  # (3)
        if self.entropy_weight:
            terms["entropy_loss"] = -self.entropy_weight * entropy  # (3)
        return terms, {"entropy": entropy, "rho": corrected.rho.mean()}


class A3C(Agent):
    """Many small steps by gradients that arrive whenever a worker has one.

    Args:
        env: environment recipe, or its id; its environments are shared out among the workers.
        data: how many workers, and how long they collect.
        net: policy and critic.
        optimizer: how parameters move.
        gamma: discount per step.
        lam: λ of the returns; below 1 it trades variance for bias.
        value_weight: c_v.
        entropy_weight: c_H.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = STOCHASTIC_SPACES
    policy: StochasticPolicy

    def __init__(
        self,
        env: Env | str,
        data: Asynchronous = Asynchronous(),
        net: ActorCritic = ActorCritic(),
        optimizer: Optimizer = Optimizer(lr=7e-4, name="rmsprop", eps=1e-5, max_grad_norm=0.5),
        gamma: float = 0.99,
        lam: float = 1.0,
        value_weight: float = 0.5,
        entropy_weight: float = 0.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.networks = net.build(self.env.observation_space, self.env.action_space)
        self.require(not self.networks.recurrent, "net.body", net.body, "it has a memory; PPO serves those")
        self.policy = self.networks.policy
        self.lam, self.value_weight, self.entropy_weight = lam, value_weight, entropy_weight

    def work(self) -> GradientWork:
        """(1)-(3), for a worker."""
        return GradientWork(self.networks, self.gamma, self.lam, self.value_weight, self.entropy_weight)

    def train_dataloader(self) -> AsynchronousExperience:
        """Also tell the workers what to do."""
        fresh = not self.has_experience
        experience = super().train_dataloader()
        assert isinstance(experience, AsynchronousExperience)
        if fresh:
            experience.work = self.work()
        return experience

    def minibatches(self, data: Contribution) -> Iterator[Contribution]:
        """The one gradient."""
        lag = self.policy.version - data.version
        self.record(**data.scalars, lag=lag.float(), lag_of_data=(self.policy.version - data.rollout.version).float())
        yield data

    def update(self, minibatch: Contribution) -> None:
        """(4)."""
        experience: Any = self.experience
        with experience.writing:
            self.networks.update_statistics(minibatch.rollout.obs)
            super().update(minibatch)

    def loss(self, batch: Contribution) -> dict[str, Tensor]:
        """What descends by the worker's gradient."""
        return {"linear_loss": linear_loss(dict(self.networks.named_parameters()), batch.gradient)}
