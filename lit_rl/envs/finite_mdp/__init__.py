"""Finite Markov decision processes: tables, generators, environments. Importing this registers the environments."""

from lit_rl.envs.finite_mdp.env import (
    BernoulliBanditEnv,
    FiniteMDPEnv,
    FinitePOMDPEnv,
    GaussianBanditEnv,
    finite_mdp_of,
    register,
)
from lit_rl.envs.finite_mdp.generators import (
    bandit,
    chain,
    cliff,
    deep_sea,
    four_rooms,
    grid,
    lottery,
    maze,
    random_mdp,
    river_swim,
)
from lit_rl.envs.finite_mdp.mdp import FiniteMDP, Successors, from_outcomes
from lit_rl.envs.finite_mdp.pomdp import FinitePOMDP, tiger

__all__ = [
    "BernoulliBanditEnv",
    "FiniteMDP",
    "FiniteMDPEnv",
    "FinitePOMDP",
    "FinitePOMDPEnv",
    "GaussianBanditEnv",
    "Successors",
    "bandit",
    "chain",
    "cliff",
    "deep_sea",
    "finite_mdp_of",
    "four_rooms",
    "from_outcomes",
    "grid",
    "lottery",
    "maze",
    "random_mdp",
    "register",
    "river_swim",
    "tiger",
]
