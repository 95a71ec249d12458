"""Search on the graph of a known world, against its exact optimum."""

from random import Random

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl.envs.finite_mdp import finite_mdp_of, random_mdp
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.graph_search import GraphSearch
from lit_rl.planning.search_model import TabularWorld
from lit_rl.planning.tree_rules import UCT
from lit_rl.planning.worlds import world_of
from lit_rl.planning.worlds.tic_tac_toe import TicTacToeWorld


def nothing(state, rng):
    raise AssertionError("new states are worth the bound")


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_of_a_random_world(seed):
    """Q never falls below Q*, since it begins at a bound and backups are monotone; the root's best Q becomes Q*."""
    model = random_mdp(np.random.default_rng(seed), 5, 3).model()
    exact = value_iteration(model, 0.8, 1e-12).q
    graph = GraphSearch(UCT(0.3), steps=20, bound=float(exact.max()) + 1.0).begin(TabularWorld(model), 0, 0.8)
    for _ in range(4):
        graph.search(nothing, 100, Random(seed))
        for state, vertex in graph.vertices.items():
            assert (torch.tensor(vertex.q, dtype=torch.float64) >= exact[state] - 1e-9).all()
    assert graph.best_action() == int(exact[0].argmax()) and graph.visits >= 400
    assert graph.value == pytest.approx(float(exact[0].max()), abs=0.02)
    assert max(graph.action_values()) == graph.value


def test_the_stationary_optimum_of_slippery_frozen_lake():
    """From every state of it, what is recommended is optimal."""
    env = Env("FrozenLake-v1").with_spaces()
    lake, exact = world_of(env), value_iteration(finite_mdp_of(gymnasium.make("FrozenLake-v1")).model(), 0.99, 1e-10).q
    for state in (0, 1, 2, 4, 6, 8, 9, 10, 13, 14):
        graph = GraphSearch().begin(lake, state, 0.99)
        graph.search(nothing, 200, Random(0))
        assert exact[state, graph.best_action()] == pytest.approx(float(exact[state].max()), abs=1e-9)


def test_without_bonus_and_chance_it_finds_the_shortest_way():
    """Learning real-time A*: optimistic, deterministic, greedy."""
    env = Env("FrozenLake-v1", kwargs={"is_slippery": False}).with_spaces()
    graph = GraphSearch(UCT(1e-9), steps=50).begin(world_of(env), 0, 0.9)
    graph.search(nothing, 60, Random(0))
    assert graph.value == pytest.approx(0.9**5)


def test_what_is_written_down_is_the_graph():
    env = Env("FrozenLake-v1").with_spaces()
    lake, recipe = world_of(env), GraphSearch()
    graph = recipe.begin(lake, 0, 0.99)
    graph.search(nothing, 50, Random(0))
    row = np.zeros(recipe.row_length(lake, 50), np.float32)
    graph.write(graph.best_action(), lake, row)
    again = recipe.begin(lake, 4, 0.99)
    assert again.resume(row, lake) and again.visits == graph.vertices[4].visits
    for state, vertex in again.vertices.items():
        assert vertex.count == graph.vertices[state].count
        assert vertex.q == pytest.approx(graph.vertices[state].q, rel=1e-6)
    again.search(nothing, 10, Random(0))
    assert not recipe.begin(lake, 4, 0.99).resume(np.zeros_like(row), lake)
    short = np.zeros(recipe.row_length(lake, 0), np.float32)
    graph.write(graph.best_action(), lake, short)
    assert short[0] == 2


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        GraphSearch(steps=0)
    with pytest.raises(ValueError, match="is for one player"):
        GraphSearch().begin(TicTacToeWorld(), 0, two_players=True)
    with pytest.raises(ValueError, match="nothing was searched"):
        GraphSearch().begin(TabularWorld(random_mdp(np.random.default_rng(0), 2, 2).model()), 0).best_action()
