"""Monte-Carlo tree search on trees and worlds whose optimum is known by enumeration or dynamic programming."""

from itertools import product
from random import Random

import numpy as np
import pytest
import torch

from lit_rl.envs.finite_mdp import random_mdp
from lit_rl.planning.dynamic_programming import horizon_value_iteration
from lit_rl.planning.model import Model, Successors
from lit_rl.planning.open_loop import open_loop_values
from lit_rl.planning.search_model import TabularWorld, random_rollout
from lit_rl.planning.search_together import disturb_prior, search_together
from lit_rl.planning.tree_rules import PUCT, UCT, Rule, Widening
from lit_rl.planning.tree_search import Tree, TreeSearch
from tests.planning.test_open_loop import look_then_choose

HALVES = [0.5, 0.5]


def nothing(state, rng):
    return 0.0


class Paths:
    """A tree of two actions and some depth; the leaf's value is paid on arrival (to whoever moves there)."""

    def __init__(self, depth: int, seed: int) -> None:
        rng = Random(seed)
        self.depth, self.pay = depth, {leaf: rng.random() for leaf in product((0, 1), repeat=depth)}

    def actions(self, state):
        return (0, 1)

    def step(self, state, action, rng):
        following = (*state, action)
        ended = len(following) == self.depth
        return following, self.pay[following] if ended else 0.0, ended

    def best(self, state=(), two_players=False):
        """Value and move by exhausting the tree."""
        values = []
        for action in (0, 1):
            following, reward, ended = self.step(state, action, None)
            below = 0.0 if ended else self.best(following, two_players)[0]
            values.append(reward + (-below if two_players else below))
        return max(values), values.index(max(values))


class Line:
    """One step: −(a − 0.3)², a in [−1, 1]; or two, the second paying for the distance to the first's square."""

    def propose(self, state, rng):
        return rng.uniform(-1, 1)

    def step(self, state, action, rng):
        if state == ():
            return (action,), -((action - 0.3) ** 2), False
        return (*state, action), -((action - state[0] ** 2) ** 2), True


@pytest.mark.parametrize("two_players", [False, True])
@pytest.mark.parametrize("rule", [UCT(), PUCT()], ids=["uct", "puct"])
def test_the_optimum_of_a_known_tree(rule: Rule, two_players: bool):
    """The move of exhaustive search (minimax for two players) unless another is as good to 0.04; the counts add up.

    The mean return tends to the optimum slowly, so that it is held to 0.12 only.
    """
    rng, clear = Random(0), 0
    for seed in range(10):
        world = Paths(5, seed)
        value, move = world.best(two_players=two_players)
        other = world.best((1 - move,), two_players)[0] * (-1 if two_players else 1)
        evaluate = random_rollout(world, 5, two_players=two_players)
        tree = Tree(TreeSearch(rule), world, (), two_players=two_players)
        search_together(
            [tree], lambda states, e=evaluate: ([e(s, rng) for s in states], [HALVES] * len(states)), 2000, rng
        )
        assert sum(tree.root.count) == tree.root.visits == 2000
        if value - other > 0.04:
            assert tree.best_action() == move
            clear += 1
        assert max(tree.action_values()) == pytest.approx(value, abs=0.12)
    assert clear >= 5


def test_a_single_step_is_the_bandit_ucb1():
    """H = 1: every choice is argmax of mean + c √(ln N / n) over what was pulled so far, untried arms first."""
    means = (0.2, 0.5, 0.8)

    class Arms:
        def __init__(self):
            self.pulls = []

        def actions(self, state):
            return range(3)

        def step(self, state, action, rng):
            reward = float(rng.random() < means[action])
            self.pulls.append((action, reward))
            return "end", reward, True

    world = Arms()
    tree = Tree(TreeSearch(UCT(1.0), transitions="open_loop", value_range=(0, 1)), world, "start")
    tree.search(nothing, 300, Random(0))
    for t, (action, _) in enumerate(world.pulls):
        seen = [[r for a, r in world.pulls[:t] if a == arm] for arm in range(3)]
        if not all(seen):
            assert action == [bool(rewards) for rewards in seen].index(False)
        else:
            scores = [np.mean(r) + np.sqrt(np.log(t) / len(r)) for r in seen]
            assert scores[action] == pytest.approx(max(scores), abs=1e-12)
    assert tree.best_action() == 2 and sum(tree.root.count) == len(world.pulls) == 300


@pytest.mark.parametrize("seed", range(3))
def test_chance_nodes_find_the_closed_loop_optimum(seed):
    """A random MDP of 3 states, 2 actions and 3 steps, against backward induction."""
    mdp = random_mdp(np.random.default_rng(seed), 3, 2).model()
    exact = horizon_value_iteration(mdp, 3, 0.9)
    tree = Tree(TreeSearch(transitions="chance"), TabularWorld(mdp, 3), 0, 0.9)
    tree.search(nothing, 6000, Random(seed))
    best = int(exact.q[0, 0].argmax())
    scale = float(exact.q[0].max() - exact.q[0].min())
    assert tree.best_action() == best
    assert tree.action_values()[best] == pytest.approx(float(exact.q[0, 0, best]), abs=0.1 * scale)


