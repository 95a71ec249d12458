"""Maximum entropy inverse reinforcement learning (MaxEnt IRL), causal and by messages.

Paper    Ziebart et al. 2008; Ziebart 2010 for the causal form.       Formula sheet: 16.0.2a, 16.0.3a, 16.0.3b, G15
Update   r_ψ(s, a) = ψ·f(s, a)                                                              (1)
         causal:    π_t = soft-optimal for r_ψ in the true dynamics, μ_t(s, a) = d_t(s) π_t(a|s)   (2)
         messages:  μ_t(s, a) ∝ α_t(s) β_t(s, a), the posterior given optimality                  (3)
         ∇L = Σ_t γᵗ Σ_{s,a} [μ_E,t(s, a) − μ_t(s, a)] f(s, a);  ψ ascends ∇L/T − w ψ              (4)
Data     Demonstrations: the expert's visits, and the dynamics of the world; the reward is never read.
Differs  γ weighs the steps of both sides. (3) is right for deterministic dynamics and a single start; elsewhere it
         thinks the expert lucky, and is there for comparison. The agent acts by the policy with T steps to go.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.data.demonstrations import Demonstrations, Expert
from lit_rl.data.episodes import Episodes
from lit_rl.envs.recipe import Env
from lit_rl.optimizer import Optimizer
from lit_rl.planning.inference import pair_posterior, posterior_policy, soft_horizon_values
from lit_rl.planning.model import Model
from lit_rl.planning.occupancy import state_marginals
from lit_rl.policies.table import TablePolicy, count_states


def expected_visits(
    model: Model, horizon: int, gamma: float, mode: Literal["causal", "messages"]
) -> tuple[Float[Tensor, "T S A"], Float[Tensor, "T S A"]]:
    """(2) or (3): μ_t, and Q_t of the policy behind it, for the reward of ``model``."""
    q = soft_horizon_values(model, horizon, 1.0, gamma=gamma).q
    if mode == "messages":
        return pair_posterior(model, horizon), q
    policy = posterior_policy(q, 1.0)
    return state_marginals(model, policy, horizon).unsqueeze(-1) * policy, q  # (2)


def irl_gradient(expert: Float[Tensor, "T S A"], model: Float[Tensor, "T S A"], gamma: float) -> Float[Tensor, "S A"]:
    """(4) for a feature per pair, divided by T: of the log-likelihood per step."""
    powers = gamma ** torch.arange(len(expert), dtype=torch.float64, device=expert.device)
    return (powers[:, None, None] * (expert - model)).mean(0)


class MaxEntIRL(Agent):
    """Finds a reward for which the expert is soft-optimal; it is one of many, equal up to shaping.

    Args:
        env: environment recipe, or its id: a finite MDP, or FrozenLake, Taxi, CliffWalking.
        data: demonstrations.
        optimizer: how ψ moves.
        gamma: weight per step.
        mode: ``causal``, or ``messages``.
        features: one per ``state``, or per ``pair`` (s, a).
        weight_decay: w.
        evaluation: greedy episodes under the true reward, at each validation.
    """

    action_spaces = ("Discrete",)
    observation_spaces = ("Discrete",)
    policy: TablePolicy

    def __init__(
        self,
        env: Env | str,
        data: Demonstrations = Demonstrations(),
        optimizer: Optimizer = Optimizer(lr=0.1),
        gamma: float = 1.0,
        mode: Literal["causal", "messages"] = "causal",
        features: Literal["state", "pair"] = "state",
        weight_decay: float = 0.0,
        evaluation: Episodes = Episodes(max_steps=1_000),
    ) -> None:
        super().__init__(env, data, optimizer, gamma, evaluation)
        self.require(mode in ("causal", "messages"), "mode", mode, "it is causal or messages")
        self.require(mode == "causal" or gamma == 1, "gamma", gamma, "messages know no discount: 1")
        self.require(features in ("state", "pair"), "features", features, "it is state or pair")
        self.require(weight_decay >= 0, "weight_decay", weight_decay, "it is 0 or positive")
        self.mode, self.weight_decay = mode, weight_decay
        states, actions = count_states(self.env.observation_space), int(self.env.action_space.n)  # type: ignore[attr-defined]
        self.psi = torch.nn.Parameter(torch.zeros(states, actions if features == "pair" else 1, dtype=torch.float64))
        self.policy = TablePolicy(self.env.observation_space, actions, temperature=1.0)

    def minibatches(self, data: Expert) -> list[Expert]:
        """One update."""
        return [data]

    def reward(self) -> Float[Tensor, "S A"]:
        """(1)."""
        return self.psi.detach().expand_as(self.policy.q)

    def loss(self, batch: Expert) -> dict[str, Tensor]:
        """−ψ·∇L/T, whose gradient is that of (4)."""
        model = batch.model._replace(reward=self.reward())
        visits, q = expected_visits(model, len(batch.visits), self.gamma, self.mode)
        self.policy.q.copy_(q[0])
        gradient = irl_gradient(batch.visits, visits, self.gamma)  # (4)
        log_prob = posterior_policy(q, 1.0).log()
        gap = (batch.visits - visits).mean(0).abs().max()
        self.record(occupancy_gap=gap, log_likelihood=(batch.visits * log_prob).sum((1, 2)).mean())
        decay = 0.5 * self.weight_decay * self.psi.square().sum()
        return {"irl_loss": -(gradient * self.psi).sum(), "decay_loss": decay}
