"""Deep Q-network (DQN).

Paper    Mnih et al. 2015, Methods and Algorithm 1.
         Formula sheet: 7.0.1a, 7.1a, 7.1b, 7.1c, 7.2a, 7.3.1a, 7.6a, G2, H2, H3
Update   y    = r + γ(1 − terminated) max_a' q(s', a'; θ⁻)              (1)
         L(θ) = mean w huber(q(s, a; θ) − y)                            (2)
         θ⁻  ← θ every ``target_update_every`` updates, or θ⁻ ← (1 − τ) θ⁻ + τ θ after each   (3)
Data     Replay: act ε-greedily in q, store, sample.
Differs  Adam for RMSProp. Illegal actions are left out of the maximum in (1). w is 1, or the importance
         weight of a prioritised replay (H2); n-step rewards (7.4.2a) come ready from the replay.
"""

from collections.abc import Iterator

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation, Transition, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.replay import Replay, Transitions
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import legal_values
from lit_rl.functional.losses import huber_loss
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.heads import DuellingHead
from lit_rl.nn.layers import Layers
from lit_rl.nn.mlp import linear_head
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.epsilon_greedy import EpsilonGreedyPolicy
from lit_rl.policies.network import legal_actions
from lit_rl.schedules import Linear, Scheduled, as_schedule


def td_error(
    q: Float[Tensor, "B A"],
    action: Int[Tensor, " B"],
    reward: Float[Tensor, " B"],
    discount: Float[Tensor, " B"],
    next_q: Float[Tensor, "B A"],
    next_mask: Bool[Tensor, "B A"] | None = None,
) -> Float[Tensor, " B"]:
    """q(s, a) − y per sample, (1). ``discount`` is γⁿ(1 − terminated); no gradient reaches ``next_q``."""
    if next_mask is not None:
        next_q = torch.where(next_mask, next_q, torch.finfo(next_q.dtype).min)
    target = reward + discount * next_q.amax(-1).detach()
    return q.gather(-1, action.unsqueeze(-1)).squeeze(-1) - target


class DQN(Agent):
    """Q-learning with a replay memory and a slow target network.

    Args:
        env: environment recipe, or its id.
        data: where transitions come from.
        net: body of the Q-network.
        optimizer: how parameters move.
        gamma: discount per step.
        epsilon: probability of a random action, scheduled over env steps.
        target_update_every: updates between hard copies θ⁻ ← θ, when ``tau`` is 1.
        tau: weight of θ in a Polyak average after every update; 1 copies hard.
        huber_delta: where the loss turns from quadratic to linear.
        duelling: split q into V and A (formula sheet H3).
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    policy: EpsilonGreedyPolicy

    def __init__(
        self,
        env: Env | str,
        data: Transitions = Replay(capacity=100_000, batch_size=128, replay_ratio=0.1, warmup=1_000),
        net: Body = MLP((120, 84), "relu", orthogonal=False),
        optimizer: Optimizer = Optimizer(lr=2.5e-4, max_grad_norm=10.0),
        gamma: float = 0.99,
        epsilon: Scheduled = Linear(1.0, 0.05, 10_000),
        target_update_every: int = 500,
        tau: float = 1.0,
        huber_delta: float = 1.0,
        duelling: bool = False,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(target_update_every >= 1, "target_update_every", target_update_every, "it counts updates, from 1")
        self.require(0 < tau <= 1, "tau", tau, "the weight of the new parameters lies in (0, 1]")
        self.require(huber_delta > 0, "huber_delta", huber_delta, "it is positive")
        self.target_update_every, self.tau, self.huber_delta = target_update_every, tau, huber_delta
        body = net.build(self.env.observation_space)
        if body.state_size:
            raise ValueError("DQN learns from single transitions and its net has a memory: use a body without one")
        assert isinstance(self.env.action_space, spaces.Discrete)
        width, actions = body.out_features, int(self.env.action_space.n)
        gain = 1.0 if net.head_is_orthogonal else None
        head = DuellingHead(width, actions) if duelling else linear_head(width, actions, gain)
        self.policy = EpsilonGreedyPolicy(body, head, as_schedule(epsilon))
        self.q_target = TargetNetwork(self.q)

    @property
    def q(self) -> Layers:
        """q(s, ·; θ), the network of the policy."""
        return Layers(self.policy.body, self.policy.head)

    def minibatches(self, data: Transition) -> Iterator[Transition]:
        """One per update; all of them count in the normaliser, where there is one."""
        if len(data.reward):
            self.policy.body.update_statistics(data.obs)
        yield from unstack(data)

    def loss(self, batch: Transition) -> dict[str, Tensor]:
        """(1)-(2)."""
        q = self.policy.outputs(batch.obs)
        next_q = self.q_target(batch.next_obs)
        error = td_error(q, batch.action, batch.reward, batch.discount, next_q, legal_actions(batch.next_obs))  # (1)
        self.experience.learnt(batch.index, error)
        self.record(q=q, td_error=error.detach().abs())
        return {"td_loss": huber_loss(error, self.huber_delta, batch.weight)}  # (2)

    def after_update(self) -> None:
        """(3)."""
        if self.tau < 1 or self.updates % self.target_update_every == 0:
            self.q_target.follow(self.tau)

    def schedules(self) -> dict[str, float]:
        """ε."""
        return {"epsilon": self.policy.schedule(self.env_steps)}

    def state_value(self, obs: Observation) -> Tensor:
        """max_a q(s, a) [B] over the legal actions."""
        return legal_values(self.policy.outputs(obs), legal_actions(obs)).amax(-1)
