"""Monte-Carlo tree search (MCTS) with upper confidence bounds (UCT).

Paper    Kocsis & Szepesvári 2006; Browne et al. 2012.       Formula sheet: 9.0.3a, H13, G9
Update   in every step, from the state that is observed, so many simulations:
         go down by a = argmax_a Q(s, a) + c (Q_max − Q_min) √(ln N(s) / N(s, a)),  untried actions first       (1)
         make a new node, worth G: what a random policy earns from there                                       (2)
         on the way back G ← r + γ G (two players: r − γ G), N += 1, Q ← mean of G                              (3)
         act by the most visited action                                                                        (4)
Data     Rollouts, to look at: nothing is learnt. The world's rules are known, and states are what is observed.
Differs  Q's range is that of the tree so far, or one that is given. What was found below the action taken stays and
         counts. One player without chance may back up the greatest G instead of the mean, and act by it. With
         :class:`lit_rl.planning.graph_search.GraphSearch` states are nodes of a graph, (2) is an upper bound, and (3)
         and (4) take the best action's expected value instead of means and visits. Where actions are continuous, k Nᵅ
         of them are tried in a node (progressive widening, Couëtoux et al. 2011), drawn by the world.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Rollout
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.optimizer import Optimizer
from lit_rl.planning.search import Search
from lit_rl.planning.tree_search import TreeSearch
from lit_rl.planning.worlds import world_of
from lit_rl.policies.search import RolloutSearchPolicy


class MCTS(Agent):
    """Looks ahead in a world whose rules it knows: CartPole, tic-tac-toe, Pendulum, all environments with tables.

    Needs no training: the commands that need a checkpoint of other agents take a config of this one.

    Args:
        env: environment recipe, or its id.
        data: rollouts to look back at.
        search: how.
        simulations: before each action; what earlier searches have left counts.
        rollouts: of (2), from each new node.
        rollout_steps: of one at most; 0 leaves them out, and new nodes are worth 0.
        reuse: keep what was found below the action taken.
        gamma: γ of (3), and of returns in plots.
        evaluation: episodes played at each validation.
    """

    learns = False
    action_spaces = ("Discrete", "Box")
    observation_spaces = ("Box", "Discrete", "Dict")
    policy: RolloutSearchPolicy

    def __init__(
        self,
        env: Env | str,
        data: Rollouts = Rollouts(steps=50, steps_per_epoch=1_000),
        search: Search = TreeSearch(),
        simulations: int = 100,
        rollouts: int = 1,
        rollout_steps: int = 50,
        reuse: bool = True,
        gamma: float = 0.99,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, Optimizer(lr=1.0, name="sgd"), gamma, evaluation)
        self.require(simulations >= 1, "simulations", simulations, "at least one is needed")
        self.require(rollouts >= 1, "rollouts", rollouts, "it counts them, from 1; rollout_steps 0 leaves them out")
        self.require(rollout_steps >= 0, "rollout_steps", rollout_steps, "it counts steps, from 0")
        world = world_of(self.env)
        widens = isinstance(search, TreeSearch) and search.widening is not None
        rule = "needs widening: its actions cannot be listed" if world.continuous else "lists its actions: no widening"
        self.require(
            widens == world.continuous, "search.widening", getattr(search, "widening", None), f"{self.env.id} {rule}"
        )
        self.require(not (widens and reuse), "reuse", reuse, "proposed actions are not remembered: false with widening")
        self.policy = RolloutSearchPolicy(world, search, simulations, gamma, reuse, rollouts, rollout_steps)

    def minibatches(self, data: Rollout) -> Iterator[Rollout]:
        """The rollout as it is."""
        yield data

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Nothing to learn."""
        return {}

    @torch.no_grad()
    def update(self, minibatch: Rollout) -> None:
        """Look back at a rollout; nothing changes."""
        self.policy.count(updates=1)
        self.record(reward=minibatch.reward.mean())
