"""Value iteration.

Paper    Bellman 1957; Sutton & Barto 2018, section 4.4.       Formula sheet: 6.0a, 6.1.3a, 3.4a
Update   Q(s, a) ← Q + α [r(s, a) + γ Σ_s' p(s'|s, a) max_a' Q(s', a') − Q]     (1)
Data     KnownModel: the environment's own tables; one update is one sweep over all (s, a).
Differs  α < 1 takes part of a sweep's step. Terminal states are worth 0 whatever the tables say.
"""

from jaxtyping import Float
from torch import Tensor

from lit_rl.algorithms.tabular.table_agent import TableAgent
from lit_rl.data.episodes import Episodes
from lit_rl.data.known_model import KnownModel
from lit_rl.envs.recipe import Env
from lit_rl.planning.evaluation import action_value
from lit_rl.planning.model import Model
from lit_rl.policies.table import TablePolicy


def bellman_target(model: Model, q: Float[Tensor, "S A"], gamma: float) -> Float[Tensor, "S A"]:
    """The bracket of (1) without −Q."""
    return action_value(model, q.amax(-1), gamma)


class ValueIteration(TableAgent):
    """Sweeps the Bellman optimality operator; the error shrinks by γ each time.

    Args:
        env: environment recipe, or its id: a finite MDP, or FrozenLake, Taxi, CliffWalking.
        data: how many sweeps.
        gamma: discount per step; 1 is right where every episode ends.
        step_size: α.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy

    def __init__(
        self,
        env: Env | str,
        data: KnownModel = KnownModel(),
        gamma: float = 0.99,
        step_size: float = 1.0,
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation, step_size)
        self.require(0 < step_size <= 1, "step_size", step_size, "a sweep's step lies in (0, 1]")
        self.step_size = step_size
        self.policy = TablePolicy(self.env.observation_space, self.actions)

    def sweep(self, data: Model) -> dict[str, float]:
        """(1)."""
        q = self.policy.q
        change = bellman_target(data, q, self.gamma) - q  # (1)
        q.add_(change, alpha=self.step_size)
        value = q.amax(-1)
        return {"residual": float(change.abs().max()), "start_value": float(data.initial @ value)}
