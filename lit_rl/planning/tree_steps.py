"""How a simulation goes down one step of a search tree, in worlds with and without chance. Formula sheet: 9.0.3a."""

from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple

from lit_rl.planning.tree_rules import Node, Widening

Transitions = Literal["deterministic", "chance", "open_loop"]


class Went(NamedTuple):
    """Where a step of a simulation led to."""

    node: Node
    state: Any
    reward: float
    ended: bool


def certain(model: Any, widening: Widening | None, node: Node, state: Any, place: int, rng: Random) -> Went:
    """Take the step once and for all."""
    child = node.child[place]
    if child is None:
        assert node.actions is not None
        following, reward, ended = model.step(state, node.actions[place], rng)
        child = node.child[place] = Node(following, ended, reward)
    return Went(child, child.state, child.reward, child.ended)


def by_chance(model: Any, widening: Widening | None, node: Node, state: Any, place: int, rng: Random) -> Went:
    """Draw where it leads, perhaps only among the outcomes that are known."""
    assert node.actions is not None
    outcomes = node.child[place]
    if outcomes is None:
        outcomes = node.child[place] = {}
    if widening is not None and len(outcomes) >= widening.allowed(node.count[place]):
        known = list(outcomes.values())
        (child,) = rng.choices(known, [each.arrivals for each in known])
        reward = child.reward
    else:
        following, reward, ended = model.step(state, node.actions[place], rng)
        child = outcomes.get(following)
        if child is None:
            child = outcomes[following] = Node(following, ended, reward)
    child.arrivals += 1
    return Went(child, child.state, reward, child.ended)


def blind(model: Any, widening: Widening | None, node: Node, state: Any, place: int, rng: Random) -> Went:
    """Take it anew, and do not look at where it leads."""
    assert node.actions is not None
    child = node.child[place]
    if child is None:
        child = node.child[place] = Node(None)
    following, reward, ended = model.step(state, node.actions[place], rng)
    return Went(child, following, reward, ended)


STEPS: dict[Transitions, Callable[[Any, Widening | None, Node, Any, int, Random], Went]] = {
    "deterministic": certain,
    "chance": by_chance,
    "open_loop": blind,
}