def test_the_open_loop_search_finds_the_best_that_can_be_decided_in_advance():
    """Seeing is worth 1 here, the best blind sequence 0.8: both searches find theirs."""
    model = look_then_choose(0.8)
    blind, seeing = (Tree(TreeSearch(transitions=kind), TabularWorld(model, 2), 0) for kind in ("open_loop", "chance"))
    for tree in (blind, seeing):
        tree.search(nothing, 3000, Random(0))
    assert float(open_loop_values(model, 2).max()) == pytest.approx(0.8)
    assert max(blind.action_values()) == pytest.approx(0.8, abs=0.05)
    assert max(seeing.action_values()) == pytest.approx(1.0, abs=0.05)


def test_rollouts_are_the_random_policys_return():
    """The mean of many is the uniform policy's value; two players' signs alternate."""
    mdp = random_mdp(np.random.default_rng(0), 3, 2).model()
    world, rng = TabularWorld(mdp, 4), Random(0)
    evaluate = random_rollout(world, 4, 0.9)
    returns = [evaluate(0, rng) for _ in range(20_000)]
    uniform = torch.full((3, 2), 0.5, dtype=torch.float64)
    value = torch.zeros(3, dtype=torch.float64)
    for _ in range(4):
        value = (uniform * (mdp.reward + 0.9 * mdp.transition @ value)).sum(-1)
    assert np.mean(returns) == pytest.approx(float(value[0]), abs=5 * np.std(returns) / 20_000**0.5)
    paths = Paths(2, 0)
    paths.pay = dict.fromkeys(paths.pay, 1.0)
    assert random_rollout(paths, 5, 0.5, two_players=True)((), rng) == -0.5
    assert random_rollout(paths, 1)((), rng) == 0.0


def test_tables_are_the_model():
    """Frequencies of the drawn successors; what is missing ends the episode; the sparse form is the same world."""
    transition = torch.tensor([[[0.5, 0.25]], [[0.0, 1.0]]], dtype=torch.float64)
    reward = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    sparse = Successors(torch.tensor([[[0], [1]], [[1], [0]]]), torch.tensor([[[0.5], [1.0]], [[0.25], [0.0]]]))
    for kernel in (transition, sparse):
        world, rng = TabularWorld(Model(kernel, reward, reward[:, 0])), Random(0)
        drawn = [world.step(0, 0, rng) for _ in range(8000)]
        assert {r for _, r, _ in drawn} == {2.0} and all(ended == (s == -1) for s, _, ended in drawn)
        assert [np.mean([s == k for s, _, _ in drawn]) for k in (0, 1, -1)] == pytest.approx(
            [0.5, 0.25, 0.25], abs=0.02
        )
        assert world.step(1, 0, rng) == (1, -1.0, False)
    timed = TabularWorld(Model(transition, reward, reward[:, 0]), 2)
    assert timed.step(1, 0, rng) == (3, -1.0, False) and timed.step(3, 0, rng) == (-1, -1.0, True)


def test_widening_finds_the_optimum_of_continuous_actions():
    """max −(a − 0.3)² − (b − a²)² = 0 at a = 0.3, b = 0.09; children grow as ⌈k Nᵅ⌉."""
    tree = Tree(TreeSearch(UCT(0.1), widening=Widening(1.5, 0.4)), Line(), ())
    tree.search(nothing, 4000, Random(0))
    chosen = tree.best_action()
    assert -((chosen - 0.3) ** 2) > -0.02
    assert len(tree.root.actions) == Widening(1.5, 0.4).allowed(3999)
    assert tree.action_values()[tree.root.actions.index(chosen)] > -0.05


def test_outcomes_widen_where_they_never_repeat():
    class Noise:
        """Action a leads to a + N(0, 1); the second step pays for the right guess of its sign."""

        def actions(self, state):
            return (-1, 1)

        def step(self, state, action, rng):
            if state == 0:
                return action + rng.gauss(0, 1), 0.0, False
            return "end", float(action * state > 0), True

    recipe = TreeSearch(transitions="chance", outcome_widening=Widening(1, 0.3))
    tree = Tree(recipe, Noise(), 0)
    tree.search(nothing, 3000, Random(0))
    for place in range(2):
        assert len(tree.root.child[place]) <= recipe.outcome_widening.allowed(tree.root.count[place])
    assert tree.value > 0.9  # every outcome came often enough to be known: its sign is seen


