"""Q-learning with parallel workers (AsyncQ).

Paper    Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", Algorithms 1 and S2.
         Formula sheet: H14, 6.2.1a, 7.0.1a, 7.1a, 7.4.2a, 7.3.1a
Update   of T steps of N environments, each with an ε of its own:
         y_t  = r_t + γ r_{t+1} + … + γᵐ(1 − terminated) max_a q(s_{t+m}, a; θ⁻),
                m = n, or fewer at an episode's end and at the T-th step                           (1)
         L(θ) = mean ½ (q(s_t, a_t; θ) − y_t)²                                                     (2)
         θ   ← θ + step(∇L): of all N together (Rollouts), or of each worker's share as it comes (Asynchronous)   (3)
         θ⁻  ← θ every so many updates                                                            (4)
Data     Rollouts: synchronous, one round of all environments per step. Asynchronous: worker processes that read
         θ and θ⁻, act, work out the gradient, and never wait for each other. Nothing is remembered in either.
Differs  Step (3) is made by one process, and θ is read and written as a whole under a lock. A worker's θ may lag
         behind by the updates of the others, which is logged. The paper's n-step variant is n = T, its one-step
         variant n = 1; ε differ by environment and fall to their own ends, where the paper draws them per thread.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_rl.algorithms.actor_critic.a3c import linear_loss
from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import Rollout, map_tensors, select
from lit_rl.data.asynchronous import Asynchronous, AsynchronousExperience, Contribution, Work
from lit_rl.data.episodes import Episodes
from lit_rl.data.experience import Experience
from lit_rl.data.fresh import fresh_transitions
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, legal_values
from lit_rl.functional.returns import n_step_returns
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.optimizer import Optimizer
from lit_rl.policies.action_values import ActionValuePolicy
from lit_rl.policies.exploration import EpsilonSpread, Exploration
from lit_rl.policies.network import legal_actions


def squared_error(q: Float[Tensor, " B"], target: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """(2); no gradient reaches the target."""
    return 0.5 * (q - target.detach()).square().mean()


class QWork(Work):
    """(1)-(2) with networks of its own, or, without processes, with the learner's."""

    def __init__(self, policy: ActionValuePolicy, target: nn.Module, gamma: float, n_step: int) -> None:
        self.theirs = nn.ModuleList([policy, target])
        self.gamma, self.n_step = gamma, n_step
        self.copies = copy.deepcopy(self.theirs)
        self.policy, self.target = self.copies  # type: ignore[assignment]

    def share(self) -> None:
        """See :meth:`Work.share`."""
        self.theirs.share_memory()

    @torch.no_grad()
    def read(self) -> None:
        """θ and θ⁻ of the moment, with statistics and counters."""
        for mine, other in zip(self.copies.state_dict().values(), self.theirs.state_dict().values(), strict=True):
            mine.copy_(other)

    def gradient(self, rollout: Rollout) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """∇L by the parameters of the policy, and L."""
        loss, scalars = rollout_loss(self.policy, self.target, rollout, self.gamma, self.n_step)  # type: ignore[arg-type]
        named = {name: p for name, p in self.policy.named_parameters() if p.requires_grad}
        gradient = torch.autograd.grad(loss, list(named.values()))
        return dict(zip(named, gradient, strict=True)), {"td_loss": loss.detach(), **scalars}


def rollout_loss(
    policy: ActionValuePolicy, target: nn.Module, rollout: Rollout, gamma: float, n_step: int
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """(1)-(2) of a rollout of tensors, and diagnostics."""
    steps = fresh_transitions(rollout, gamma)
    with torch.no_grad():
        value = legal_values(target(steps.next_obs), legal_actions(steps.next_obs)).amax(-1)
    shape = rollout.reward.shape
    returns = n_step_returns(
        rollout.reward, value.view(shape), steps.discount.view(shape), rollout.done, n=n_step
    )  # (1)
    q = chosen(policy.outputs(steps.obs), steps.action)
    return squared_error(q, returns.flatten()), {"q": q.detach().mean()}  # (2)


class AsyncQ(ActionValueAgent):
    """Many environments in place of a memory: they make the steps of an update independent enough.

    Args:
        env: environment recipe, or its id; with worker processes its environments are shared out among them.
        data: how many steps, and whether workers wait for each other.
        net: the Q-network.
        optimizer: how parameters move, with one set of statistics for all workers.
        gamma: discount per step.
        exploration: how it acts on its values; an EpsilonSpread gives each environment its own ε.
        target: how θ⁻ follows θ.
        n_step: n.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    data: Asynchronous | Rollouts

    def __init__(
        self,
        env: Env | str,
        data: Asynchronous | Rollouts = Asynchronous(),
        net: QNetwork = QNetwork(),
        optimizer: Optimizer = Optimizer(lr=7e-4, name="rmsprop", eps=1e-5, max_grad_norm=10.0),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonSpread(),
        target: TargetUpdate = TargetUpdate(every=200),
        n_step: int = 5,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, target, evaluation)
        self.require(n_step >= 1, "n_step", n_step, "it counts rewards, from 1")
        self.n_step = n_step

    def work(self) -> QWork:
        """(1)-(2), for a worker."""
        return QWork(self.policy, self.q_target, self.gamma, self.n_step)

    def train_dataloader(self) -> Experience:
        """Also tell the workers what to do."""
        fresh = not self.has_experience
        experience = super().train_dataloader()
        if fresh and isinstance(experience, AsynchronousExperience):
            experience.work = self.work()
        return experience

    def minibatches(self, data: Contribution | Rollout) -> Iterator[Any]:
        """The one rollout, or the one gradient."""
        if isinstance(data, Contribution):
            lag = self.policy.version - data.version
            self.record(**data.scalars, lag=lag.float())
        yield data

    def update(self, minibatch: Contribution | Rollout) -> None:
        """(3), and (4) with it."""
        rollout = minibatch.rollout if isinstance(minibatch, Contribution) else minibatch
        obs = map_tensors(lambda tensor: tensor.flatten(0, 1), select(rollout.obs, slice(0, -1)))
        experience = self.experience
        if isinstance(experience, AsynchronousExperience):
            with experience.writing:
                self.policy.body.update_statistics(obs)
                super().update(minibatch)
        else:
            self.policy.body.update_statistics(obs)
            super().update(minibatch)

    def loss(self, batch: Contribution | Rollout) -> dict[str, Tensor]:
        """(2), or what descends by the gradient of a worker's (2)."""
        if isinstance(batch, Contribution):
            return {"linear_loss": linear_loss(dict(self.policy.named_parameters()), batch.gradient)}
        loss, scalars = rollout_loss(self.policy, self.q_target, batch, self.gamma, self.n_step)
        self.record(**scalars)
        return {"td_loss": loss}
