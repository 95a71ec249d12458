"""Searches side by side, whose leaves are valued in one call: what a network is good at. Formula sheet: 9.0.3a, H13."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from lit_rl.planning.tree_search import Tree


def search_together(
    trees: Sequence[Tree],
    evaluate: Callable[[list[Any]], tuple[Sequence[float], Sequence[Sequence[float]]]],
    simulations: int,
    rng: Random,
) -> None:
    """So many simulations in each of several trees, whose leaves are valued in one call: what a network is good at.

    Args:
        trees: of independent games.
        evaluate: states to their values, seen by whoever moves there, and priors over their actions.
        simulations: of each tree; a root that has not been valued yet takes one more.
        rng: of chance.
    """
    for simulation in range(-1, simulations):
        active = [tree for tree in trees if simulation >= 0 or tree.root.actions is None]
        leaves = [(tree, tree.descend(rng)) for tree in active]
        asked = [(tree, leaf) for tree, leaf in leaves if not leaf.ended]
        values, priors = evaluate([leaf.state for _, leaf in asked]) if asked else ([], [])
        for (tree, leaf), value, prior in zip(asked, values, priors, strict=True):
            tree.back_up(leaf, value, prior)
        for tree, leaf in leaves:
            if leaf.ended:
                tree.back_up(leaf, 0.0)


def disturb_prior(tree: Tree, concentration: float, share: float, rng: Random) -> None:
    """P ← (1 − ε) P + ε Dirichlet(α) at the root, α = ``concentration``, ε = ``share``: self-play explores so.

    Raises:
        ValueError: there is no prior yet.
    """
    root, rule = tree.root, tree.recipe.rule
    if root.prior is None:
        raise ValueError("disturb_prior: the root has no prior; search once before, with PUCT")
    noise = [rng.gammavariate(concentration, 1.0) for _ in root.prior]
    total = sum(noise)
    mixed = [(1 - share) * p + share * (g / total) for p, g in zip(root.prior, noise, strict=True)]
    root.prior = mixed
    root.weight = [rule.weight(n, p) for n, p in zip(root.count, mixed, strict=True)]
