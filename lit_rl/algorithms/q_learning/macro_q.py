"""Q-learning over sequences of actions (MacroQ).

Paper    Sutton, Precup & Singh 1999 (open-loop options); van Hasselt, Guez & Silver 2016 for (1).
         Formula sheet: 7.4.3a F4, 7.4.1a, 7.1b, 7.3.1a, 7.6a
Update   q(s_t, a_t … a_{t+n−1}) values n actions taken in a row, whatever is seen on the way.
         b*   = argmax_{b_1…b_n} q(s_{t+n}, b; θ), or of q(·; θ⁻)              (1)
         y    = Σ_{k<n} γᵏ r_{t+k} + γⁿ q(s_{t+n}, b*; θ⁻)                    (2)
         L(θ) = mean huber(q(s_t, a_t … a_{t+n−1}; θ) − y)                    (3)
         Every sequence is valid off-policy, as all its actions are inputs: nothing to correct.
Data     Replay of windows of n = ``data.window`` steps; act by the first action of the best sequence, look again.
Differs  The actions after a terminal state inside a window are drawn at random: nothing follows them. Windows
         that a time limit or the newest row cuts short are left out. b* begins with a legal action; what is legal
         after it is not known. The value is that of the open-loop problem: ≤ V*, equal where the dynamics are
         deterministic. Aⁿ outputs: for few actions and short sequences. Most of them are seldom played, and their
         maximum overestimates more than that of A: hence the first form of (1).
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import select, unstack
from lit_rl.data.episodes import Episodes
from lit_rl.data.windows import Window, WindowReplay
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, double_q_value
from lit_rl.functional.multi_step import multi_step_target
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.optimizer import Optimizer
from lit_rl.policies.action_values import MacroActionPolicy
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions

MOST_OUTPUTS = 4096


def sequence_index(action: Int[Tensor, "B L"], actions: int) -> Int[Tensor, " B"]:
    """Place of a sequence among the Aᴸ outputs: the first action counts most."""
    weight = actions ** torch.arange(action.shape[1] - 1, -1, -1, device=action.device)
    return (action * weight).sum(-1)


@torch.no_grad()
def macro_target(
    reward: Float[Tensor, "B L"],
    discount: Float[Tensor, "B L"],
    valid: Bool[Tensor, "B L"],
    next_value: Float[Tensor, " B"],
) -> tuple[Float[Tensor, " B"], Bool[Tensor, " B"]]:
    """y of (2) and which windows count: whole ones, and those that a terminal state ends.

    Args:
        reward, discount, valid: of the L steps; ``discount`` is γ(1 − terminated).
        next_value: q(s_{t+n}, b*; θ⁻), of the state after the window; unused where it ended before.
    """
    whole = valid[:, -1]
    last = valid.sum(-1, keepdim=True) - 1  # row of the last step
    terminated = discount.gather(1, last).squeeze(1) == 0
    value = next_value.new_zeros(reward.shape)
    value[:, -1] = next_value  # read only by windows that go on to their last row
    return multi_step_target(reward, discount, value, valid), whole | terminated


def any_actions(like: Int[Tensor, "B L"], actions: int, mask: Bool[Tensor, "B A"] | None) -> Int[Tensor, "B L"]:
    """Actions at random, of those that are legal in the window's first state: the others it would never play."""
    if mask is None:
        return torch.randint_like(like, actions)
    drawn = torch.rand(*like.shape, actions, device=like.device)
    return drawn.masked_fill(~mask[:, None], -1.0).argmax(-1)


class MacroQ(ActionValueAgent):
    """Learns the values of sequences of actions, and replans after each step.

    Args:
        env: environment recipe, or its id.
        data: windows of transitions; their length is that of the sequences.
        net: the network, with Aⁿ outputs.
        optimizer: how parameters move.
        gamma: discount per step.
        exploration: how it acts on the values of first actions.
        target: how θ⁻ follows θ.
        huber_delta: where the loss turns from quadratic to linear.
        double: whether the network that learns selects b*, as in double DQN.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    policy: MacroActionPolicy

    def __init__(
        self,
        env: Env | str,
        data: WindowReplay = WindowReplay(100_000, batch_size=128, replay_ratio=0.1, warmup=1_000, window=2),
        net: QNetwork = QNetwork(),
        optimizer: Optimizer = Optimizer(lr=2.5e-4, max_grad_norm=10.0),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonGreedy(),
        target: TargetUpdate = TargetUpdate(),
        huber_delta: float = 1.0,
        double: bool = True,
        evaluation: Episodes = Episodes(),
    ) -> None:
        self.window = data.window
        super().__init__(env, data, net, optimizer, gamma, exploration, target, evaluation)
        self.require(huber_delta > 0, "huber_delta", huber_delta, "it is positive")
        self.require(gamma > 0, "gamma", gamma, "at 0 a terminal step is not told from others; use DQN")
        self.huber_delta, self.selects_itself = huber_delta, double

    def build_policy(self, net: QNetwork, exploration: Exploration) -> MacroActionPolicy:
        """One output for each sequence."""
        outputs = self.actions**self.window
        rule = f"{self.actions} actions give {outputs} sequences, more than {MOST_OUTPUTS}"
        self.require(outputs <= MOST_OUTPUTS, "data.window", self.window, rule)
        body, head = net.build(self.env.observation_space, outputs)
        return MacroActionPolicy(body, head, exploration, self.actions)  # type: ignore[arg-type]

    def minibatches(self, data: Window) -> Iterator[Window]:
        """One per update; the first step of each window counts in the normaliser, where there is one."""
        if len(data.valid):
            self.policy.body.update_statistics(select(data.steps.obs, np.s_[:, :, 0]))
        yield from unstack(data)

    def loss(self, batch: Window) -> dict[str, Tensor]:
        """(1)-(3)."""
        steps, valid = batch
        first, after = select(steps.obs, np.s_[:, 0]), select(steps.next_obs, np.s_[:, -1])
        with torch.no_grad():
            next_q, mask = self.q_target(after), legal_actions(after)
            if mask is not None:  # of each sequence's first action
                mask = mask.repeat_interleave(next_q.shape[-1] // self.actions, -1)
            selecting = self.policy.outputs(after) if self.selects_itself else next_q
            next_value = double_q_value(selecting, next_q, mask)  # (1)
            y, counts = macro_target(steps.reward, steps.discount, valid, next_value)  # (2)
            filled = torch.where(valid, steps.action, any_actions(steps.action, self.actions, legal_actions(first)))
        q = chosen(self.policy.outputs(first), sequence_index(filled, self.actions))
        error = torch.nn.functional.huber_loss(q, y, reduction="none", delta=self.huber_delta)
        weight = counts / counts.sum().clamp(min=1)
        self.record(q=q, td_error=((q.detach() - y).abs() * weight).sum())
        return {"td_loss": (weight * error).sum()}  # (3)
