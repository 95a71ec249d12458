"""What an expert did in a finite world whose dynamics are known and whose reward is not."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.data.experience import Experience, Round
from lit_rl.envs.finite_mdp import FiniteMDP, finite_mdp_of
from lit_rl.envs.recipe import Env
from lit_rl.planning.inference import posterior_policy, soft_horizon_values
from lit_rl.planning.model import Model
from lit_rl.planning.occupancy import state_marginals
from lit_rl.policies.policy import Policy


class Expert(NamedTuple):
    """The data of inverse reinforcement learning."""

    model: Model  # its reward is 0; what ends stays for ever where it ended, and it begins as the expert did
    visits: Tensor  # [T, S, A], share of the demonstrations in (s, a) at step t; each step sums to 1


@dataclass(frozen=True)
class Demonstrations:
    """Recipe of demonstrations; each update sees them all. An update counts as one environment step.

    Args:
        file: written by ``lit-rl predict --output FILE.npz``; null lets an expert play that knows the reward.
        horizon: T, steps that count. A demonstration that ends before stays where it ended.
        episodes: the expert plays; null takes its exact distribution, without any sample.
        temperature: of the soft-optimal expert, in units of reward; 0 is optimal.
        steps_per_epoch: updates in an epoch.
        steps_per_batch: updates handed to the trainer at once; bookkeeping, without influence on the result.
    """

    file: str | None = None
    horizon: int = 20
    episodes: int | None = 100
    temperature: float = 0.0
    steps_per_epoch: int = 100
    steps_per_batch: int = 10

    def __post_init__(self) -> None:
        refuse_below(self, 1, "horizon", "episodes", "steps_per_epoch", "steps_per_batch")
        refuse_below(self, 0, "temperature")

    def env_steps_per_epoch(self, num_envs: int) -> int:
        """Updates in an epoch."""
        return self.steps_per_epoch

    def open(self, env: Env, policy: Policy, gamma: float, seed: int, rank: int = 0) -> "DemonstrationExperience":
        """Read the world's tables, and read or play the demonstrations.

        Raises:
            ValueError: the environment has no tables, or the file is of another one.
        """
        return DemonstrationExperience(self, env, gamma, seed)


class DemonstrationExperience(Experience):
    """One round is the :class:`Expert`, the same every time."""

    def __init__(self, recipe: Demonstrations, env: Env, gamma: float, seed: int) -> None:
        super().__init__(recipe.steps_per_epoch, recipe.steps_per_batch)
        opened = env.make_one()
        try:
            mdp = finite_mdp_of(opened).as_dense()
        finally:
            opened.close()
        model = absorbing(mdp)
        if recipe.file is not None:
            visits = read_visits(recipe.file, env.id, mdp, recipe.horizon)
        else:
            # in the absorbing world, lest the entropy of staying alive be worth more than the end
            world = model._replace(reward=mdp.model().reward)
            q = soft_horizon_values(world, recipe.horizon, recipe.temperature, gamma=gamma).q
            acts = posterior_policy(q, recipe.temperature)
            visits = state_marginals(model, acts, recipe.horizon).unsqueeze(-1) * acts
            if recipe.episodes is not None:
                visits = sample_visits(model, acts, recipe.episodes, np.random.default_rng([seed, 2]))
            visits = _indifferent_after_the_end(visits, mdp)
        self.expert = Expert(model._replace(initial=visits[0].sum(-1)), visits)

    def next_round(self) -> Round:
        """All of them."""
        return Round(self.expert, 1)

    def statistics(self) -> dict[str, float]:
        """None: nothing is collected."""
        return {}

    def snapshot(self) -> dict[str, Any]:
        """Nothing: they are read, or played again from the run's seed."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def close(self) -> None:
        """Nothing is open."""


def absorbing(mdp: FiniteMDP) -> Model:
    """The dynamics, a terminal state leading to itself, without reward."""
    transition = np.array(mdp.as_dense().transition)
    ends = np.flatnonzero(mdp.terminal)
    transition[ends] = 0.0
    transition[ends, :, ends] = 1.0
    return Model(
        torch.from_numpy(transition), torch.zeros(mdp.states, mdp.actions).double(), torch.from_numpy(mdp.initial)
    )


def sample_visits(model: Model, policies: Tensor, episodes: int, rng: np.random.Generator) -> Tensor:
    """Visits [T, S, A] of so many episodes of π_t [T, S, A]."""
    transition, acts = model.transition.numpy(), policies.numpy()  # type: ignore[union-attr]
    visits = np.zeros(acts.shape)
    state = _draw(np.broadcast_to(model.initial.numpy(), (episodes, acts.shape[1])), rng)
    for t in range(len(acts)):
        action = _draw(acts[t][state], rng)
        np.add.at(visits[t], (state, action), 1.0 / episodes)
        state = _draw(transition[state, action], rng)
    return torch.from_numpy(visits)


def read_visits(file: str, env_id: str, mdp: FiniteMDP, horizon: int) -> Tensor:
    """Visits [T, S, A] of the episodes in a file; one that was cut before ``horizon`` counts as far as it goes.

    Raises:
        ValueError: it cannot be read, or tells of another environment.
    """
    try:
        with np.load(Path(file), allow_pickle=False) as columns:
            found = json.loads(str(columns["header"]))["env"]
            episode, action = columns["episode"], columns["action"]
            state, following = (columns[k if k in columns else f"{k}.observation"] for k in ("obs", "next_obs"))
            terminated = columns["terminated"]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{file} holds no demonstrations ({error}): write them with lit-rl predict --output") from None
    if found != env_id:
        raise ValueError(f"{file} holds demonstrations of {found}, and this is {env_id}")
    visits = np.zeros((horizon, mdp.states, mdp.actions))
    for number in np.unique(episode):
        rows = np.flatnonzero(episode == number)[:horizon]
        visits[np.arange(len(rows)), state[rows], action[rows]] += 1.0
        if terminated[rows[-1]]:
            visits[len(rows) :, following[rows[-1]]] += 1.0 / mdp.actions
    return torch.from_numpy(visits / np.maximum(visits.sum((1, 2), keepdims=True), 1.0))


def _indifferent_after_the_end(visits: Tensor, mdp: FiniteMDP) -> Tensor:
    ends = torch.from_numpy(mdp.terminal)[None, :, None]
    return torch.where(ends, visits.mean(-1, keepdim=True), visits)


def _draw(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (chances.cumsum(-1) <= rng.random((len(chances), 1)) * chances.sum(-1, keepdims=True)).sum(-1)
