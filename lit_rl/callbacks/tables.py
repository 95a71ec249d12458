"""Tables as pictures: values, policies and visits of agents on finite worlds, in TensorBoard."""

from typing import Any

import numpy as np
from torch import Tensor

from lit_rl.callbacks.pictures import NothingToDraw, Pictures
from lit_rl.policies.table import TablePolicy

Array = np.ndarray
CELL = 24  # pixels
_STOPS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64)


class TablePictures(Pictures):
    """After a validation: ``tables/value``, ``tables/policy`` and, where it counts, ``tables/visits``.

    States are cells of the world's layout, row by row; without one they stand in a row. A reward that is learnt
    becomes ``tables/reward``.

    Args:
        every_n_epochs: how often.
    """

    _layout: tuple[int, int] | None = None

    def draw(self, agent: Any) -> dict[str, Array]:
        """See :meth:`Pictures.draw`."""
        tables = tables_of(agent)
        if not tables:
            raise NothingToDraw(f"{type(agent).__name__} keeps no table")
        layout = self._layout = self._layout or _layout(agent)
        return {
            f"tables/{name}": (policy_picture if name == "policy" else heat_map)(table, layout)
            for name, table in tables.items()
        }


def tables_of(agent: Any) -> dict[str, Array]:
    """What there is to draw: value [S], policy [S, A], visits [S], reward [S]."""
    found: dict[str, Array] = {}
    if isinstance(agent.policy, TablePolicy):
        q = agent.policy.q.cpu().numpy()
        learnt = getattr(agent, "value", None)  # a table, or a network's method
        found["value"] = learnt.cpu().numpy() if isinstance(learnt, Tensor) else q.max(-1)
        found["policy"] = agent.policy.distribution(np.arange(len(q)), explore=False)
    if hasattr(agent, "seen"):
        found["visits"] = np.log1p(agent.seen.visits.sum(-1))
    if hasattr(agent, "psi"):
        weight = agent.psi.detach().cpu().numpy()
        found["reward"] = weight.reshape(len(agent.policy.q), -1).mean(-1)
    return found


def heat_map(value: Array, layout: tuple[int, int]) -> Array:
    """[height, width, 3] uint8 of values [S] from dark (least) to bright (greatest); cells without a state are grey."""
    rows, columns = layout
    cells = np.full(rows * columns, np.nan)
    cells[: len(value)] = value[: rows * columns]
    low, high = np.nanmin(cells), np.nanmax(cells)
    place = (cells - low) / max(high - low, 1e-12) * (len(_STOPS) - 1)
    whole = np.clip(np.nan_to_num(place), 0, len(_STOPS) - 1 - 1e-9)
    left = whole.astype(int)
    colour = _STOPS[left] + (whole - left)[:, None] * (_STOPS[left + 1] - _STOPS[left])
    colour[np.isnan(cells)] = 128
    image = colour.round().astype(np.uint8).reshape(rows, columns, 3).repeat(CELL, 0).repeat(CELL, 1)
    image[::CELL], image[:, ::CELL] = 255, 255
    return image


def policy_picture(policy: Array, layout: tuple[int, int]) -> Array:
    """The likeliest action of π [S, A]: a bar from the cell's middle, action 0 up and on clockwise."""
    from PIL import Image, ImageDraw

    rows, columns = layout
    image = Image.new("RGB", (columns * CELL, rows * CELL), "white")
    draw = ImageDraw.Draw(image)
    for state, action in enumerate(policy[: rows * columns].argmax(-1)):
        x, y = (state % columns) * CELL, (state // columns) * CELL
        angle = 2 * np.pi * action / policy.shape[1]
        middle = (x + CELL // 2, y + CELL // 2)
        end = (middle[0] + 9 * np.sin(angle), middle[1] - 9 * np.cos(angle))
        draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), outline=(220, 220, 220))
        draw.line((*middle, *end), fill=(40, 90, 170), width=3)
        draw.ellipse((middle[0] - 2, middle[1] - 2, middle[0] + 2, middle[1] + 2), fill=(40, 90, 170))
    return np.asarray(image)


def _layout(agent: Any) -> tuple[int, int]:
    from lit_rl.envs.finite_mdp import finite_mdp_of

    env = agent.env.make_one()
    try:
        mdp = finite_mdp_of(env)
    except ValueError:
        return 1, len(agent.policy.q)
    finally:
        env.close()
    return mdp.layout or (1, mdp.states)
