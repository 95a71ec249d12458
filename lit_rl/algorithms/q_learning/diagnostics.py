"""What every Q-learner logs about its own optimism."""

from collections.abc import Callable

import torch
from torch import Tensor

from lit_rl.agent import Agent
from lit_rl.batch import Observation
from lit_rl.data.episodes import EpisodeResults
from lit_rl.metrics.overestimation import overestimation


@torch.no_grad()
def log_overestimation(agent: Agent, state_value: Callable[[Observation], Tensor], episodes: EpisodeResults) -> None:
    """Log ``val/start_value`` and ``val/overestimation`` of the episodes of a validation (formula sheet 7.3.1a)."""
    values = overestimation(
        state_value, episodes.first_obs, episodes.discounted, episodes.final_obs, episodes.final_discount
    )
    scalars = {f"val/{name}": value for name, value in values.items()}
    agent.log_dict(scalars, sync_dist=True, batch_size=len(episodes.returns), on_epoch=True)
