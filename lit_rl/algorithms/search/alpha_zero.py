"""A value and a prior learnt from one's own searches (AlphaZero).

Paper    Silver et al. 2017 (AlphaGo Zero), Methods; Silver et al. 2018.       Formula sheet: H13, 9.0.3a
Update   (p, v) = f_θ(s);  searches from s go down by argmax_a Q(a) + c p(a) √N / (1 + N(a)), leaves are worth v   (1)
         π(a) ∝ N(a);  moves of self-play are drawn from π, then the most visited ones, until z is known            (2)
         L(θ) = (z − v)² − πᵀ log p + λ‖θ‖²                                                                          (3)
Data     Self-play: every move is searched for by the network of the moment, with noise on the priors of the root.
Differs  A small network without convolution, symmetries of the board are left to it, Adam for SGD with momentum; every
         tree begins anew. The network always plays, as in AlphaZero: there is no match against an older one.
"""

from collections.abc import Iterator

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.self_play import Lessons, SelfPlay
from lit_rl.envs.recipe import Env
from lit_rl.nn.body import MLP, Body
from lit_rl.nn.mlp import VALUE_GAIN, linear_head
from lit_rl.optimizer import Optimizer
from lit_rl.planning.tree_rules import PUCT
from lit_rl.planning.tree_search import TreeSearch
from lit_rl.planning.worlds import world_of
from lit_rl.policies.network_search import NetworkSearchPolicy


def value_loss(value: Float[Tensor, " B"], outcome: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """(z − v)² per position, (3)."""
    return (outcome - value).square()


def prior_loss(
    logits: Float[Tensor, "B A"], policy: Float[Tensor, "B A"], legal: Bool[Tensor, "B A"]
) -> Float[Tensor, " B"]:
    """−πᵀ log p per position, (3); p is a softmax over the legal moves, and π is 0 elsewhere."""
    logits = torch.where(legal, logits, torch.finfo(logits.dtype).min)
    return -(policy * logits.log_softmax(-1)).sum(-1)


class AlphaZero(Agent):
    """Learns a game of two players from its rules alone, against itself.

    Validation plays the environment's opponent, with searches.

    Args:
        env: a game that a search knows, or its id; ``num_envs`` games are played side by side.
        data: how it plays against itself.
        net: body of the network, without memory.
        optimizer: how parameters move.
        simulations: before each move.
        exploration: c of (1).
        penalty: λ of (3).
        gamma: discount per move, of z and in searches.
        evaluation: games played at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Dict",)
    policy: NetworkSearchPolicy

    def __init__(
        self,
        env: Env | str,
        data: SelfPlay = SelfPlay(),
        net: Body = MLP((128, 128), "relu"),
        optimizer: Optimizer = Optimizer(lr=1e-3),
        simulations: int = 50,
        exploration: float = 1.25,
        penalty: float = 1e-4,
        gamma: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(simulations >= 2, "simulations", simulations, "two at least, or all moves were equal")
        self.require(exploration > 0, "exploration", exploration, "it is positive")
        self.require(penalty >= 0, "penalty", penalty, "it is 0 or positive")
        world, shown = world_of(self.env), self.env.observation_space
        self.require(world.two_players, "env", self.env.id, "self-play is for games of two players")
        assert isinstance(shown, spaces.Dict)
        body = net.build(shown["observation"])
        self.require(not body.state_size, "net", net, "positions have no order: use a body without memory")
        gain = VALUE_GAIN if net.head_is_orthogonal else None
        head = linear_head(body.out_features, world.actions_at_most + 1, gain)
        search = TreeSearch(PUCT(exploration), value_range=(-1.0, 1.0))
        self.penalty = penalty
        self.policy = NetworkSearchPolicy(world, search, simulations, gamma, body, head)

    def minibatches(self, data: Lessons) -> Iterator[Lessons]:
        """One per update."""
        yield from unstack(data)

    def loss(self, batch: Lessons) -> dict[str, Tensor]:
        """(3)."""
        logits, value = self.policy.outputs(batch.board)
        size = sum(parameter.square().sum() for parameter in self.policy.parameters())
        return {
            "value_loss": value_loss(value, batch.outcome).mean(),
            "policy_loss": prior_loss(logits, batch.policy, batch.legal).mean(),
            "penalty": self.penalty * torch.as_tensor(size),
        }
