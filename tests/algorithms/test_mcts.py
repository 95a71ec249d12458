"""MCTS as an agent: what it plays, what it remembers, and that nothing needs to be trained."""

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lit_rl
from lit_rl.callbacks import SearchPictures
from lit_rl.callbacks.search_trees import MARGIN, ROW, WIDTH, first_search, tree_picture, written
from lit_rl.cli import main
from lit_rl.data.episodes import Episodes
from lit_rl.envs.recipe import Env
from lit_rl.planning.graph_search import GraphSearch
from lit_rl.planning.tree_rules import UCT, Widening
from lit_rl.planning.tree_search import Tree, TreeSearch
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("unchecked")  # simulations are many small calls

GAME = Env("lit_rl.envs.tic_tac_toe:lit_rl/TicTacToe-v0")
BEST = TreeSearch(backup="best")
FAR = {"rollouts": 4, "rollout_steps": 200, "gamma": 1.0}
PAYS = TreeSearch(UCT(1.0), value_range=(0, 1))
TO_AND_FRO = TreeSearch(UCT(0.7), value_range=(-1, 1))


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


def play(agent, count, seed=0):
    agent.evaluation = Episodes(count, seed=seed)
    return agent.val_dataloader().play()


def test_the_pole_stays_up():
    agent = lit_rl.MCTS("CartPole-v1", search=BEST, simulations=100, **FAR)
    assert play(agent, 1).returns.tolist() == [500.0]


def test_the_goal_is_found_without_detours():
    agent = lit_rl.MCTS(Env("FrozenLake-v1", kwargs={"is_slippery": False}), search=PAYS, simulations=2000)
    found = play(agent, 1)
    assert found.returns.tolist() == [1.0] and int(found.lengths) <= 10  # the shortest way has 6 steps


def test_on_slippery_ice_it_does_as_well_as_can_be():
    """0.74 is the stationary optimum's share: four standard errors of 25 episodes below that are 0.39."""
    agent = lit_rl.MCTS("FrozenLake-v1", search=GraphSearch(), simulations=200)
    assert float(play(agent, 25).returns.mean()) > 0.39


@pytest.mark.parametrize("opponent", ["perfect", "random"])
def test_no_game_is_lost(opponent):
    agent = lit_rl.MCTS(GAME.replace(kwargs={"opponent": opponent}), search=TO_AND_FRO, simulations=600, gamma=1.0)
    returns = play(agent, 8).returns
    assert returns.min() >= 0.0 and (opponent == "perfect" or returns.mean() > 0.5)


@pytest.mark.parametrize("env", [Env("CartPole-v1"), GAME, Env("FrozenLake-v1")], ids=lambda env: env.id[-12:])
def test_what_was_found_is_used_again(env):
    """The memory of one step is where the next search begins, and it is no search for nothing."""
    search = GraphSearch() if env.id == "FrozenLake-v1" else TreeSearch()
    agent = lit_rl.MCTS(env, search=search, simulations=300)
    forgetful = lit_rl.MCTS(env, search=search, simulations=300, reuse=False)
    assert forgetful.policy.state_size == 0 < agent.policy.state_size
    envs, rng = agent.env.open(1, seed=3), np.random.default_rng(0)
    try:
        obs, memory = envs.reset(), np.zeros((1, agent.policy.state_size), np.float32)
        act = agent.policy.act(obs, memory, rng, explore=False)
        assert act.state[0, 0] > 0 and not memory.any()
        step = envs.step(act.action)
    finally:
        envs.close()
    row = step.obs if not isinstance(step.obs, dict) else {key: value[0] for key, value in step.obs.items()}
    begun = agent.policy.begin(row if isinstance(row, dict) else row[0], act.state[0])
    assert begun.visits > 0
    agent.policy.think([begun], [Random(0)], False)
    assert begun.visits >= 300


def test_greedy_searches_repeat_themselves_and_other_seeds_search_otherwise():
    one, other = (lit_rl.MCTS("CartPole-v1", simulations=20) for _ in range(2))
    obs = np.random.default_rng(0).uniform(-0.05, 0.05, (4, 4)).astype(np.float32)
    values = [[tree.action_values() for tree in agent.policy.search_from(obs)] for agent in (one, one, other)]
    assert values[0] == values[1] != values[2]
    other.load_state_dict(one.state_dict())
    assert [tree.action_values() for tree in other.policy.search_from(obs)] == values[0]


