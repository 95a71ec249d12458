"""Plans as pictures: what was planned and what came of it, and the cost-to-go, in TensorBoard."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.bounds import refuse_below
from lit_rl.callbacks.pictures import NothingToDraw, Pictures
from lit_rl.callbacks.tables import CELL, heat_map
from lit_rl.envs.playing import play_episode
from lit_rl.planning.trajectory import rollout
from lit_rl.policies.control import ControlPolicy

Array = np.ndarray
WIDTH, HEIGHT, MARGIN = 480, 110, 8  # pixels of one panel
EXECUTED, PLANNED, GREY = (40, 90, 170), (240, 170, 100), (200, 200, 200)


class PlanPictures(Pictures):
    """After a validation: ``plans/trajectory`` and, where the state has two numbers, ``plans/cost_to_go``.

    The first is the beginning of an episode, a panel for each number of the state: blue what happened, orange what
    the first plan had in mind. The second is how much is still to be paid from around there, dark little and bright
    much, with the episode's way; of a planner it takes a plan for each of its cells, which may last a minute. The
    episode has an environment and random streams of its own: training does not notice.

    Args:
        every_n_epochs: how often.
        steps: of the episode.
        seed: of its start, the same every time.
        cells: the cost-to-go is asked for in so many rows and columns; 0 leaves it out.
    """

    def __init__(self, every_n_epochs: int = 1, steps: int = 100, seed: int = 0, cells: int = 15) -> None:
        super().__init__(every_n_epochs)
        self.steps, self.seed, self.cells = steps, seed, cells
        refuse_below(self, 2, "steps")
        refuse_below(self, 0, "cells")

    def draw(self, agent: Any) -> dict[str, Array]:
        """See :meth:`Pictures.draw`."""
        policy = agent.policy
        if not isinstance(policy, ControlPolicy):
            raise NothingToDraw(f"{type(agent).__name__} makes no plans")
        states, plan = begin_episode(policy, agent.env, self.steps, self.seed)
        pictures = {"plans/trajectory": trajectory_picture(states.numpy(), plan, policy.system.state_names)}
        if self.cells and states.shape[-1] == 2:
            pictures["plans/cost_to_go"] = cost_picture(policy, states, self.cells)
        return pictures


def begin_episode(policy: ControlPolicy, env: Any, steps: int, seed: int) -> tuple[Tensor, Array | None]:
    """The states [T, S] of an episode without whole turns in between, and those of its first plan, [H, S].

    The plan begins with the second state: what is kept of it after the first action is shown.
    """
    one = env.make_one()
    try:
        played = list(play_episode(policy, one, (seed, 0), False, steps))
    finally:
        one.close()
    observations = np.stack([*(step.obs for step in played), played[-1].next_obs])
    states = policy.state_of(observations)
    steps_between = policy.system.wrapped(states.diff(dim=0))
    states = torch.cat([states[:1], states[:1] + steps_between.cumsum(0)])
    memory = np.zeros((1, policy.state_size), np.float32)
    memory = policy.act(observations[:1], memory, np.random.default_rng(0), explore=False).state
    plan = policy.planned(memory)
    return states, None if plan is None else rollout(policy.problem.dynamics, states[1], plan[0])[:-1].numpy()


def trajectory_picture(states: Array, plan: Array | None, names: tuple[str, ...]) -> Array:
    """[height, width, 3] uint8: a panel for each number of the state, with 0 as a grey line."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT * len(names)), "white")
    draw = ImageDraw.Draw(image)
    for panel, name in enumerate(names):
        lines = [(EXECUTED, 0, states[:, panel])] + ([] if plan is None else [(PLANNED, 1, plan[:, panel])])
        everything = np.concatenate([values for _, _, values in lines])
        low, high = min(everything.min(), 0.0), max(everything.max(), 0.0)
        last = max(len(states) - 1, 0 if plan is None else len(plan))
        top, scale = panel * HEIGHT + MARGIN, (HEIGHT - 2 * MARGIN) / max(high - low, 1e-12)
        across = (WIDTH - 2 * MARGIN) / max(last, 1)
        zero = top + high * scale
        draw.line((MARGIN, zero, WIDTH - MARGIN, zero), fill=GREY)
        for colour, first, values in reversed(lines):  # the plan below: where it came true it is an edge
            points = [(MARGIN + (first + t) * across, top + (high - y) * scale) for t, y in enumerate(values)]
            draw.line(points, fill=colour, width=5 if colour == PLANNED else 2)
        draw.text((MARGIN, panel * HEIGHT), f"{name}  {low:.3g} to {high:.3g}", fill=(90, 90, 90))
    return np.asarray(image)


def cost_picture(policy: ControlPolicy, states: Tensor, cells: int) -> Array:
    """[cells · CELL, cells · CELL, 3] uint8: the first number of the state to the right, the second upwards."""
    from PIL import Image, ImageDraw

    reach = 1.1 * states.abs().amax(0).clamp_min(1e-6)
    grid = torch.linspace(-1.0, 1.0, cells, dtype=states.dtype)
    rows = [torch.stack([grid * reach[0], (y * reach[1]).expand(cells)], -1) for y in reversed(grid)]
    cost = torch.cat([policy.cost_to_go(row) for row in rows])  # a row at a time, for the memory's sake
    image = Image.fromarray(heat_map(cost.numpy(), (cells, cells)))
    side = cells * CELL
    inner = side - CELL  # from the middle of the first cell to that of the last
    places = (CELL + inner + states / reach * inner) / 2
    way = [(float(x), float(side - y)) for x, y in places]
    ImageDraw.Draw(image).line(way, fill=(255, 255, 255), width=2)
    return np.asarray(image)
