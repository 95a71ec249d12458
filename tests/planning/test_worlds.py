"""Worlds are the environments that they stand for, and what a policy remembers of a search is that search."""

from random import Random

import gymnasium
import numpy as np
import pytest

from lit_rl.envs.recipe import Env
from lit_rl.envs.tic_tac_toe import TicTacToeRules
from lit_rl.planning.search_model import random_rollout
from lit_rl.planning.tree_rules import PUCT, UCT
from lit_rl.planning.tree_search import Tree, TreeSearch
from lit_rl.planning.worlds import world_of
from lit_rl.planning.worlds.cart_pole import CartPoleWorld
from lit_rl.planning.worlds.pendulum import PendulumWorld
from lit_rl.planning.worlds.tic_tac_toe import TicTacToeWorld
from tests.envs.test_tic_tac_toe import positions

GAME = "lit_rl.envs.tic_tac_toe:lit_rl/TicTacToe-v0"


def world(id_, **arguments):
    return world_of(Env(id_, **arguments).with_spaces())


def test_cart_pole_moves_as_gymnasium_has_it():
    env, here, rng = gymnasium.make("CartPole-v1").unwrapped, CartPoleWorld(), Random(0)
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        assert here.read(obs) == pytest.approx(env.state, abs=1e-7)
        over = False
        while not over:
            before, action = tuple(env.state), rng.randrange(2)
            obs, reward, over, *_ = env.step(action)
            following, paid, ended = here.step(before, action)
            assert following == pytest.approx(tuple(env.state), abs=1e-12) and (paid, ended) == (reward, over)
            assert here.same(following, here.read(obs))
    assert not here.same((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1e-3, 0.0))


def test_fast_rollouts_are_the_plain_ones():
    rng = Random(0)
    games = sorted(positions())[::40]
    pushed = [tuple(rng.uniform(-0.1, 0.1) for _ in range(4)) for _ in range(100)]
    for here, states in ((CartPoleWorld(), pushed), (TicTacToeWorld(), games)):
        for seed, state in enumerate(states):
            fast, plain = here.rollout(7, 0.9), random_rollout(here, 7, 0.9, here.two_players)
            assert fast(state, Random(seed)) == pytest.approx(plain(state, Random(seed)), abs=1e-12)


def test_boards_are_read_and_shown():
    env, here, rng = gymnasium.make("lit_rl/TicTacToe-v0").unwrapped, TicTacToeWorld(), np.random.default_rng(0)
    for seed in range(30):
        board, info = env.reset(seed=seed)
        over = False
        while not over:
            state = here.read({"observation": board, "action_mask": info["action_mask"]})
            assert state == env.position and here.actions(state) == np.flatnonzero(info["action_mask"]).tolist()
            assert here.state(here.write(state)) == state
            assert np.array_equal(here.observe([state])[0], board)
            board, _, over, _, info = env.step(rng.choice(here.actions(state)))


def test_tables_are_the_environment_s():
    here = world("FrozenLake-v1")
    outcomes = here.outcomes(14, 2)
    assert [tuple(rest) for _, *rest in outcomes] == [(10, 1 / 3, False), (14, 1 / 3, False), (-1, 1 / 3, True)]
    assert [chance for chance, *_ in outcomes] == pytest.approx([1 / 3] * 3)
    drawn = [here.step(14, 2, Random(seed)) for seed in range(3000)]
    for chance, *outcome in outcomes:
        assert np.mean([list(step) == outcome for step in drawn]) == pytest.approx(chance, abs=0.04)


def test_environments_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match="no search can take place in Acrobot-v1"):
        world("Acrobot-v1")
    with pytest.raises(ValueError, match="not behind the wrapper MaskVelocity"):
        world("CartPole-v1", wrappers=["MaskVelocity"])
    with pytest.raises(ValueError, match="leave sutton_barto_reward out"):
        world("CartPole-v1", kwargs={"sutton_barto_reward": True})
    with pytest.raises(ValueError, match="has no list of outcomes"):
        CartPoleWorld().outcomes((0.0, 0.0, 0.0, 0.0), 1)


def below(node):
    """All that is known of a node, without what float32 rounds."""
    children = [list(c.values()) if isinstance(c, dict) else [c] if c else [] for c in node.child]
    numbers = (node.visits, tuple(node.count), node.ended, node.arrivals, node.actions is None)
    return (*numbers, tuple(tuple(sorted(map(below, each))) for each in children))


