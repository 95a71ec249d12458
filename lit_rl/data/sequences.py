"""Replay of sequences with what came before them, for networks with a memory."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from lit_rl.batch import Transition
from lit_rl.bounds import refuse_below
from lit_rl.data.replay import Replay, ReplayExperience
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy


class Sequence(NamedTuple):
    """H + L consecutive one-step transitions of one episode per row: H to warm a memory up with, L to learn from."""

    steps: Transition  # each field [B, H + L]
    valid: Tensor  # [B, H + L] bool: the episode may begin inside the H and end inside the L; beyond, rows repeat


@dataclass(frozen=True)
class SequenceReplay(Replay):
    """A replay memory that serves :class:`Sequence` instead of single transitions.

    The first of the L steps is drawn among all stored ones, and the H before it are those of its episode: fewer where
    it has just begun, so that drawn uniformly every step is learnt from equally often, the first ones too. Prioritised,
    a step has the priority of the sequence that it begins.

    Args:
        length: L, consecutive steps to learn from.
        burn_in: H, steps before them (Kapturowski et al. 2019).
    """

    length: int = 16
    burn_in: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "length")
        refuse_below(self, 0, "burn_in")
        if self.n_step != 1:
            raise ValueError("SequenceReplay serves single steps: leave its n_step alone")

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "SequenceExperience":
        """Open the environments and an empty memory."""
        return SequenceExperience(self, env, policy, gamma, seed, rank)


class SequenceExperience(ReplayExperience):
    """One round is some steps of every environment, then sequences [K, B, H + L] for the K updates they earn."""

    recipe: SequenceReplay

    def sample(self, updates: int) -> Any:
        """Sequences [K, B, H + L]; each step has the weight of its sequence."""
        index, weight = self.draw(updates)
        steps, valid = self.memory.windows(index, self.recipe.length, self.recipe.burn_in)
        return Sequence(
            steps if weight is None else steps._replace(weight=weight[..., None].expand(valid.shape)), valid
        )
