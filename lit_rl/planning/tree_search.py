"""Monte-Carlo tree search: UCT, and PUCT with a prior and a value. Formula sheet: 9.0.3a, H13, G9.

A simulation walks down from the root by a rule, makes a new leaf, values it, and tells everyone on the way:

    G ← r + γ G (two players: r − γ G),  N(a) += 1,  Q(a) ← mean of G, or the greatest G            (1)

Q is brought to [0, 1] by the least and largest Q of the tree, or by a range that is known, so that the rules' c need
not know the scale of the rewards. G is seen by whoever moves in the node; the reward belongs to the edge. Kocsis &
Szepesvári 2006; Schadd et al. 2008 (one player's best); Browne et al. 2012; Silver et al. 2017. Rules and nodes are in
:mod:`lit_rl.planning.tree_rules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, nan
from random import Random
from typing import Any, Literal, NamedTuple

from lit_rl.planning.search import Array, Search, SearchTree, World, without_garbage_collection
from lit_rl.planning.search_model import Evaluate, SearchModel
from lit_rl.planning.tree_memory import read_nodes, row_length, write_nodes
from lit_rl.planning.tree_rules import UCT, Node, Rule, Widening
from lit_rl.planning.tree_steps import STEPS, Transitions


@dataclass(frozen=True)
class TreeSearch(Search):
    """Recipe of a search.

    Args:
        rule: UCT or PUCT; the latter needs a prior from whoever values the leaves.
        transitions: ``deterministic`` takes each step once; ``chance`` branches over the states that a step leads to;
            ``open_loop`` does not look at them, takes all steps anew in every simulation, and so finds the best that
            can be decided in advance. There, the actions must be the same in all states.
        backup: ``mean``; or ``best``, what one player without chance can have again, where it was had once. That looks
            much further ahead: a random policy's mean return ends soon, the best of many does not.
        widening: of the actions, for a :class:`~lit_rl.planning.search_model.ContinuousModel`.
        outcome_widening: of the states that chance leads to, where they hardly ever repeat.
        value_range: least and largest Q, if known.
    """

    rule: Rule = field(default_factory=UCT)
    transitions: Transitions = "deterministic"
    backup: Literal["mean", "best"] = "mean"
    widening: Widening | None = None
    outcome_widening: Widening | None = None
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.widening is not None and self.rule.needs_prior:
            raise ValueError("TreeSearch: there is no prior over proposed actions; use UCT with widening")
        if self.outcome_widening is not None and self.transitions != "chance":
            raise ValueError(f"TreeSearch: outcome_widening needs transitions chance, not {self.transitions}")
        if self.backup not in ("mean", "best") or (self.backup == "best" and self.transitions != "deterministic"):
            raise ValueError(f"TreeSearch.backup is {self.backup!r}: mean, or best with transitions deterministic")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"TreeSearch.value_range is {self.value_range}; it must increase")

    def row_length(self, world: World, simulations: int) -> int:
        """Every simulation makes a node."""
        return row_length(self, world, simulations + 1)

    def begin(self, model: SearchModel, state: Any, gamma: float = 1.0, two_players: bool = False) -> "Tree":
        """See :meth:`Search.begin`."""
        return Tree(self, model, state, gamma, two_players)


class Leaf(NamedTuple):
    """Where a simulation ended, and the way to there."""

    node: Node
    state: Any
    ended: bool
    path: list[tuple[Node, int, float]]  # node, place of the action, reward


class Tree(SearchTree):
    """A search from one state on. ``descend``, value the leaf, ``back_up``; or :meth:`search`, which does all three.

    Args:
        search: the recipe.
        model: a :class:`~lit_rl.planning.search_model.SearchModel`, with widening a ``ContinuousModel`` of there.
        state: the root's.
        gamma: γ.
        two_players: they move in turn, and what one gains the other loses.
    """

    def __init__(
        self, search: TreeSearch, model: Any, state: Any, gamma: float = 1.0, two_players: bool = False
    ) -> None:
        if two_players and search.backup == "best":
            raise ValueError("TreeSearch.backup best is for one player: the other one spoils what was had once")
        self.recipe, self.model = search, model
        self.root = Node(state)
        self.two_players = two_players
        self._discount = -gamma if two_players else gamma
        self._low, self._high = search.value_range or (inf, -inf)

    def descend(self, rng: Random) -> Leaf:
        """Walk to a leaf, which is the root where it has not been valued yet."""
        recipe, model = self.recipe, self.model
        rule, widening, follow = recipe.rule, recipe.widening, STEPS[recipe.transitions]
        repeats = recipe.transitions == "deterministic"
        spread = self._high - self._low if self._high > self._low else 1.0
        node = self.root
        bonuses = rule.bonuses(node.visits)  # no node has more
        state, ended, path = node.state, node.ended, []
        while node.actions is not None and not ended:
            if widening is not None and len(node.actions) < widening.allowed(node.visits):
                node.add(model.propose(state, rng), rule)
            bonus = spread * bonuses[node.visits]
            best, place, index = -inf, 0, 0
            for q, w in zip(node.mean, node.weight):  # noqa: B905  the hottest lines; max(…) would take twice as long
                score = q + bonus * w
                if score > best:
                    best, place = score, index
                index += 1  # noqa: SIM113  as above
            child = node.child[place]
            if repeats and child is not None:
                state, reward, ended = child.state, child.reward, child.ended
            else:
                child, state, reward, ended = follow(model, recipe.outcome_widening, node, state, place, rng)
            path.append((node, place, reward))
            node = child
        return Leaf(node, state, ended, path)

    def back_up(self, leaf: Leaf, value: float, prior: Sequence[float] | None = None) -> None:
        """Make the leaf a node, and tell ``value`` to the way there, (1).

        Args:
            leaf: of :meth:`descend`.
            value: of its state for whoever moves there; 0 where the episode is over.
            prior: P of its actions, for PUCT.

        Raises:
            ValueError: no prior for PUCT, or of another length than the actions.
        """
        node, state, ended, path = leaf
        rule, discount, best = self.recipe.rule, self._discount, self.recipe.backup == "best"
        if node.actions is None and not ended:
            node.expand(self._actions(state, prior), value, prior, rule)
        low, high, weights = self._low, self._high, rule.weights(self.root.visits + 1)
        for node, place, reward in reversed(path):
            value = reward + discount * value
            node.visits += 1
            counts, means = node.count, node.mean
            counts[place] = count = counts[place] + 1
            mean = means[place]
            if count == 1 or (best and value > mean):
                means[place] = mean = value
            elif not best:
                means[place] = mean = mean + (value - mean) / count
            node.weight[place] = weights[count] if node.prior is None else rule.weight(count, node.prior[place])
            low = min(low, mean)
            high = max(high, mean)
        if self.recipe.value_range is None:
            self._low, self._high = low, high

    def _actions(self, state: Any, prior: Sequence[float] | None) -> Sequence[Any]:
        if self.recipe.widening is not None:
            return []
        actions = self.model.actions(state)
        if self.recipe.rule.needs_prior and (prior is None or len(prior) != len(actions)):
            got = "none" if prior is None else f"one of length {len(prior)}"
            raise ValueError(f"PUCT needs a prior over the {len(actions)} actions of a state, and got {got}")
        return actions

    def search(self, evaluate: Evaluate, simulations: int, rng: Random) -> None:
        """So many simulations, leaves being valued by ``evaluate``."""
        with without_garbage_collection():
            for _ in range(simulations + (self.root.actions is None)):
                leaf = self.descend(rng)
                self.back_up(leaf, 0.0 if leaf.ended else evaluate(leaf.state, rng))

    def advance(self, action: Any, state: Any) -> bool:
        """Move the root to where ``action`` led, and keep what is below; whether there was anything to keep.

        In open loop that was found for all states that the action may have led to.
        """
        child, actions = None, self.root.actions
        if actions is not None and action in actions:
            child = self.root.child[actions.index(action)]
            if isinstance(child, dict):
                child = child.get(state)
            elif child is not None and self.recipe.transitions == "open_loop":
                child.state = state
        if child is None or child.state != state:
            self.root = Node(state)
            return False
        self.root = child
        return True

    def write(self, action: Any, world: World, row: Array) -> None:
        """See :meth:`SearchTree.write`: what is below the states that may be the next to choose in."""
        write_nodes(self._after(action), self.recipe, world, row)

    def _after(self, action: Any) -> list[Node]:
        assert self.root.actions is not None
        child = self.root.child[self.root.actions.index(action)]
        after = [] if child is None else list(child.values()) if isinstance(child, dict) else [child]
        return [reply for node in after for reply in node.child if reply is not None] if self.two_players else after

    def resume(self, row: Array, world: World) -> bool:
        """See :meth:`SearchTree.resume`."""
        blind, state = self.recipe.transitions == "open_loop", self.root.state
        for node in read_nodes(row, self.recipe, world):
            if blind or world.same(node.state, state):
                node.state, self.root = state, node
                tried = [q for q, n in zip(node.mean, node.count, strict=True) if n]
                if tried and self.recipe.value_range is None:
                    self._low, self._high = min(tried), max(tried)
                return True
        return False

    @property
    def visits(self) -> int:
        """N of the root."""
        return self.root.visits

    @property
    def value(self) -> float:
        """Q in the mean of the simulations from the root."""
        weighed = [n * q for n, q in zip(self.root.count, self.root.mean, strict=True)]
        return sum(weighed) / self.visits if self.visits else self.root.value

    def action_values(self) -> list[float]:
        """Q of the root's actions; nan where one was never tried."""
        return [q if n else nan for n, q in zip(self.root.count, self.root.mean, strict=True)]

    def best_action(self) -> Any:
        """The most visited action of the root, the better one among equals; with backups of the best, vice versa."""
        if not self.root.actions:
            raise ValueError("Tree.best_action: nothing was searched yet; call search first")
        return self.root.actions[self._best_place()]

    def _best_place(self) -> int:
        root, by_value = self.root, self.recipe.backup == "best"
        ranks = [(q, n) if by_value else (n, q) for n, q in zip(root.count, root.mean, strict=True)]
        return max((place for place, n in enumerate(root.count) if n), key=ranks.__getitem__, default=0)

    def visit_policy(self, temperature: float = 1.0) -> list[float]:
        """π(a) ∝ N(a)^(1/``temperature``) of the root's actions, in their order; 0 is the most visited one."""
        if temperature == 0.0:
            chosen = self._best_place()
            return [float(place == chosen) for place in range(len(self.root.count))]
        most = max(self.root.count)
        weight = [(n / most) ** (1.0 / temperature) for n in self.root.count]
        return [w / sum(weight) for w in weight]
