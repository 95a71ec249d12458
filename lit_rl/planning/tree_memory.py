"""A search tree as numbers: what a policy keeps of it from step to step, and a checkpoint with it.

A row holds the nodes in the order of a walk, each a fixed number of entries: its parent's place in the row and among
the parent's actions, what it is, its state, and what its actions have brought. Formula sheet: 9.0.3a.
"""

from typing import TYPE_CHECKING

import numpy as np

from lit_rl.planning.search import Array, World
from lit_rl.planning.tree_rules import Node

if TYPE_CHECKING:
    from lit_rl.planning.tree_search import TreeSearch

HEAD = 8  # parent + 1, place, ended, reward, arrivals, value, visits, whether it was expanded


def row_length(recipe: "TreeSearch", world: World, nodes: int) -> int:
    """H of a row for so many nodes: their number stands first."""
    return 1 + nodes * _node_length(recipe, world)


def _node_length(recipe: "TreeSearch", world: World) -> int:
    per_action = 3 if recipe.rule.needs_prior else 2
    return HEAD + world.numbers_per_state + per_action * world.actions_at_most


def write_nodes(roots: list[Node], recipe: "TreeSearch", world: World, row: Array) -> None:
    """Write trees side by side into a row [H] of zeros: breadth first, as many nodes as fit."""
    length, most = _node_length(recipe, world), world.actions_at_most
    room = (len(row) - 1) // length
    waiting = [(0, 0, root) for root in roots]
    written: list[list[float]] = []
    nothing = [0.0] * world.numbers_per_state
    for parent, place, node in waiting:  # which grows as it goes
        if len(written) == room:
            break
        expanded = node.actions is not None
        entries = [parent, place, node.ended, node.reward, node.arrivals, node.value, node.visits, expanded]
        entries += nothing if node.state is None else world.write(node.state)
        padding = [0.0] * (most - len(node.count))
        entries += [*node.count, *padding, *node.mean, *padding]
        if recipe.rule.needs_prior:
            entries += [*(node.prior or ()), *padding] if expanded else [0.0] * most
        written.append(entries)
        for index, child in enumerate(node.child):
            if child is not None:
                children = child.values() if isinstance(child, dict) else (child,)
                waiting.extend((len(written), index, each) for each in children)
    row[0] = len(written)
    if written:
        row[1 : 1 + len(written) * length] = np.array(written, np.float32).reshape(-1)


def read_nodes(row: Array, recipe: "TreeSearch", world: World) -> list[Node]:
    """The roots of what :func:`write_nodes` wrote."""
    length, most, rule = _node_length(recipe, world), world.actions_at_most, recipe.rule
    count = int(row[0])
    table = row[1 : 1 + count * length].reshape(count, length).tolist()
    roots: list[Node] = []
    nodes: list[Node] = []
    chance = recipe.transitions == "chance"
    first = HEAD + world.numbers_per_state
    for entries in table:
        parent, place, ended, reward, arrivals, value, visits, expanded = entries[:HEAD]
        state = None if recipe.transitions == "open_loop" else world.state(entries[HEAD:first])
        node = Node(state, ended > 0, reward)
        node.arrivals = int(arrivals)
        if expanded:
            actions = world.actions(state)
            size = len(actions)
            prior = entries[first + 2 * most : first + 2 * most + size] if rule.needs_prior else None
            node.expand(actions, value, prior, rule)
            node.visits = int(visits)
            node.count = [int(n) for n in entries[first : first + size]]
            node.mean = entries[first + most : first + most + size]
            node.weight = [rule.weight(n, p) for n, p in zip(node.count, prior or node.mean, strict=True)]
        nodes.append(node)
        if parent == 0:
            roots.append(node)
            continue
        above, where = nodes[int(parent) - 1], int(place)
        if chance:
            if above.child[where] is None:
                above.child[where] = {}
            above.child[where][state] = node
        else:
            above.child[where] = node
    return roots
