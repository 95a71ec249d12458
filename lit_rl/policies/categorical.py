"""Policies over finitely many actions: one choice, several choices, or several switches."""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.batch import Observation
from lit_rl.functional.distributions import (
    bernoulli_entropy,
    bernoulli_kl,
    bernoulli_log_prob,
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    multi_categorical_entropy,
    multi_categorical_kl,
    multi_categorical_log_prob,
)
from lit_rl.nn.network import BuiltBody
from lit_rl.policies.network import NetworkPolicy, legal_actions

TINY = np.finfo(np.float32).tiny


def sample_logits(
    logits: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator, explore: bool
) -> tuple[np.ndarray, np.ndarray]:
    """One action per row of logits [N, A] by an exponential race, with its log-probability [N].

    argmax_a (logit_a − log E_a), E_a ~ Exp(1), is distributed as softmax(logits): the Gumbel trick.
    """
    if mask is not None:
        logits = np.where(mask, logits, -np.inf).astype(np.float32)
    shifted = logits - logits.max(-1, keepdims=True)
    if explore:
        race = rng.standard_exponential(logits.shape, dtype=np.float32)
        np.maximum(race, TINY, out=race)  # one draw in eight million is 0, which would win even where illegal
        action = np.subtract(shifted, np.log(race, out=race), out=race).argmax(-1)
    else:
        action = shifted.argmax(-1)
    chosen = shifted[np.arange(len(action)), action]
    return action, chosen - np.log(np.exp(shifted).sum(-1))


class CategoricalPolicy(NetworkPolicy):
    """π(a|s) = softmax(head(body(s)))ₐ over the legal actions of a Discrete space."""

    def __init__(self, body: BuiltBody, head: nn.Module, space: gymnasium.spaces.Discrete) -> None:
        super().__init__(body, head)
        self.actions = int(space.n)

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """See :meth:`NetworkPolicy.choose`."""
        return sample_logits(outputs, legal_actions(obs), rng, explore)

    def log_prob(self, outputs: Tensor, obs: Observation, action: Tensor) -> Tensor:
        """log π(a|s) [B] of actions [B], given the logits [B, A]."""
        return categorical_log_prob(outputs, action, legal_actions(obs))

    def entropy(self, outputs: Tensor, obs: Observation) -> Tensor:
        """Entropy [B] in nats, given the logits [B, A]."""
        return categorical_entropy(outputs, legal_actions(obs))

    def distribution(self, outputs: Tensor) -> Tensor:
        """All that determines π(·|s) [B, P]: the logits."""
        return outputs

    def kl(self, p: Tensor, q: Tensor, obs: Observation) -> Tensor:
        """KL(p‖q) [B] of distributions [B, P] of the same observations."""
        return categorical_kl(p, q, legal_actions(obs))

    def greedy(self, obs: Observation) -> Tensor:
        """See :meth:`NetworkPolicy.greedy`."""
        return best_action(self.outputs(obs), legal_actions(obs))


class MultiCategoricalPolicy(NetworkPolicy):
    """Independent softmax choices, one per block of a MultiDiscrete space; a mask holds all blocks side by side."""

    def __init__(self, body: BuiltBody, head: nn.Module, space: gymnasium.spaces.MultiDiscrete) -> None:
        super().__init__(body, head)
        self.blocks = [int(n) for n in space.nvec]

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """See :meth:`NetworkPolicy.choose`."""
        edges = np.cumsum(self.blocks)[:-1]
        mask = legal_actions(obs)
        masks = [None] * len(self.blocks) if mask is None else np.split(mask, edges, axis=-1)
        parts = [
            sample_logits(logits, legal, rng, explore)
            for logits, legal in zip(np.split(outputs, edges, axis=-1), masks, strict=True)
        ]
        return np.stack([action for action, _ in parts], axis=-1), np.sum([log_prob for _, log_prob in parts], axis=0)

    def log_prob(self, outputs: Tensor, obs: Observation, action: Tensor) -> Tensor:
        """log π(a|s) [B] of actions [B, blocks], given all logits side by side [B, Σ nvec]."""
        return multi_categorical_log_prob(outputs, action, self.blocks, legal_actions(obs))

    def entropy(self, outputs: Tensor, obs: Observation) -> Tensor:
        """Entropy [B] in nats, summed over the choices."""
        return multi_categorical_entropy(outputs, self.blocks, legal_actions(obs))

    def distribution(self, outputs: Tensor) -> Tensor:
        """All that determines π(·|s) [B, P]: the logits."""
        return outputs

    def kl(self, p: Tensor, q: Tensor, obs: Observation) -> Tensor:
        """KL(p‖q) [B] of distributions [B, P] of the same observations."""
        return multi_categorical_kl(p, q, self.blocks, legal_actions(obs))

    def greedy(self, obs: Observation) -> Tensor:
        """See :meth:`NetworkPolicy.greedy`."""
        mask = legal_actions(obs)
        parts = self.outputs(obs).split(self.blocks, dim=-1)
        masks = [None] * len(parts) if mask is None else mask.split(self.blocks, dim=-1)
        return torch.stack([best_action(logits, legal) for logits, legal in zip(parts, masks, strict=True)], dim=-1)


class BernoulliPolicy(NetworkPolicy):
    """Independent switches of a MultiBinary space of any shape: π(aᵢ = 1|s) = sigmoid(outputᵢ)."""

    def __init__(self, body: BuiltBody, head: nn.Module, space: gymnasium.spaces.MultiBinary) -> None:
        super().__init__(body, head)
        self.shape = space.shape

    def choose(self, outputs: np.ndarray, obs: Any, rng: np.random.Generator, explore: bool) -> Any:
        """See :meth:`NetworkPolicy.choose`."""
        on = np.exp(-np.logaddexp(0.0, -outputs))
        action = (rng.random(outputs.shape, dtype=np.float32) < on) if explore else (outputs > 0)
        log_prob = -np.logaddexp(0.0, np.where(action, -outputs, outputs)).sum(-1)
        return action.astype(np.int8).reshape(outputs.shape[0], *self.shape), log_prob

    def log_prob(self, outputs: Tensor, obs: Observation, action: Tensor) -> Tensor:
        """log π(a|s) [B] of switches [B, *shape], given the logits [B, A]."""
        return bernoulli_log_prob(outputs, action.reshape(outputs.shape))

    def entropy(self, outputs: Tensor, obs: Observation) -> Tensor:
        """Entropy [B] in nats, summed over the switches."""
        return bernoulli_entropy(outputs)

    def distribution(self, outputs: Tensor) -> Tensor:
        """All that determines π(·|s) [B, P]: the logits."""
        return outputs

    def kl(self, p: Tensor, q: Tensor, obs: Observation) -> Tensor:
        """KL(p‖q) [B] of distributions [B, P] of the same observations."""
        return bernoulli_kl(p, q)

    def greedy(self, obs: Observation) -> Tensor:
        """See :meth:`NetworkPolicy.greedy`."""
        outputs = self.outputs(obs)
        return (outputs > 0).to(torch.int8).reshape(outputs.shape[0], *self.shape)


def best_action(values: Tensor, mask: Tensor | None) -> Tensor:
    """argmax over the legal entries of values [B, A]: [B]."""
    return (values if mask is None else values.masked_fill(~mask, -torch.inf)).argmax(-1)
