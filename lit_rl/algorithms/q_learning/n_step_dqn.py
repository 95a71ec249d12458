"""n-step deep Q-learning with corrections for off-policy data (NStepDQN).

Paper    Munos et al. 2016, "Safe and efficient off-policy reinforcement learning"; Precup et al. 2000;
         Harutyunyan et al. 2016; Hessel et al. 2018.       Formula sheet: 7.4.2a, 7.4.3a, 7.3.1a, 7.6a
Update   V(s)  = Σ_a π(a|s) q(s, a; θ⁻),  π greedy, or ε-greedy with ``target_epsilon``            (1)
         ignore        y = Σ_{k<n} γᵏ r_k + γⁿ V(s_n)                                               (2)
         cut           as (2), n ending before the first action that is not greedy                  (3)
         importance    y = r_0 + Σ_{k≥1} γᵏ ρ_{1…k} r_k + γⁿ ρ_{1…n−1} V(s_n),  ρ = π/μ             (4)
         traces        y = q(s_0, a_0; θ⁻) + Σ_k γᵏ c_{1…k} (r_k + γ V(s_{k+1}) − q(s_k, a_k; θ⁻)),
                       c = λ min(1, π/μ) (retrace), λ π (tree_backup) or λ (q_lambda)               (5)
         L(θ)  = mean huber(q(s_0, a_0; θ) − y)                                                     (6)
Data     Replay of windows of L = ``data.window`` steps, with the probabilities μ of what acted.
Differs  π is read off the slow copy θ⁻, so that V and π belong together. n ends with the window, the episode
         or the newest row. γᵏ stands for the product of the discounts.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import select, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.windows import Window, WindowReplay
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, epsilon_greedy_probabilities, legal_values
from lit_rl.functional.multi_step import multi_step_target, trace_coefficient, traced_target
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions

Correction = Literal["ignore", "cut", "importance", "retrace", "tree_backup", "q_lambda"]


@torch.no_grad()
def corrected_target(
    correction: Correction,
    window: Window,
    q: Float[Tensor, "B L A"],
    next_q: Float[Tensor, "B L A"],
    lam: float = 1.0,
    epsilon: float = 0.0,
) -> Float[Tensor, " B"]:
    """y of (1)-(5) for windows [B, L], from the values of their states and of the states that follow.

    Args:
        correction: which of (2)-(5).
        window: the data.
        q: q(s_k, ·), of the network that gives targets.
        next_q: q(s_{k+1}, ·), of the same.
        lam: λ of (5).
        epsilon: of the target policy π; 0 is greedy.
    """
    steps, valid = window
    mask, next_mask = legal_actions(steps.obs), legal_actions(steps.next_obs)
    next_pi = epsilon_greedy_probabilities(next_q, epsilon, next_mask)
    next_value = (next_pi * legal_values(next_q, next_mask)).sum(-1)  # (1)
    if correction == "ignore":
        return multi_step_target(steps.reward, steps.discount, next_value, valid)  # (2)
    if correction == "cut":
        greedy = steps.action == legal_values(q, mask).argmax(-1)
        return multi_step_target(steps.reward, steps.discount, next_value, valid, goes_on=greedy)  # (3)
    probability = chosen(epsilon_greedy_probabilities(q, epsilon, mask), steps.action)
    if correction == "importance":
        ratio = probability * (-steps.log_prob).exp()
        return multi_step_target(steps.reward, steps.discount, next_value, valid, ratio=ratio)  # (4)
    coefficient = trace_coefficient(correction, probability, steps.log_prob, lam)
    return traced_target(chosen(q, steps.action), steps.reward, steps.discount, next_value, valid, coefficient)  # (5)


class NStepDQN(ActionValueAgent):
    """DQN with n-step targets, and a choice of what to do about actions that π would not have taken.

    Args:
        env: environment recipe, or its id.
        data: windows of transitions.
        net: the Q-network.
        optimizer: how parameters move.
        gamma: discount per step.
        exploration: how it acts on its values.
        target: how θ⁻ follows θ.
        correction: of (2)-(5).
        lam: λ of the traces.
        target_epsilon: of the policy whose values are learnt; 0 learns those of the greedy one.
        huber_delta: where the loss turns from quadratic to linear.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)

    def __init__(
        self,
        env: Env | str,
        data: WindowReplay = WindowReplay(100_000, batch_size=128, replay_ratio=0.1, warmup=1_000, window=3),
        net: QNetwork = QNetwork(),
        optimizer: Optimizer = Optimizer(lr=2.5e-4, max_grad_norm=10.0),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonGreedy(),
        target: TargetUpdate = TargetUpdate(),
        correction: Correction = "retrace",
        lam: float = 1.0,
        target_epsilon: float = 0.0,
        huber_delta: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, target, evaluation)
        self.require(correction in get_args(Correction), "correction", correction, "it is one of its six names")
        self.require(0 <= lam <= 1, "lam", lam, "λ lies in [0, 1]")
        self.require(0 <= target_epsilon <= 1, "target_epsilon", target_epsilon, "a probability")
        self.require(huber_delta > 0, "huber_delta", huber_delta, "it is positive")
        self.correction, self.lam, self.target_epsilon, self.huber_delta = correction, lam, target_epsilon, huber_delta

    def minibatches(self, data: Window) -> Iterator[Window]:
        """One per update; the first step of each window counts in the normaliser, where there is one."""
        if len(data.valid):
            self.policy.body.update_statistics(select(data.steps.obs, np.s_[:, :, 0]))
        yield from unstack(data)

    def loss(self, batch: Window) -> dict[str, Tensor]:
        """(1)-(6)."""
        steps = batch.steps
        with torch.no_grad():
            q_slow, next_q = self.q_target(steps.obs), self.q_target(steps.next_obs)
            y = corrected_target(self.correction, batch, q_slow, next_q, self.lam, self.target_epsilon)
        q = chosen(self.policy.outputs(select(steps.obs, np.s_[:, 0])), steps.action[:, 0])
        self.record(q=q, td_error=(q.detach() - y).abs())
        return {"td_loss": torch.nn.functional.huber_loss(q, y, delta=self.huber_delta)}  # (6)