def test_rollouts_are_averaged_or_the_best_is_taken():
    state, kinds = (0.0, 0.0, 0.0, 0.0), {}
    for backup in ("mean", "best"):
        agent = lit_rl.MCTS("CartPole-v1", search=TreeSearch(backup=backup), rollouts=3)
        kinds[backup] = agent.policy.evaluate()(state, Random(0))
    one, rng = agent.policy.world.rollout(50, 0.99), Random(0)
    returns = [one(state, rng) for _ in range(3)]
    assert kinds == {"mean": pytest.approx(sum(returns) / 3), "best": max(returns)}


def test_it_needs_no_training(capsys):
    words = ["--model", "MCTS", "--model.env", "CartPole-v1", "--model.simulations", "5", "--episodes", "2"]
    assert main(["test", *words]) == 0
    assert "test/return" in capsys.readouterr().out


def test_actions_are_written_briefly() -> None:
    assert written(3) == "3" and written((-1.23456, 0.5)) == "-1.2, 0.5"


def test_pictures_arrive_in_tensorboard(tmp_path: Path):
    agent = tiny("MCTS")
    run = lit_rl.Trainer(
        str(tmp_path), 1, callbacks=[SearchPictures(depth=3)], enable_progress_bar=False, enable_checkpointing=False
    )
    run.fit(agent)
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("search/tree")
    assert (image.step, image.width, image.height) == (80, WIDTH, 3 * ROW + 2 * MARGIN)
    tree = first_search(agent, 0)
    assert isinstance(tree, Tree) and tree.visits == 4
    picture = tree_picture(tree, 1)
    dots = (picture[MARGIN + ROW] < 250).any(-1)
    assert np.diff(dots.astype(int)).tolist().count(1) == 2, "two actions"


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="simulations is 0"):
        lit_rl.MCTS("CartPole-v1", simulations=0)
    with pytest.raises(ValueError, match="rollouts is 0"):
        lit_rl.MCTS("CartPole-v1", rollouts=0)
    with pytest.raises(ValueError, match="no search can take place"):
        lit_rl.MCTS("Acrobot-v1")
    with pytest.raises(ValueError, match="best is for one player"):
        play(lit_rl.MCTS(GAME, search=BEST), 1)
    with pytest.raises(ValueError, match="mean, or best with transitions deterministic"):
        replace(BEST, transitions="chance")
    with pytest.raises(ValueError, match="has no list of outcomes"):
        play(lit_rl.MCTS("CartPole-v1", search=GraphSearch()), 1)
    with pytest.raises(NotImplementedError, match="cannot be exported"):
        tiny("MCTS").policy(None)


def test_continuous_actions_are_proposed_and_widened():
    search = TreeSearch(UCT(0.5), widening=Widening(exponent=0.4))
    agent = lit_rl.MCTS("Pendulum-v1", search=search, simulations=150, rollout_steps=30, reuse=False)
    down = np.array([[-1.0, 0.0, 0.0]], np.float32)
    act = agent.policy.act(down, np.zeros((1, 0), np.float32), np.random.default_rng(0), explore=False)
    assert act.action.shape == (1, 1) and act.action.dtype == np.float32 and abs(act.action) <= 2.0
    (tree,) = agent.policy.search_from(down)
    assert len(tree.root.actions) == search.widening.allowed(150), "⌈150^0.4⌉ torques were tried"
    falling = np.array([[1.0, 0.05, 0.8]], np.float32)  # nearly upright, on its way down: only one direction saves it
    act = agent.policy.act(falling, np.zeros((1, 0), np.float32), np.random.default_rng(0), explore=False)
    assert act.action < -0.5
    with pytest.raises(ValueError, match="Pendulum-v1 needs widening"):
        lit_rl.MCTS("Pendulum-v1", reuse=False)
    with pytest.raises(ValueError, match="lists its actions"):
        lit_rl.MCTS("CartPole-v1", search=search, reuse=False)
    with pytest.raises(ValueError, match="proposed actions are not remembered"):
        lit_rl.MCTS("Pendulum-v1", search=search)
    for gravity in (9.81, 0.0):
        with pytest.raises(ValueError, match="leave g out"):
            lit_rl.MCTS(Env("Pendulum-v1", kwargs={"g": gravity}), search=search, reuse=False)
