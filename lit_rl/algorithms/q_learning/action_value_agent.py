"""What Q-learners over finitely many actions share: the network, its slow copy, exploration, a diagnostic."""

from abc import ABC
from collections.abc import Iterator
from typing import Any, ClassVar

from gymnasium import spaces
from torch import Tensor, nn

from lit_rl.agent import Agent
from lit_rl.batch import Observation, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import legal_values
from lit_rl.nn.layers import Layers
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.nn.targets import TargetNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.action_values import ActionValuePolicy
from lit_rl.policies.exploration import Exploration
from lit_rl.policies.network import legal_actions


class ActionValueAgent(Agent, ABC):
    """q(s, ·; θ) acts as ``exploration`` says; θ⁻ follows θ as ``target`` says. A subclass writes the loss.

    Every validation logs how far the greedy policy's value is from the return that it then earns
    (formula sheet 7.3.1a).
    """

    action_spaces = ("Discrete",)
    may_remember: ClassVar[bool] = False
    """Whether it learns from sequences, so that its net may have a memory."""
    policy: ActionValuePolicy

    def __init__(
        self,
        env: Env | str,
        data: Any,
        net: QNetwork,
        optimizer: Optimizer,
        gamma: float,
        exploration: Exploration,
        target: TargetUpdate | None,
        evaluation: Episodes,
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.target = target
        self.policy = self.build_policy(net, exploration)
        if self.policy.state_size and not self.may_remember:
            name = type(self).__name__
            raise ValueError(f"{name} learns from single transitions and its net has a memory: use a body without one")
        if target is not None:
            self.q_target = TargetNetwork(self.q)

    def build_policy(self, net: QNetwork, exploration: Exploration) -> ActionValuePolicy:
        """What acts: by default with one output for each action."""
        body, head = net.build(self.env.observation_space, self.actions)
        assert isinstance(body, nn.Module)
        return ActionValuePolicy(body, head, exploration)  # type: ignore[arg-type]

    @property
    def actions(self) -> int:
        """A."""
        assert isinstance(self.env.action_space, spaces.Discrete)
        return int(self.env.action_space.n)

    @property
    def q(self) -> nn.Module:
        """q(s, ·; θ), the network of the policy; what ``q_target`` is a copy of."""
        return Layers(self.policy.body, self.policy.head)

    def minibatches(self, data: Any) -> Iterator[Any]:
        """One of the Transitions [K, B] per update; all of them count in the normaliser, where there is one."""
        if len(data.reward):
            self.policy.body.update_statistics(data.obs)
        yield from unstack(data)

    def after_update(self) -> None:
        """θ⁻ follows θ."""
        if self.target is not None and (self.target.tau < 1 or self.updates % self.target.every == 0):
            self.q_target.follow(self.target.tau)

    def schedules(self) -> dict[str, float]:
        """The level of exploration."""
        return {self.policy.exploration.name: self.policy.exploration.schedule(self.env_steps)}

    def state_value(self, obs: Observation) -> Tensor:
        """max_a q(s, a) [B], for the diagnostic."""
        values = self.policy.values(self.policy.outputs(obs))
        return legal_values(values, legal_actions(obs)).amax(-1)
