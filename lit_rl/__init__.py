"""lit_rl: deep reinforcement learning, one trainer, readable algorithms.

This table is the registry: what stands here is public, has a short name on the command line, and
passes the contract test. Names load when first used, so that ``lit-rl list`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

AGENTS = {
    "DQN": "lit_rl.algorithms.q_learning.dqn",
    "PPO": "lit_rl.algorithms.policy_gradient.ppo",
    "SAC": "lit_rl.algorithms.actor_critic.sac",
    "PolicyIteration": "lit_rl.algorithms.dynamic_programming.policy_iteration",
    "ValueIteration": "lit_rl.algorithms.dynamic_programming.value_iteration",
    "SoftValueIteration": "lit_rl.algorithms.dynamic_programming.soft_value_iteration",
    "TDLambda": "lit_rl.algorithms.tabular.td_lambda",
    "DynaQ": "lit_rl.algorithms.tabular.dyna_q",
    "PSRL": "lit_rl.algorithms.tabular.psrl",
    "UCB1": "lit_rl.algorithms.bandits.ucb",
    "ThompsonSampling": "lit_rl.algorithms.bandits.thompson",
    "IDS": "lit_rl.algorithms.bandits.ids",
    "MaxMargin": "lit_rl.algorithms.inverse.max_margin",
    "MaxEntIRL": "lit_rl.algorithms.inverse.maxent_irl",
    "OptimisticValueIteration": "lit_rl.algorithms.tabular.optimistic_value_iteration",
}
"""Every algorithm, by its public name: the module it lives in."""

RECIPES = {
    "Env": "lit_rl.envs.recipe",
    "Wrapper": "lit_rl.envs.recipe",
    "Rollouts": "lit_rl.data.rollouts",
    "Replay": "lit_rl.data.replay",
    "Prioritized": "lit_rl.data.priority",
    "Episodes": "lit_rl.data.episodes",
    "Demonstrations": "lit_rl.data.demonstrations",
    "CountBonus": "lit_rl.nn.bonus",
    "KnownModel": "lit_rl.data.known_model",
    "Belief": "lit_rl.policies.bandit",
    "ActorCritic": "lit_rl.policies.actor_critic",
    "MLP": "lit_rl.nn.body",
    "CNN": "lit_rl.nn.body",
    "Recurrent": "lit_rl.nn.body",
    "Optimizer": "lit_rl.optimizer",
    "Constant": "lit_rl.schedules",
    "Linear": "lit_rl.schedules",
    "Exponential": "lit_rl.schedules",
}
"""Frozen descriptions of parts, by public name: what an agent's arguments may be."""

_HOMES = (
    AGENTS
    | RECIPES
    | {
        "Agent": "lit_rl.agent",
        "Trainer": "lit_rl.trainer",
        "load": "lit_rl.loading",
        "allow": "lit_rl.envs.allow",
    }
)

if TYPE_CHECKING:
    from lit_rl.agent import Agent as Agent
    from lit_rl.algorithms.actor_critic.sac import SAC as SAC
    from lit_rl.algorithms.bandits.ids import IDS as IDS
    from lit_rl.algorithms.bandits.thompson import ThompsonSampling as ThompsonSampling
    from lit_rl.algorithms.bandits.ucb import UCB1 as UCB1
    from lit_rl.algorithms.dynamic_programming.policy_iteration import PolicyIteration as PolicyIteration
    from lit_rl.algorithms.dynamic_programming.soft_value_iteration import SoftValueIteration as SoftValueIteration
    from lit_rl.algorithms.dynamic_programming.value_iteration import ValueIteration as ValueIteration
    from lit_rl.algorithms.inverse.max_margin import MaxMargin as MaxMargin
    from lit_rl.algorithms.inverse.maxent_irl import MaxEntIRL as MaxEntIRL
    from lit_rl.algorithms.policy_gradient.ppo import PPO as PPO
    from lit_rl.algorithms.q_learning.dqn import DQN as DQN
    from lit_rl.algorithms.tabular.dyna_q import DynaQ as DynaQ
    from lit_rl.algorithms.tabular.optimistic_value_iteration import (
        OptimisticValueIteration as OptimisticValueIteration,
    )
    from lit_rl.algorithms.tabular.psrl import PSRL as PSRL
    from lit_rl.algorithms.tabular.td_lambda import TDLambda as TDLambda
    from lit_rl.data.demonstrations import Demonstrations as Demonstrations
    from lit_rl.data.episodes import Episodes as Episodes
    from lit_rl.data.known_model import KnownModel as KnownModel
    from lit_rl.data.priority import Prioritized as Prioritized
    from lit_rl.data.replay import Replay as Replay
    from lit_rl.data.rollouts import Rollouts as Rollouts
    from lit_rl.envs.allow import allow as allow
    from lit_rl.envs.recipe import Env as Env
    from lit_rl.envs.recipe import Wrapper as Wrapper
    from lit_rl.loading import load as load
    from lit_rl.nn.body import CNN as CNN
    from lit_rl.nn.body import MLP as MLP
    from lit_rl.nn.body import Recurrent as Recurrent
    from lit_rl.nn.bonus import CountBonus as CountBonus
    from lit_rl.optimizer import Optimizer as Optimizer
    from lit_rl.policies.actor_critic import ActorCritic as ActorCritic
    from lit_rl.policies.bandit import Belief as Belief
    from lit_rl.schedules import Constant as Constant
    from lit_rl.schedules import Exponential as Exponential
    from lit_rl.schedules import Linear as Linear
    from lit_rl.trainer import Trainer as Trainer

__all__ = ["AGENTS", "RECIPES", "__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"lit_rl has no {name!r}; it has {', '.join(sorted(_HOMES))}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