def test_a_tree_is_used_again():
    """After a move, what was below it stays: counts, values, and the search that goes on is the same."""
    world = Paths(5, 1)
    for kind in ("deterministic", "chance"):
        tree = Tree(TreeSearch(transitions=kind), world, ())
        tree.search(nothing, 500, Random(0))
        move, before = tree.best_action(), tree.root
        child = before.child[move] if kind == "deterministic" else before.child[move][(move,)]
        counts = list(child.count)
        assert tree.advance(move, (move,)) and tree.root is child and sum(counts) == before.count[move] - 1
        tree.search(nothing, 100, Random(0))
        assert sum(tree.root.count) == sum(counts) + 100
        assert not tree.advance(0, ("elsewhere",)) and tree.root.actions is None
    blind = Tree(TreeSearch(transitions="open_loop"), world, ())
    blind.search(nothing, 200, Random(0))
    assert blind.advance(1, (1,)) and blind.root.state == (1,) and blind.root.visits > 0
    blind.search(nothing, 50, Random(0))
    assert blind.best_action() == world.best((1,))[1]


def test_puct_by_hand():
    """Prior (0.1, 0.9), c = 1, values 0: first the likely action; with N = 1, 0.1·1/1 < 0.9·1/2; and so on."""

    class Flat:
        def actions(self, state):
            return (0, 1)

        def step(self, state, action, rng):
            return (state, action), 0.0, True

    tree = Tree(TreeSearch(PUCT(1.0), value_range=(0, 1)), Flat(), "s")
    chosen = []
    for _ in range(12):
        leaf = tree.descend(Random(0))
        chosen.extend(place for _, place, _ in leaf.path)
        tree.back_up(leaf, 0.0, None if leaf.path else [0.1, 0.9])
    counts, expected = [0, 0], []
    for n in range(11):
        root = max(n, 1) ** 0.5
        scores = [0.1 * root / (1 + counts[0]), 0.9 * root / (1 + counts[1])]
        expected.append(scores.index(max(scores)))
        counts[expected[-1]] += 1
    assert chosen == expected and expected[0] == 1 and 0 in expected
    assert tree.visit_policy() == [counts[0] / 11, counts[1] / 11] and tree.visit_policy(0.0) == [0.0, 1.0]
    sharp = tree.visit_policy(0.5)
    assert sharp[1] / sharp[0] == pytest.approx((counts[1] / counts[0]) ** 2)
    disturb_prior(tree, 0.3, 0.25, Random(1))
    assert sum(tree.root.prior) == pytest.approx(1.0) and tree.root.prior[0] >= 0.075 and tree.root.prior[1] >= 0.675
    assert tree.root.weight == [p / (1 + n) for n, p in zip(tree.root.count, tree.root.prior, strict=True)]


def test_the_scale_of_rewards_does_not_matter():
    """Q is normalised by the tree's own range: rewards times 1000 give the same counts."""
    counts = []
    for scale in (1.0, 1000.0):
        world = Paths(4, 3)
        world.pay = {leaf: scale * pay for leaf, pay in world.pay.items()}
        tree = Tree(TreeSearch(), world, ())
        tree.search(nothing, 400, Random(0))
        counts.append(tree.root.count)
    assert counts[0] == counts[1]


def test_trees_side_by_side_are_the_trees_alone():
    """Leaves are valued together, and each tree is as if it were alone; ended games ask nobody."""
    asked = []

    def evaluate(states):
        asked.append(len(states))
        return [0.1 * len(s) for s in states], [[0.3, 0.7]] * len(states)

    worlds = [Paths(3, seed) for seed in range(3)]
    together = [Tree(TreeSearch(PUCT()), world, ()) for world in worlds]
    search_together(together, evaluate, 60, Random(0))
    assert max(asked) == 3 and len(asked) <= 61
    for world, tree in zip(worlds, together, strict=True):
        alone = Tree(TreeSearch(PUCT()), world, ())
        search_together([alone], evaluate, 60, Random(0))
        assert alone.root.count == tree.root.count and alone.action_values() == tree.action_values()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="use UCT with widening"):
        TreeSearch(PUCT(), widening=Widening())
    with pytest.raises(ValueError, match="needs transitions chance"):
        TreeSearch(outcome_widening=Widening())
    with pytest.raises(ValueError, match="must increase"):
        TreeSearch(value_range=(1, 1))
    with pytest.raises(ValueError, match="PUCT needs a prior over the 2 actions of a state, and got none"):
        Tree(TreeSearch(PUCT()), Paths(2, 0), ()).search(nothing, 1, Random(0))
    with pytest.raises(ValueError, match="nothing was searched"):
        Tree(TreeSearch(), Paths(2, 0), ()).best_action()
    with pytest.raises(ValueError, match="has no prior"):
        disturb_prior(Tree(TreeSearch(), Paths(2, 0), ()), 0.3, 0.25, Random(0))
