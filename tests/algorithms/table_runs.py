"""Running table agents in tests: quietly, on one environment, and by hand-made rollouts."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything

import lit_rl
from lit_rl.agent import Agent
from lit_rl.batch import Rollout
from lit_rl.data.known_model import KnownModel
from lit_rl.envs.finite_mdp import finite_mdp_of
from tests.checks import without_checks

WORLD = "lit_rl.envs.finite_mdp:lit_rl/"


def fit(agent: Agent, folder: Path, epochs: int = 1, seed: int = 0) -> Agent:
    """Train without validation, files or noise."""
    seed_everything(seed, verbose=False)
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False, "limit_val_batches": 0}
    with without_checks():
        lit_rl.Trainer(str(folder), epochs, **quiet).fit(agent)
    return agent


def sweeps(count: int) -> KnownModel:
    return KnownModel(steps_per_epoch=count, steps_per_batch=count)


def model_of(agent: Agent) -> Any:
    env = agent.env.make_one()
    return finite_mdp_of(env).model()


def rollout(*steps: tuple[int, int, float, int, bool, bool]) -> Rollout:
    """Steps of one environment: s, a, r, s', terminated, truncated; an episode that ends is followed by state 0."""
    columns = [torch.tensor(column).unsqueeze(-1) for column in zip(*steps, strict=True)]
    state, action, reward, successor, terminated, truncated = columns
    ended = (terminated | truncated).squeeze(-1)
    last = torch.where(ended[-1], 0, successor[-1])
    count = len(steps)
    return Rollout(
        obs=torch.cat([state, last[None]]),
        action=action,
        log_prob=torch.zeros(count, 1),
        reward=reward.float(),
        terminated=terminated,
        truncated=truncated,
        episode_step=torch.zeros(count, 1, dtype=torch.int32),
        final_obs=successor[ended].squeeze(-1),
        final_index=ended.nonzero().squeeze(-1),
        state=torch.zeros(1, 0),
        version=torch.zeros((), dtype=torch.int64),
    )
