"""Deep recurrent Q-network (RecurrentDQN).

Paper    Hausknecht & Stone 2015, "Deep recurrent Q-learning for partially observable MDPs"; Kapturowski et al. 2019,
         "Recurrent experience replay in distributed reinforcement learning" (R2D2), 3.
         Formula sheet: 3.3a, 7.1b, 7.1c, 7.3.1a, 7.4.2a, 7.6a, H11
Update   h_t  = f(o_t, h_{t−1}; θ) from h = 0 at the first of H + L steps, without gradient through the first H     (1)
         y_t  = r_t + γ r_{t+1} + … + γᵐ(1 − terminated) q(o_{t+m}, h_{t+m−1}, a*; θ⁻),  the memory that of θ⁻,
                m = n, or fewer at the end of the episode or of the L steps; a* the best by θ⁻ and its memory, or,
                double, by θ and its memory                                                                       (2)
         δ_t  = q(o_t, h_{t−1}, a_t; θ) − y_t,   L(θ) = mean over the L steps of w huber(δ_t)                      (3)
         θ⁻  ← θ every so many updates, or θ⁻ ← (1 − τ) θ⁻ + τ θ after each                                        (4)
         p    = η max_t |δ_t| + (1 − η) mean_t |δ_t|, the priority of the sequence, η = 0.9                        (5)
Data     Replay of sequences, each with H steps of burn-in before it: act ε-greedily in q with the memory, store.
         The wrapper PreviousAction lets it see what it did, as R2D2 does.
Differs  Memories begin at zero (Hausknecht & Stone's random updates) and are warmed up (Kapturowski et al.'s burn-in);
         none is stored, so H has to outlast the net: what never sees memories older than H + L steps may read their age
         as worth (CartPole, H = 8: 5 steps before the end 20 instead of 5, with memories of a whole episode; H = 32
         cures it). At an episode's beginning there is less burn-in, and zero is right. Double (van Hasselt et al.
         2016) where asked for, as R2D2 is; rewards as they are; n-step rewards leave the exploring actions between as
         they are. w and (5) matter to a prioritised replay alone (H2). A net without a memory is allowed: it is the
         control.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lit_rl.algorithms.q_learning.action_value_agent import ActionValueAgent
from lit_rl.batch import Observation, map_tensors, select, unstack
from lit_rl.data.episodes import EpisodeResults, Episodes
from lit_rl.data.sequences import Sequence, SequenceReplay
from lit_rl.envs.recipe import Env
from lit_rl.functional.action_values import chosen, double_q_value, legal_values
from lit_rl.functional.returns import n_step_returns
from lit_rl.nn.body import MLP, Recurrent
from lit_rl.nn.q_network import QNetwork, TargetUpdate
from lit_rl.nn.recurrent import RecurrentNetwork
from lit_rl.optimizer import Optimizer
from lit_rl.policies.exploration import EpsilonGreedy, Exploration
from lit_rl.policies.network import legal_actions

MAX_SHARE = 0.9  # η


def masked_huber(
    error: Float[Tensor, "T B"],
    valid: Bool[Tensor, "T B"],
    weight: Float[Tensor, "T B"] | None = None,
    delta: float = 1.0,
) -> Float[Tensor, ""]:
    """L of (3): the mean over valid steps."""
    counted = valid if weight is None else weight * valid
    loss = torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)
    return (loss * counted).sum() / valid.sum().clamp(min=1)


def sequence_error(error: Float[Tensor, "T B"], valid: Bool[Tensor, "T B"]) -> Float[Tensor, " B"]:
    """(5), over valid steps."""
    error = error.abs() * valid
    return MAX_SHARE * error.amax(0) + (1 - MAX_SHARE) * error.sum(0) / valid.sum(0).clamp(min=1)


def last_steps(valid: Bool[Tensor, "T B"]) -> Bool[Tensor, "T B"]:
    """Where the valid steps of each column end before the column does: no sum of rewards reaches beyond."""
    after = torch.cat([valid[1:], torch.ones_like(valid[:1])])
    return valid & ~after


def first_steps(valid: Bool[Tensor, "T B"]) -> Bool[Tensor, "T B"]:
    """Where the valid steps of each column begin: there the memory is zero."""
    before = torch.cat([torch.zeros_like(valid[:1]), valid[:-1]])
    return valid & ~before


def values_after(
    body: nn.Module, head: nn.Module, obs: Observation, memory: Float[Tensor, "N S"]
) -> Float[Tensor, "N A"]:
    """q(o_t, h_{t−1}, ·) of observations [N, ...], each with the memory before it."""
    return head(body.step(obs, memory)[0] if isinstance(body, RecurrentNetwork) else body(obs))


class RecurrentDQN(ActionValueAgent):
    """DQN that remembers what it has seen.

    Args:
        env: environment recipe, or its id.
        data: sequences of transitions.
        net: the Q-network, its body with a memory.
        optimizer: how parameters move.
        gamma: discount per step.
        exploration: how it acts on its values.
        target: how θ⁻ follows θ.
        n_step: n.
        double_q: whether θ chooses the action that θ⁻ values.
        huber_delta: where the loss turns from quadratic to linear.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces = ("Discrete",)
    may_remember = True

    def __init__(
        self,
        env: Env | str,
        data: SequenceReplay = SequenceReplay(100_000, batch_size=32, replay_ratio=0.125, warmup=1_000),
        net: QNetwork = QNetwork(Recurrent(MLP((64,), "relu"), 64)),
        optimizer: Optimizer = Optimizer(lr=1e-3, max_grad_norm=10.0),
        gamma: float = 0.99,
        exploration: Exploration = EpsilonGreedy(),
        target: TargetUpdate = TargetUpdate(tau=0.01),
        n_step: int = 1,
        double_q: bool = False,
        huber_delta: float = 1.0,
        evaluation: Episodes = Episodes(),
    ) -> None:
        super().__init__(env, data, net, optimizer, gamma, exploration, target, evaluation)
        self.require(huber_delta > 0, "huber_delta", huber_delta, "it is positive")
        self.require(n_step >= 1, "n_step", n_step, "it counts rewards, from 1")
        self.n_step, self.double_q, self.huber_delta, self.burn_in = n_step, double_q, huber_delta, data.burn_in

    def minibatches(self, data: Sequence) -> Iterator[Sequence]:
        """One per update; the L steps of each count in the normaliser, where there is one."""
        if len(data.valid):
            learnt = map_tensors(
                lambda tensor: tensor[:, :, self.burn_in :][data.valid[:, :, self.burn_in :]], data.steps.obs
            )
            self.policy.body.update_statistics(learnt)
        yield from unstack(data)

    def loss(self, batch: Sequence) -> dict[str, Tensor]:
        """(1)-(3)."""
        steps, valid = map_tensors(lambda tensor: tensor.transpose(0, 1), batch)  # time first
        start, learnt = first_steps(valid), slice(self.burn_in, None)
        reward, discount, counted = steps.reward[learnt], steps.discount[learnt], valid[learnt]
        memories = self.memories(self.policy.body, steps.obs, start)  # (1)
        q = chosen(self.values(select(steps.obs, learnt), memories), steps.action[learnt])
        with torch.no_grad():
            next_obs = map_tensors(lambda tensor: tensor[learnt].flatten(0, 1), steps.next_obs)
            body, head = self.q_target.slow.children()
            next_q = values_after(body, head, next_obs, self.memories(body, steps.obs, start).flatten(0, 1))
            selecting = next_q
            if self.double_q:
                selecting = values_after(self.policy.body, self.policy.head, next_obs, memories.flatten(0, 1))
            next_value = double_q_value(selecting, next_q, legal_actions(next_obs)).view_as(reward)
            target = n_step_returns(reward, next_value, discount, last_steps(counted), n=self.n_step)  # (2)
        error = q - target
        self.experience.learnt(steps.index[self.burn_in], sequence_error(error.detach(), counted))  # (5)
        weight = None if steps.weight is None else steps.weight[learnt]
        self.record(q=(q.detach() * counted).sum() / counted.sum(), valid=counted)
        return {"td_loss": masked_huber(error, counted, weight, self.huber_delta)}  # (3)

    def memories(self, body: nn.Module, obs: Observation, start: Bool[Tensor, "T B"]) -> Float[Tensor, "L B S"]:
        """h_t of the L steps, with gradient through these alone; S = 0 without a memory."""
        if not isinstance(body, RecurrentNetwork):
            return torch.zeros(*start[self.burn_in :].shape, 0, device=start.device)
        state = torch.zeros(start.shape[1], body.state_size, device=start.device)
        if self.burn_in:
            with torch.no_grad():
                state = body.unroll(select(obs, slice(self.burn_in)), state, start[: self.burn_in])[-1]
        return body.unroll(select(obs, slice(self.burn_in, None)), state, start[self.burn_in :])

    def values(self, obs: Observation, memories: Float[Tensor, "L B S"]) -> Float[Tensor, "L B A"]:
        """q(o_t, h_{t−1}, ·; θ), from h_t or, without a memory, from o_t; (1)."""
        body, head = self.policy.body, self.policy.head
        return head(body.features(memories) if isinstance(body, RecurrentNetwork) else body(obs))

    def remembered_value(self, obs: Observation, state: Float[Tensor, "E S"]) -> Float[Tensor, " E"]:
        """max_a q(o, h, a), for the diagnostic."""
        values = values_after(self.policy.body, self.policy.head, obs, state)
        return legal_values(values, legal_actions(obs)).amax(-1)

    def validation_step(self, batch: EpisodeResults, batch_idx: int) -> None:
        """Values with the memory of each moment."""
        self.log_episodes("val", batch)
        start = self.remembered_value(batch.first_obs, torch.zeros_like(batch.final_state))
        self.log_overestimation(start, self.remembered_value(batch.final_obs, batch.final_state), batch)
