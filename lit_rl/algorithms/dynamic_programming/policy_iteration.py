"""Policy iteration.

Paper    Howard 1960; Puterman & Shin 1978 for sweeps in place of solving.   Formula sheet: 6.0a, 6.1a, 6.1.1a, 3.4a
Update   V^π = (I − γ P_π)⁻¹ r_π, or ``sweeps`` times V ← r_π + γ P_π V               (1)
         Q(s, a) = r(s, a) + γ Σ_s' p(s'|s, a) V(s')                                (2)
         π(s) ← argmax_a Q(s, a), where that gains more than 10⁻¹⁰                   (3)
Data     KnownModel: the environment's own tables; one update is one evaluation and one improvement.
Differs  nothing; a state keeps its action in a tie, so that float errors cannot cycle.
"""

import torch
from torch import Tensor

from lit_rl.algorithms.tabular.table_agent import TableAgent
from lit_rl.data.episodes import Episodes
from lit_rl.data.known_model import KnownModel
from lit_rl.envs.recipe import Env
from lit_rl.planning.evaluation import action_value, evaluate_by_sweeps, greedy, improve, policy_value
from lit_rl.planning.model import Model
from lit_rl.policies.table import TablePolicy


def evaluate(model: Model, policy: Tensor, value: Tensor, gamma: float, sweeps: int | None) -> Tensor:
    """(1): V^π [S] of π [S, A]; ``value`` is where sweeps begin."""
    if sweeps is None:
        return policy_value(model, policy, gamma)
    return evaluate_by_sweeps(model, policy, gamma, sweeps=sweeps, value=value)


class PolicyIteration(TableAgent):
    """Evaluates and improves in turn, until nothing changes: V never falls, and few rounds are enough.

    Args:
        env: environment recipe, or its id: a finite MDP, or FrozenLake, Taxi, CliffWalking.
        data: how many rounds of (1)-(3).
        gamma: discount per step, below 1 unless ``sweeps`` is given.
        sweeps: of the evaluation; null solves the linear system.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy
    pi: Tensor
    value: Tensor

    def __init__(
        self,
        env: Env | str,
        data: KnownModel = KnownModel(steps_per_epoch=5),
        gamma: float = 0.99,
        sweeps: int | None = None,
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(sweeps is None or sweeps >= 1, "sweeps", sweeps, "it counts sweeps, from 1, or null to solve")
        self.require(gamma < 1 or sweeps is not None, "gamma", gamma, "solving needs it below 1; give sweeps instead")
        self.sweeps = sweeps
        self.policy = TablePolicy(self.env.observation_space, self.actions)
        self.register_buffer("pi", greedy(self.policy.q))
        self.register_buffer("value", torch.zeros(self.states, dtype=torch.float64))

    def sweep(self, data: Model) -> dict[str, float]:
        """(1)-(3)."""
        self.value.copy_(evaluate(data, self.pi, self.value, self.gamma, self.sweeps))  # (1)
        self.policy.q.copy_(action_value(data, self.value, self.gamma))  # (2)
        better = improve(self.policy.q, self.pi)  # (3)
        changed = int((better != self.pi).any(-1).sum())
        self.pi.copy_(better)
        return {"changed_states": float(changed), "start_value": float(data.initial @ self.value)}
