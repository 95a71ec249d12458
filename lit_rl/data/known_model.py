"""The tables of a finite environment, as the data of agents that plan with them."""

from dataclasses import dataclass
from typing import Any

from lit_rl.bounds import refuse_below
from lit_rl.data.experience import Experience, Round
from lit_rl.envs.finite_mdp import finite_mdp_of
from lit_rl.envs.recipe import Env
from lit_rl.policies.policy import Policy


@dataclass(frozen=True)
class KnownModel:
    """Recipe of sweeps over a model that is known. A sweep counts as one environment step, and no step is taken.

    Args:
        steps_per_epoch: sweeps in an epoch.
        steps_per_batch: sweeps handed to the trainer at once; bookkeeping, without influence on the result.
    """

    steps_per_epoch: int = 100
    steps_per_batch: int = 10

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps_per_epoch", "steps_per_batch")

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Sweeps in an epoch."""
        return self.steps_per_epoch

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "KnownModelExperience":
        """Read the tables of the environment.

        Raises:
            ValueError: it has none.
        """
        return KnownModelExperience(self, env)


class KnownModelExperience(Experience):
    """One round is a :class:`lit_rl.planning.model.Model`, the same every time."""

    def __init__(self, recipe: KnownModel, env: Env) -> None:
        super().__init__(recipe.steps_per_epoch, recipe.steps_per_batch)
        opened = env.make_one()
        try:
            self.model = finite_mdp_of(opened).model()
        finally:
            opened.close()

    def next_round(self) -> Round:
        """The model."""
        return Round(self.model, 1)

    def statistics(self) -> dict[str, float]:
        """None: nothing is collected."""
        return {}

    def snapshot(self) -> dict[str, Any]:
        """Nothing: the model is read from the environment each time."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def close(self) -> None:
        """Nothing is open."""