@pytest.mark.parametrize(
    ("id_", "search", "start"),
    [
        ("CartPole-v1", TreeSearch(UCT(1.0)), (0.01, 0.02, -0.03, 0.04)),
        ("CartPole-v1", TreeSearch(UCT(1.0), transitions="open_loop"), (0.01, 0.02, -0.03, 0.04)),
        ("FrozenLake-v1", TreeSearch(UCT(1.0), transitions="chance"), 0),
        (GAME, TreeSearch(UCT(0.7), value_range=(-1, 1)), TicTacToeRules.start),
        (GAME, TreeSearch(PUCT(), value_range=(-1, 1)), TicTacToeRules.start),
    ],
    ids=["certain", "open_loop", "chance", "two_players", "prior"],
)
def test_what_is_written_down_is_the_tree(id_, search, start):
    """Counts and children survive; values do to float32; what has no place is left out from the leaves on."""
    here, rng = world(id_), Random(0)
    tree = Tree(search, here, start, 0.9, here.two_players)
    evaluate = here.rollout(5, 0.9)
    for _ in range(201):
        leaf = tree.descend(rng)
        legal = len(here.actions(leaf.state)) if not leaf.ended else 1
        tree.back_up(leaf, 0.0 if leaf.ended else evaluate(leaf.state, rng), [1 / legal] * legal)
    action, row = tree.best_action(), np.zeros(search.row_length(here, 200), np.float32)
    tree.write(action, here, row)
    following, _, _ = here.step(start, action, rng)
    if here.two_players:
        following, _, _ = here.step(following, here.actions(following)[0], rng)
    elif id_ == "FrozenLake-v1":
        following = 4
    again = Tree(search, here, following, 0.9, here.two_players)
    assert again.resume(row, here) and again.visits > 0
    (kept,) = (
        node for node in tree._after(action) if search.transitions == "open_loop" or here.same(node.state, following)
    )
    assert below(again.root) == below(kept)
    assert again.root.mean == pytest.approx(kept.mean, rel=1e-6) and again.root.weight == pytest.approx(kept.weight)
    assert not Tree(search, here, start, 0.9, here.two_players).resume(np.zeros_like(row), here)
    short = np.zeros(search.row_length(here, 4), np.float32)
    tree.write(action, here, short)
    few = Tree(search, here, following, 0.9, here.two_players)
    assert few.resume(short, here) and few.root.count == kept.count


def test_the_pendulum_swings_as_gymnasium_has_it():
    env, here, rng = gymnasium.make("Pendulum-v1").unwrapped, PendulumWorld(), Random(0)
    for seed in range(10):
        obs, _ = env.reset(seed=seed)
        angle, speed = env.state
        assert here.read(obs) == pytest.approx((float(np.arctan2(np.sin(angle), np.cos(angle))), speed), abs=1e-6)
        for _ in range(100):
            before, action = tuple(float(x) for x in env.state), here.propose((0.0, 0.0), rng)
            assert -2.0 <= action[0] <= 2.0
            _, reward, *_ = env.step(np.array(action))
            following, paid, ended = here.step(before, action)
            assert following == pytest.approx(tuple(env.state), abs=1e-9) and not ended
            assert paid == pytest.approx(float(reward), abs=1e-9)
    with pytest.raises(ValueError, match="too many torques"):
        here.actions((0.0, 0.0))
    with pytest.raises(ValueError, match="lists its actions"):
        CartPoleWorld().propose((0.0, 0.0, 0.0, 0.0), rng)


def test_a_rollout_of_the_pendulum_pays_what_its_steps_pay():
    class Steady(Random):
        """Draws 0.75 for ever: one torque of 1, which is kept."""

        def random(self) -> float:
            return 0.75

    here, state = PendulumWorld(), (2.0, -0.5)
    value, discount, wanted = here.rollout(20, 0.9)(state, Steady()), 1.0, 0.0
    for _ in range(20):
        state, reward, _ = here.step(state, (1.0,))
        wanted, discount = wanted + discount * reward, 0.9 * discount
    assert value == pytest.approx(wanted, abs=1e-12)
