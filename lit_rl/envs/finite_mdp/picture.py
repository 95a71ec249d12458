"""A finite MDP as pixels: plain numpy, so that playing and filming need nothing else."""

import numpy as np

from lit_rl.envs.finite_mdp.mdp import Array, FiniteMDP

CELL = 24  # pixels
_FREE, _END, _GOOD, _BAD, _HERE = (235, 235, 235), (90, 90, 90), (70, 160, 90), (190, 70, 60), (40, 90, 170)


def draw_state(mdp: FiniteMDP, state: int) -> Array:
    """[height, width, 3] uint8: a square per state, ends dark, those before a reward tinted, ``state`` marked."""
    rows, columns = mdp.layout or (1, mdp.states)
    count = rows * columns
    colour = np.tile(np.array(_FREE, np.uint8), (count, 1))
    colour[mdp.terminal[:count]] = _END
    pays = mdp.reward.max(-1)[:count]
    colour[(pays > 0) & ~mdp.terminal[:count]] = _GOOD
    colour[(mdp.reward.min(-1)[:count] < -1) & ~mdp.terminal[:count]] = _BAD
    image = colour.reshape(rows, columns, 3).repeat(CELL, 0).repeat(CELL, 1)
    image[::CELL], image[:, ::CELL] = 255, 255
    if state < count:
        top, left = (state // columns) * CELL, (state % columns) * CELL
        image[top + 5 : top + CELL - 4, left + 5 : left + CELL - 4] = _HERE
    return image
