"""lit_rl: deep reinforcement learning, one trainer, readable algorithms.

This table is the registry: what stands here is public, has a short name on the command line, and
passes the contract test. Names load when first used, so that ``lit-rl list`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

AGENTS = {
    "A2C": "lit_rl.algorithms.actor_critic.a2c",
    "A3C": "lit_rl.algorithms.actor_critic.a3c",
    "AlphaZero": "lit_rl.algorithms.search.alpha_zero",
    "AsyncQ": "lit_rl.algorithms.q_learning.async_q",
    "BatchActorCritic": "lit_rl.algorithms.actor_critic.actor_critic",
    "DDP": "lit_rl.algorithms.control.ddp",
    "DDPG": "lit_rl.algorithms.actor_critic.ddpg",
    "DoubleDQN": "lit_rl.algorithms.q_learning.double_dqn",
    "DoubleQ": "lit_rl.algorithms.q_learning.double_q",
    "DQN": "lit_rl.algorithms.q_learning.dqn",
    "DynaQ": "lit_rl.algorithms.tabular.dyna_q",
    "EntropyPG": "lit_rl.algorithms.policy_gradient.entropy_pg",
    "FittedQ": "lit_rl.algorithms.q_learning.fitted_q",
    "FittedValueIteration": "lit_rl.algorithms.dynamic_programming.fitted_value_iteration",
    "IDS": "lit_rl.algorithms.bandits.ids",
    "ILQR": "lit_rl.algorithms.control.ilqr",
    "KLPPO": "lit_rl.algorithms.policy_gradient.kl_ppo",
    "LQR": "lit_rl.algorithms.control.lqr",
    "MacroQ": "lit_rl.algorithms.q_learning.macro_q",
    "MaxEntIRL": "lit_rl.algorithms.inverse.maxent_irl",
    "MaxMargin": "lit_rl.algorithms.inverse.max_margin",
    "MCTS": "lit_rl.algorithms.search.mcts",
    "MPC": "lit_rl.algorithms.control.mpc",
    "NAF": "lit_rl.algorithms.q_learning.naf",
    "NPG": "lit_rl.algorithms.policy_gradient.npg",
    "NStepDQN": "lit_rl.algorithms.q_learning.n_step_dqn",
    "OffPolicyActorCritic": "lit_rl.algorithms.actor_critic.off_policy_actor_critic",
    "OffPolicyGradient": "lit_rl.algorithms.policy_gradient.off_policy_gradient",
    "OnlineActorCritic": "lit_rl.algorithms.actor_critic.online_actor_critic",
    "OptimisticValueIteration": "lit_rl.algorithms.tabular.optimistic_value_iteration",
    "PolicyIteration": "lit_rl.algorithms.dynamic_programming.policy_iteration",
    "PPO": "lit_rl.algorithms.policy_gradient.ppo",
    "PSRL": "lit_rl.algorithms.tabular.psrl",
    "QLearning": "lit_rl.algorithms.q_learning.q_learning",
    "QProp": "lit_rl.algorithms.actor_critic.q_prop",
    "QTOpt": "lit_rl.algorithms.q_learning.qt_opt",
    "RecurrentDQN": "lit_rl.algorithms.q_learning.recurrent_dqn",
    "REINFORCE": "lit_rl.algorithms.policy_gradient.reinforce",
    "ResidualQ": "lit_rl.algorithms.q_learning.residual_q",
    "SAC": "lit_rl.algorithms.actor_critic.sac",
    "SACDiscrete": "lit_rl.algorithms.actor_critic.sac_discrete",
    "Sarsa": "lit_rl.algorithms.q_learning.sarsa",
    "SoftQ": "lit_rl.algorithms.q_learning.soft_q",
    "SoftQContinuous": "lit_rl.algorithms.q_learning.soft_q_continuous",
    "SoftValueIteration": "lit_rl.algorithms.dynamic_programming.soft_value_iteration",
    "TD3": "lit_rl.algorithms.actor_critic.td3",
    "TDLambda": "lit_rl.algorithms.tabular.td_lambda",
    "ThompsonSampling": "lit_rl.algorithms.bandits.thompson",
    "TRPO": "lit_rl.algorithms.policy_gradient.trpo",
    "UCB1": "lit_rl.algorithms.bandits.ucb",
    "ValueIteration": "lit_rl.algorithms.dynamic_programming.value_iteration",
}
"""Every algorithm, by its public name: the module it lives in."""

RECIPES = {
    "Env": "lit_rl.envs.recipe",
    "Wrapper": "lit_rl.envs.recipe",
    "Rollouts": "lit_rl.data.rollouts",
    "SimulatedRollouts": "lit_rl.data.simulator",
    "WholeEpisodes": "lit_rl.data.whole_episodes",
    "Asynchronous": "lit_rl.data.asynchronous",
    "Replay": "lit_rl.data.replay",
    "SequenceReplay": "lit_rl.data.sequences",
    "WindowReplay": "lit_rl.data.windows",
    "GrowingBatch": "lit_rl.data.growing",
    "Prioritized": "lit_rl.data.priority",
    "Rehearsal": "lit_rl.data.rehearsal",
    "SelfPlay": "lit_rl.data.self_play",
    "Episodes": "lit_rl.data.episodes",
    "Demonstrations": "lit_rl.data.demonstrations",
    "CountBonus": "lit_rl.nn.bonus",
    "KnownModel": "lit_rl.data.known_model",
    "Belief": "lit_rl.policies.bandit",
    "ActorCritic": "lit_rl.policies.actor_critic",
    "Critic": "lit_rl.algorithms.actor_critic.actor_critic",
    "KLConstraint": "lit_rl.algorithms.policy_gradient.kl_ppo",
    "Fisher": "lit_rl.algorithms.policy_gradient.trust_region",
    "CriticFit": "lit_rl.algorithms.policy_gradient.trust_region",
    "MLP": "lit_rl.nn.body",
    "CNN": "lit_rl.nn.body",
    "Recurrent": "lit_rl.nn.body",
    "StateFeatures": "lit_rl.nn.table",
    "Table": "lit_rl.nn.table",
    "QNetwork": "lit_rl.nn.q_network",
    "TargetUpdate": "lit_rl.nn.q_network",
    "Regression": "lit_rl.nn.regression",
    "TreeSearch": "lit_rl.planning.tree_search",
    "GraphSearch": "lit_rl.planning.graph_search",
    "UCT": "lit_rl.planning.tree_rules",
    "PUCT": "lit_rl.planning.tree_rules",
    "Widening": "lit_rl.planning.tree_rules",
    "ControlTask": "lit_rl.planning.task",
    "QuadraticCost": "lit_rl.planning.systems.system",
    "Acrobot": "lit_rl.planning.systems.acrobot",
    "Car": "lit_rl.planning.systems.car",
    "CartPole": "lit_rl.planning.systems.cart_pole",
    "DoubleIntegrator": "lit_rl.planning.systems.double_integrator",
    "Pendulum": "lit_rl.planning.systems.pendulum",
    "PlanarQuadrotor": "lit_rl.planning.systems.quadrotor",
    "RandomShooting": "lit_rl.planning.shooting",
    "CEM": "lit_rl.planning.shooting",
    "ICEM": "lit_rl.planning.shooting",
    "CMAES": "lit_rl.planning.shooting",
    "MPPI": "lit_rl.planning.mppi",
    "GradientShooting": "lit_rl.planning.gradient_shooting",
    "Collocation": "lit_rl.planning.collocation",
    "ILQR": "lit_rl.planning.ilqr",
    "DDP": "lit_rl.planning.ddp",
    "SamplingMaximizer": "lit_rl.planning.maximize",
    "CEMMaximizer": "lit_rl.planning.maximize",
    "CMAESMaximizer": "lit_rl.planning.maximize",
    "GradientMaximizer": "lit_rl.planning.maximize",
    "EpsilonGreedy": "lit_rl.policies.exploration",
    "EpsilonSpread": "lit_rl.policies.exploration",
    "Boltzmann": "lit_rl.policies.exploration",
    "GaussianNoise": "lit_rl.policies.exploration",
    "OrnsteinUhlenbeck": "lit_rl.policies.exploration",
    "Optimizer": "lit_rl.optimizer",
    "Constant": "lit_rl.schedules",
    "Linear": "lit_rl.schedules",
    "Exponential": "lit_rl.schedules",
}
"""Frozen descriptions of parts, by public name: what an agent's arguments may be. ILQR and DDP are planners here; the
agents around them are ``lit_rl.ILQR`` and ``lit_rl.DDP``."""

_HOMES = (
    RECIPES
    | AGENTS
    | {
        "Agent": "lit_rl.agent",
        "Trainer": "lit_rl.trainer",
        "load": "lit_rl.loading",
        "allow": "lit_rl.envs.allow",
    }
)

if TYPE_CHECKING:
    from lit_rl.agent import Agent as Agent
    from lit_rl.algorithms.actor_critic.a2c import A2C as A2C
    from lit_rl.algorithms.actor_critic.a3c import A3C as A3C
    from lit_rl.algorithms.actor_critic.actor_critic import BatchActorCritic as BatchActorCritic
    from lit_rl.algorithms.actor_critic.actor_critic import Critic as Critic
    from lit_rl.algorithms.actor_critic.ddpg import DDPG as DDPG
    from lit_rl.algorithms.actor_critic.off_policy_actor_critic import OffPolicyActorCritic as OffPolicyActorCritic
    from lit_rl.algorithms.actor_critic.online_actor_critic import OnlineActorCritic as OnlineActorCritic
    from lit_rl.algorithms.actor_critic.q_prop import QProp as QProp
    from lit_rl.algorithms.actor_critic.sac import SAC as SAC
    from lit_rl.algorithms.actor_critic.sac_discrete import SACDiscrete as SACDiscrete
    from lit_rl.algorithms.actor_critic.td3 import TD3 as TD3
    from lit_rl.algorithms.bandits.ids import IDS as IDS
    from lit_rl.algorithms.bandits.thompson import ThompsonSampling as ThompsonSampling
    from lit_rl.algorithms.bandits.ucb import UCB1 as UCB1
    from lit_rl.algorithms.control.ddp import DDP as DDP
    from lit_rl.algorithms.control.ilqr import ILQR as ILQR
    from lit_rl.algorithms.control.lqr import LQR as LQR
    from lit_rl.algorithms.control.mpc import MPC as MPC
    from lit_rl.algorithms.dynamic_programming.fitted_value_iteration import (
        FittedValueIteration as FittedValueIteration,
    )
    from lit_rl.algorithms.dynamic_programming.policy_iteration import PolicyIteration as PolicyIteration
    from lit_rl.algorithms.dynamic_programming.soft_value_iteration import SoftValueIteration as SoftValueIteration
    from lit_rl.algorithms.dynamic_programming.value_iteration import ValueIteration as ValueIteration
    from lit_rl.algorithms.inverse.max_margin import MaxMargin as MaxMargin
    from lit_rl.algorithms.inverse.maxent_irl import MaxEntIRL as MaxEntIRL
    from lit_rl.algorithms.policy_gradient.entropy_pg import EntropyPG as EntropyPG
    from lit_rl.algorithms.policy_gradient.kl_ppo import KLPPO as KLPPO
    from lit_rl.algorithms.policy_gradient.kl_ppo import KLConstraint as KLConstraint
    from lit_rl.algorithms.policy_gradient.npg import NPG as NPG
    from lit_rl.algorithms.policy_gradient.off_policy_gradient import OffPolicyGradient as OffPolicyGradient
    from lit_rl.algorithms.policy_gradient.ppo import PPO as PPO
    from lit_rl.algorithms.policy_gradient.reinforce import REINFORCE as REINFORCE
    from lit_rl.algorithms.policy_gradient.trpo import TRPO as TRPO
    from lit_rl.algorithms.policy_gradient.trust_region import CriticFit as CriticFit
    from lit_rl.algorithms.policy_gradient.trust_region import Fisher as Fisher
    from lit_rl.algorithms.q_learning.async_q import AsyncQ as AsyncQ
    from lit_rl.algorithms.q_learning.double_dqn import DoubleDQN as DoubleDQN
    from lit_rl.algorithms.q_learning.double_q import DoubleQ as DoubleQ
    from lit_rl.algorithms.q_learning.dqn import DQN as DQN
    from lit_rl.algorithms.q_learning.fitted_q import FittedQ as FittedQ
    from lit_rl.algorithms.q_learning.macro_q import MacroQ as MacroQ
    from lit_rl.algorithms.q_learning.n_step_dqn import NStepDQN as NStepDQN
    from lit_rl.algorithms.q_learning.naf import NAF as NAF
    from lit_rl.algorithms.q_learning.q_learning import QLearning as QLearning
    from lit_rl.algorithms.q_learning.qt_opt import QTOpt as QTOpt
    from lit_rl.algorithms.q_learning.recurrent_dqn import RecurrentDQN as RecurrentDQN
    from lit_rl.algorithms.q_learning.residual_q import ResidualQ as ResidualQ
    from lit_rl.algorithms.q_learning.sarsa import Sarsa as Sarsa
    from lit_rl.algorithms.q_learning.soft_q import SoftQ as SoftQ
    from lit_rl.algorithms.q_learning.soft_q_continuous import SoftQContinuous as SoftQContinuous
    from lit_rl.algorithms.search.alpha_zero import AlphaZero as AlphaZero
    from lit_rl.algorithms.search.mcts import MCTS as MCTS
    from lit_rl.algorithms.tabular.dyna_q import DynaQ as DynaQ
    from lit_rl.algorithms.tabular.optimistic_value_iteration import (
        OptimisticValueIteration as OptimisticValueIteration,
    )
    from lit_rl.algorithms.tabular.psrl import PSRL as PSRL
    from lit_rl.algorithms.tabular.td_lambda import TDLambda as TDLambda
    from lit_rl.data.asynchronous import Asynchronous as Asynchronous
    from lit_rl.data.demonstrations import Demonstrations as Demonstrations
    from lit_rl.data.episodes import Episodes as Episodes
    from lit_rl.data.growing import GrowingBatch as GrowingBatch
    from lit_rl.data.known_model import KnownModel as KnownModel
    from lit_rl.data.priority import Prioritized as Prioritized
    from lit_rl.data.rehearsal import Rehearsal as Rehearsal
    from lit_rl.data.replay import Replay as Replay
    from lit_rl.data.rollouts import Rollouts as Rollouts
    from lit_rl.data.self_play import SelfPlay as SelfPlay
    from lit_rl.data.sequences import SequenceReplay as SequenceReplay
    from lit_rl.data.simulator import SimulatedRollouts as SimulatedRollouts
    from lit_rl.data.whole_episodes import WholeEpisodes as WholeEpisodes
    from lit_rl.data.windows import WindowReplay as WindowReplay
    from lit_rl.envs.allow import allow as allow
    from lit_rl.envs.recipe import Env as Env
    from lit_rl.envs.recipe import Wrapper as Wrapper
    from lit_rl.loading import load as load
    from lit_rl.nn.body import CNN as CNN
    from lit_rl.nn.body import MLP as MLP
    from lit_rl.nn.body import Recurrent as Recurrent
    from lit_rl.nn.bonus import CountBonus as CountBonus
    from lit_rl.nn.q_network import QNetwork as QNetwork
    from lit_rl.nn.q_network import TargetUpdate as TargetUpdate
    from lit_rl.nn.regression import Regression as Regression
    from lit_rl.nn.table import StateFeatures as StateFeatures
    from lit_rl.nn.table import Table as Table
    from lit_rl.optimizer import Optimizer as Optimizer
    from lit_rl.planning.collocation import Collocation as Collocation
    from lit_rl.planning.gradient_shooting import GradientShooting as GradientShooting
    from lit_rl.planning.graph_search import GraphSearch as GraphSearch
    from lit_rl.planning.maximize import CEMMaximizer as CEMMaximizer
    from lit_rl.planning.maximize import CMAESMaximizer as CMAESMaximizer
    from lit_rl.planning.maximize import GradientMaximizer as GradientMaximizer
    from lit_rl.planning.maximize import SamplingMaximizer as SamplingMaximizer
    from lit_rl.planning.mppi import MPPI as MPPI
    from lit_rl.planning.shooting import CEM as CEM
    from lit_rl.planning.shooting import CMAES as CMAES
    from lit_rl.planning.shooting import ICEM as ICEM
    from lit_rl.planning.shooting import RandomShooting as RandomShooting
    from lit_rl.planning.systems.acrobot import Acrobot as Acrobot
    from lit_rl.planning.systems.car import Car as Car
    from lit_rl.planning.systems.cart_pole import CartPole as CartPole
    from lit_rl.planning.systems.double_integrator import DoubleIntegrator as DoubleIntegrator
    from lit_rl.planning.systems.pendulum import Pendulum as Pendulum
    from lit_rl.planning.systems.quadrotor import PlanarQuadrotor as PlanarQuadrotor
    from lit_rl.planning.systems.system import QuadraticCost as QuadraticCost
    from lit_rl.planning.task import ControlTask as ControlTask
    from lit_rl.planning.tree_rules import PUCT as PUCT
    from lit_rl.planning.tree_rules import UCT as UCT
    from lit_rl.planning.tree_rules import Widening as Widening
    from lit_rl.planning.tree_search import TreeSearch as TreeSearch
    from lit_rl.policies.actor_critic import ActorCritic as ActorCritic
    from lit_rl.policies.bandit import Belief as Belief
    from lit_rl.policies.exploration import Boltzmann as Boltzmann
    from lit_rl.policies.exploration import EpsilonGreedy as EpsilonGreedy
    from lit_rl.policies.exploration import EpsilonSpread as EpsilonSpread
    from lit_rl.policies.exploration import GaussianNoise as GaussianNoise
    from lit_rl.policies.exploration import OrnsteinUhlenbeck as OrnsteinUhlenbeck
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
