"""Soft value iteration.

Paper    Ziebart 2010; Levine 2018, "Reinforcement Learning and Control as Probabilistic Inference", 2-3.
         Formula sheet: 15.5a, 15.2.2a, 15.3a
Update   Q(s, a) ← r(s, a) + γ Σ_s' p(s'|s, a) V(s')                              (1)
         V(s)   ← α log Σ_a p(a|s) exp(Q(s, a)/α), p = 1 without a prior          (2)
         π(a|s) = p(a|s) exp((Q(s, a) − V(s))/α)                                  (3)
Data     KnownModel: the environment's own tables; one update is one sweep over all (s, a).
Differs  nothing: the expectation in (1) is that of the true dynamics, so that no luck is taken for skill.
"""

from typing import Literal

from torch import Tensor

from lit_rl.algorithms.tabular.table_agent import TableAgent
from lit_rl.data.episodes import Episodes
from lit_rl.data.known_model import KnownModel
from lit_rl.envs.recipe import Env
from lit_rl.planning.evaluation import action_value
from lit_rl.planning.inference import soft_maximum, uniform_prior
from lit_rl.planning.model import Model
from lit_rl.policies.table import TablePolicy


def soft_target(model: Model, q: Tensor, gamma: float, temperature: float, prior: Tensor | None) -> Tensor:
    """(1) of the values (2) of q [S, A]."""
    return action_value(model, soft_maximum(q, temperature, prior), gamma)


class SoftValueIteration(TableAgent):
    """Plans for return plus entropy; acts by (3), and greedily where it does not explore.

    Args:
        env: environment recipe, or its id: a finite MDP, or FrozenLake, Taxi, CliffWalking.
        data: how many sweeps.
        gamma: discount per step.
        temperature: α, in units of reward.
        prior: over actions; ``none`` counts every action once, so that values grow by α log A per step,
            ``uniform`` weighs each 1/A. Where episodes end, the two give different policies.
        evaluation: episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy

    def __init__(
        self,
        env: Env | str,
        data: KnownModel = KnownModel(),
        gamma: float = 0.99,
        temperature: float = 0.01,
        prior: Literal["none", "uniform"] = "none",
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, gamma, evaluation)
        self.require(temperature > 0, "temperature", temperature, "it is positive; ValueIteration is its limit at 0")
        self.require(prior in ("none", "uniform"), "prior", prior, "it is none or uniform")
        self.temperature, self.prior = temperature, prior
        self.policy = TablePolicy(self.env.observation_space, self.actions, temperature=temperature)

    def sweep(self, data: Model) -> dict[str, float]:
        """(1)-(2)."""
        q, prior = self.policy.q, uniform_prior(data) if self.prior == "uniform" else None
        target = soft_target(data, q, self.gamma, self.temperature, prior)
        residual = float((target - q).abs().max())
        q.copy_(target)
        value = soft_maximum(q, self.temperature, prior)
        return {"residual": residual, "start_value": float(data.initial @ value)}
