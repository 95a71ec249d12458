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
    """Log ``val/start_value`` and ``val/overestimation`` of the episodes of a validation (formula sheet 7.3.1a).

    Args:
        agent: that logs.
        state_value: observations [E, ...] → what it takes the best action there to be worth [E].
        episodes: that it has played greedily.
    """
    log_optimism(agent, state_value(episodes.first_obs), state_value(episodes.final_obs), episodes)


def log_optimism(agent: Agent, start_value: Tensor, final_value: Tensor, episodes: EpisodeResults) -> None:
    """As :func:`log_overestimation`, from the values [E] of where the episodes began and ended."""
    values = overestimation(start_value, episodes.discounted, final_value, episodes.final_discount)
    scalars = {f"val/{name}": value for name, value in values.items()}
    agent.log_dict(scalars, sync_dist=True, batch_size=len(episodes.returns), on_epoch=True)
