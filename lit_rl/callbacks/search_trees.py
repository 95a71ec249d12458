"""Search trees as pictures: what was thought of before the first move of an episode, in TensorBoard."""

from typing import Any

import numpy as np

from lit_rl.bounds import refuse_below
from lit_rl.callbacks.pictures import NothingToDraw, Pictures
from lit_rl.envs.vector import episode_seed, stack_observations
from lit_rl.planning.search import SearchTree
from lit_rl.planning.tree_rules import Node
from lit_rl.planning.tree_search import Tree
from lit_rl.policies.search import SearchPolicy

Array = np.ndarray
WIDTH, ROW, MARGIN = 900, 90, 30  # pixels


class SearchPictures(Pictures):
    """After a validation: ``search/tree``, the search before an episode's first move.

    A line is an action, as thick as it was visited; a dot is where it leads, from blue, little, to yellow, much, as
    whoever moves at the root sees it. Beside it stand the action, its visits, and its Q for whoever takes it. The most
    visited branches are shown.
    The episode has an environment and random streams of its own: training does not notice.

    Args:
        every_n_epochs: how often.
        depth: rows below the root.
        branches: of a node at most.
        seed: of the episode's start, the same every time.
    """

    def __init__(self, every_n_epochs: int = 1, depth: int = 4, branches: int = 4, seed: int = 0) -> None:
        super().__init__(every_n_epochs)
        self.depth, self.branches, self.seed = depth, branches, seed
        refuse_below(self, 1, "depth", "branches")

    def draw(self, agent: Any) -> dict[str, Array]:
        """See :meth:`Pictures.draw`."""
        tree = first_search(agent, self.seed) if isinstance(agent.policy, SearchPolicy) else None
        if not isinstance(tree, Tree):
            raise NothingToDraw(f"{type(agent).__name__} searches in no tree")
        return {"search/tree": tree_picture(tree, self.depth, self.branches)}


def first_search(agent: Any, seed: int) -> SearchTree:
    """The search before the first move of an episode of the agent's environment."""
    env = agent.env.make_one()
    try:
        obs, _ = env.reset(seed=episode_seed(seed, 0, 0))
    finally:
        env.close()
    agent.policy.refresh()
    return agent.policy.search_from(stack_observations([obs]))[0]


def tree_picture(tree: Tree, depth: int = 4, branches: int = 4) -> Array:
    """[height, WIDTH, 3] uint8 of the root and the most visited branches below it."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, depth * ROW + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(image)
    shown = [q for n, q in zip(tree.root.count, tree.root.mean, strict=True) if n]
    low, high = min(shown, default=0.0), max(shown, default=1.0)

    def below(node: Node, left: float, right: float, row: int, x: float, sign: float) -> None:
        places = sorted((p for p, n in enumerate(node.count) if n), key=lambda p: -node.count[p])[:branches]
        total = sum(node.count[place] for place in places)
        if row == depth or not total:
            return
        share = [0.5 / len(places) + 0.5 * node.count[place] / total for place in places]  # room for the rare ones too
        width = right - left
        for place, part in sorted(zip(places, share, strict=True)):
            end = left + part * width
            to, y = (left + end) / 2, MARGIN + row * ROW
            thick = max(1, round(9 * node.count[place] / tree.visits))
            draw.line((x, y, to, y + ROW), fill=(190, 190, 190), width=thick)
            for child in _children(node.child[place]):
                below(child, left, end, row + 1, to, -sign if tree.two_players else sign)
            tint = min(max((sign * node.mean[place] - low) / max(high - low, 1e-12), 0.0), 1.0)
            fill = (round(40 + 213 * tint), round(90 + 141 * tint), round(170 - 133 * tint))
            draw.ellipse((to - 6, y + ROW - 6, to + 6, y + ROW + 6), fill=fill)
            if end - left > 28:
                assert node.actions is not None
                label = f"{written(node.actions[place])}: {node.count[place]}" + (
                    f"  {node.mean[place]:.2f}" * (end - left > 80)
                )
                draw.text((to + 8, y + ROW - 16), label, fill=(60, 60, 60))
            left = end

    below(tree.root, MARGIN, WIDTH - MARGIN, 0, WIDTH / 2, 1.0)
    draw.ellipse((WIDTH / 2 - 7, MARGIN - 7, WIDTH / 2 + 7, MARGIN + 7), fill=(60, 60, 60))
    draw.text((WIDTH / 2 + 12, MARGIN - 14), f"{tree.visits} simulations, value {tree.value:.2f}", fill=(60, 60, 60))
    return np.asarray(image)


def written(action: Any) -> str:
    """A move by its number, a vector of continuous actions by two digits of each."""
    return ", ".join(f"{float(x):.2g}" for x in action) if isinstance(action, tuple) else str(action)


def _children(child: Any) -> list[Node]:
    """Where chance may have led, the likeliest alone."""
    if isinstance(child, dict):
        return [max(child.values(), key=lambda node: node.arrivals)] if child else []
    return [] if child is None else [child]
