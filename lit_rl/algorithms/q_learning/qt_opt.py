"""Q-learning with continuous actions by search (QTOpt).

Paper    Kalashnikov et al. 2018, "QT-Opt: scalable deep reinforcement learning for vision-based robotic manipulation",
         4.2 and appendix; Hansen & Ostermeier 2001 (CMA-ES).       Formula sheet: 7.5.1a, 9.0.2b, 7.1c, 7.3.1a
Update   a*   = argmax_a q(s', a; θ⁻), as ``maximizer`` finds it with fresh draws                     (1)
         y    = r + γ(1 − terminated) min[q(s', a*; θ⁻), q(s', a*; θ⁼)]                               (2)
         L(θ) = mean w ½ (q(s, a; θ) − y)²                                                            (3)
         θ⁻  ← (1 − τ) θ⁻ + τ θ after every update;  θ⁼ ← θ⁻ every ``lag`` updates                    (4)
Data     Replay: act by the same maximiser in q, plus noise, clipped to the box; uniformly random at first.
Differs  Squared error for the paper's cross-entropy, which needs targets in [0, 1]. θ⁼ is a copy of θ⁻ that is up to
         ``lag`` updates old, in place of one that is always so old. Gaussian noise explores, not scripts and ε-greedy.
"""

from collections.abc import Iterator

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Transition, length, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.losses import weighted_mean
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.heads import QFunction
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.planning.maximize import CEMMaximizer, Maximizer
from lit_rl.policies.exploration import GaussianNoise, Noise
from lit_rl.policies.maximizing import MaximizingPolicy, maximize_q


def clipped_target(
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    found: Float[Tensor, " B"],
    lagged: Float[Tensor, " B"],
) -> Float[Tensor, " B"]:
    """(2), from the values of a* under θ⁻ and θ⁼. ``discount`` is γⁿ(1 − terminated)."""
    return reward + discount * torch.minimum(found, lagged)


class QTOpt(Agent):
    """Q-learning in a box of actions, without an actor: a search finds the maximum.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body of q, which reads observation and action.
        optimizer: how parameters move.
        gamma: discount per step.
        maximizer: the search, in (1) and for acting.
        tau: weight of the new parameters in θ⁻.
        lag: updates between two copies to θ⁼.
        noise: added to the actions.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Box",)
    policy: MaximizingPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=1_000_000, batch_size=128, replay_ratio=1.0, warmup=1_000),
        net: Body = MLP((256, 256), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=1e-3, max_grad_norm=10.0),
        gamma: float = 0.99,
        maximizer: Maximizer = CEMMaximizer(),
        tau: float = 0.005,
        lag: int = 500,
        noise: Noise = GaussianNoise(0.1),
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        space = self.env.action_space
        assert isinstance(space, spaces.Box)
        self.require(space.is_bounded(), "env", self.env.id, f"QTOpt searches a bounded Box; it has {space}")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.require(lag >= 1, "lag", lag, "it counts updates, from 1")
        self.tau, self.lag, self.maximizer = tau, lag, maximizer
        q = QFunction(net, self.env.observation_space, space)
        self.policy = MaximizingPolicy(q, space, maximizer, noise)
        self.q_target = TargetNetwork(q)
        self.q_lagged = TargetNetwork(self.q_target.slow)

    def minibatches(self, data: Transition) -> Iterator[Transition]:
        """One per update; all of them count in the normaliser, where there is one."""
        if len(data.reward):
            self.policy.q.update_statistics(data.obs, data.action)
        yield from unstack(data)

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(3)."""
        target = self.target(batch)
        error = self.policy.q(batch.obs, batch.action) - target
        self.experience.learnt(batch.index, error)
        self.record(value=target, td_error=error.detach().abs())
        return {"td_loss": weighted_mean(0.5 * error.square(), batch.weight)}  # (3)

    @torch.no_grad()
    def target(self, batch: Transition) -> Float[Tensor, " B"]:
        """(1)-(2)."""
        rows, box = len(batch.reward), (self.policy.low, self.policy.high)
        draws = self.maximizer.draws(rows, len(self.policy.low)).to(batch.reward.device)
        found = maximize_q(self.q_target, batch.next_obs, rows, self.maximizer, box, draws)  # (1)
        lagged = self.q_lagged(batch.next_obs, found.action)
        return clipped_target(batch.reward, batch.discount, found.value, lagged)  # (2)

    def after_update(self) -> None:
        """(4)."""
        self.q_target.follow(self.tau)
        if self.updates % self.lag == 0:
            self.q_lagged.follow()

    def schedules(self) -> dict[str, float]:
        """σ."""
        return {"noise": self.policy.noise.schedule(self.env_steps)}

    def state_value(self, obs: Observation) -> Tensor:
        """max_a q(s, a) [B] as acting finds it, for the diagnostic."""
        return self.policy.best(obs, length(obs)).value
