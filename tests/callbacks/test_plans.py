"""Pictures of plans: lines and cells where the numbers say."""

import numpy as np
import pytest

from lit_rl import LQR
from lit_rl.callbacks.plans import (
    EXECUTED,
    HEIGHT,
    MARGIN,
    PLANNED,
    WIDTH,
    PlanPictures,
    begin_episode,
    cost_picture,
    trajectory_picture,
)
from lit_rl.callbacks.tables import CELL

INTEGRATOR = "lit_rl.envs.double_integrator:lit_rl/DoubleIntegrator-v0"


def test_lines_are_where_the_numbers_are():
    states, plan = np.array([[0.0, 2.0], [1.0, 2.0]]), np.array([[-1.0, 0.0]])
    picture = trajectory_picture(states, plan, ("x", "y"))
    assert picture.shape == (2 * HEIGHT, WIDTH, 3)
    right, top, bottom = WIDTH - MARGIN, MARGIN, HEIGHT - MARGIN

    def drawn(picture, row: int, column: int, colour: tuple[int, ...]) -> bool:
        return bool((picture[row - 2 : row + 3, column - 2 : column + 3] == colour).all(-1).any())

    assert drawn(picture, top, right - 5, EXECUTED)  # x = 1 is the greatest, at the last step
    assert drawn(picture, (top + bottom) // 2, MARGIN + 5, EXECUTED)  # x = 0 is in the middle between −1 and 1
    assert not drawn(picture, bottom, right - 5, EXECUTED)
    assert all(drawn(picture, HEIGHT + MARGIN, column, EXECUTED) for column in range(100, right, 50))  # y = 2 all along
    longer = trajectory_picture(states, np.repeat(plan, 2, 0), ("x", "y"))
    assert drawn(longer, bottom, right - 5, PLANNED)


def test_the_cost_to_go_is_least_in_the_middle_and_the_same_on_both_sides():
    agent = LQR(INTEGRATOR)
    states, plan = begin_episode(agent.policy, agent.env, 20, 0)
    assert plan is None and states.shape == (21, 2)
    picture = cost_picture(agent.policy, states, 5)
    cells = picture[3::CELL, 3::CELL].astype(int).sum(-1)  # off the middles, where the way might be
    assert cells.shape == (5, 5) and cells.min() == cells[2, 2]
    unlike = np.abs(cells - cells[::-1, ::-1]) > 3  # more than rounding of the colours
    assert unlike.sum() <= 2  # the way crosses one of the places looked at


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="steps is 1"):
        PlanPictures(steps=1)
