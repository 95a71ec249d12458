"""Tic-tac-toe: its rules, its exact values, and searches that never lose against them."""

from random import Random

import gymnasium
import numpy as np
import pytest

from lit_rl.envs.tic_tac_toe import FULL, TicTacToe, TicTacToeRules, minimax, move_values
from lit_rl.planning.search_model import random_rollout
from lit_rl.planning.search_together import search_together
from lit_rl.planning.tree_rules import PUCT, UCT
from lit_rl.planning.tree_search import Tree, TreeSearch

RULES = TicTacToeRules()
SIMULATIONS = {"uct": 1000, "puct": 50}
ROLLOUT = random_rollout(RULES, 9, two_players=True)
SEARCHES = {
    "uct": TreeSearch(UCT(0.7), value_range=(-1, 1)),
    "puct": TreeSearch(PUCT(1.25), value_range=(-1, 1)),
}


def positions():
    """All that can be reached while the game goes on."""
    found, open_ones = {RULES.start}, [RULES.start]
    while open_ones:
        position = open_ones.pop()
        for cell in RULES.actions(position):
            following, _, over = RULES.step(position, cell)
            if not over and following not in found:
                found.add(following)
                open_ones.append(following)
    return found


def test_the_game_is_as_large_as_it_is_known_to_be():
    """5478 legal positions, 958 of which are over; 255168 games; a draw with perfect play."""
    running = positions()
    ends = {
        following
        for position in running
        for cell in RULES.actions(position)
        for following, _, over in [RULES.step(position, cell)]
        if over
    }
    assert len(running) == 5478 - 958 and len(ends) == 958

    known = {}

    def games(position):
        if position not in known:
            results = [RULES.step(position, cell) for cell in RULES.actions(position)]
            known[position] = sum(1 if over else games(following) for following, _, over in results)
        return known[position]

    assert games(RULES.start) == 255_168
    assert minimax(RULES.start) == 0 and set(move_values(RULES.start).values()) == {0}
    values = [minimax(position) for position in running]
    assert set(values) == {-1, 0, 1}


def test_wins_and_blocks_are_seen():
    own, other = 0b011, 0b011_000  # X X . / O O . / . . .
    assert move_values(own | other << 9) == {2: 1, 5: 0, 6: -1, 7: -1, 8: -1}
    following, reward, over = RULES.step(own | other << 9, 2)
    assert (following & FULL, following >> 9, reward, over) == (other, 0b111, 1.0, True)
    with pytest.raises(ValueError, match="cell 0 is taken"):
        RULES.step(own | other << 9, 0)


@pytest.mark.parametrize("opponent", ["random", "perfect"])
def test_the_environment(opponent):
    env = gymnasium.make("lit_rl/TicTacToe-v0", opponent=opponent)
    rng, returns = np.random.default_rng(0), []
    for episode in range(200):
        board, info = env.reset(seed=episode)
        over, moves = False, 0
        while not over:
            assert (info["action_mask"] == (board == 0)).all() and env.observation_space.contains(board)
            board, reward, over, _, info = env.step(rng.choice(np.flatnonzero(info["action_mask"])))
            assert reward in (-1.0, 0.0, 1.0) and (over or reward == 0.0)
            moves += 1
        returns.append(reward)
    assert set(returns) == ({-1.0, 0.0, 1.0} if opponent == "random" else {-1.0, 0.0})
    with pytest.raises(ValueError, match="opponent"):
        TicTacToe("strong")


def test_the_board_is_shown_from_the_agents_side():
    env = TicTacToe(begins=True, render_mode="ansi")
    env.reset(seed=0)
    board, *_ = env.step(4)
    assert board[4] == 1.0 and (board == -1.0).sum() == 1 and env.render()[5] == "X"
    env.position, env.opponent = 0b011 | 0b011_000 << 9, "perfect"  # X to move and win
    board, reward, over, _, _ = env.step(2)
    assert (reward, over) == (1.0, True) and board[:3].tolist() == [1.0, 1.0, 1.0]


def think(name, tree, simulations, rng):
    """UCT values leaves by one random game; PUCT by perfect play, with uniform priors: it is told all but the move."""

    def evaluate(states):
        legal = [len(RULES.actions(state)) for state in states]
        values = [ROLLOUT(state, rng) if name == "uct" else minimax(state) for state in states]
        return values, [[1 / n] * n for n in legal]

    search_together([tree], evaluate, simulations, rng)


def play(name, simulations, seed):
    """One game against perfect play, with one tree for all of it; 1, 0 or −1 for the search."""
    rng = Random(seed)
    tree = Tree(SEARCHES[name], RULES, RULES.start, two_players=True)
    position, mine = RULES.start, seed % 2 == 0
    while True:
        if mine:
            think(name, tree, simulations, rng)
            cell = tree.best_action()
        else:
            values = move_values(position)
            cell = rng.choice([cell for cell, value in values.items() if value == max(values.values())])
        position, reward, over = RULES.step(position, cell)
        if over:
            return reward if mine else -reward
        tree.advance(cell, position)
        mine = not mine


@pytest.mark.parametrize("name", SEARCHES)
def test_the_search_never_loses(name):
    assert [play(name, SIMULATIONS[name], seed) for seed in range(6)] == [0.0] * 6


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_the_search_loses_none_of_two_hundred_games(name):
    assert min(play(name, SIMULATIONS[name], seed) for seed in range(200)) == 0.0


@pytest.mark.parametrize("name", SEARCHES)
def test_the_search_takes_what_is_won(name):
    """In positions that are won, the move chosen wins; and the value tends to minimax's."""
    won = [position for position in sorted(positions()) if minimax(position) == 1][::400]
    for position in won:
        tree = Tree(SEARCHES[name], RULES, position, two_players=True)
        think(name, tree, 800, Random(0))
        assert move_values(position)[tree.best_action()] == 1 and tree.value > 0.5
