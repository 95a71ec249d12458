"""AlphaZero: its loss by hand, its games, and that a minute's fraction of self-play makes the bare network better."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from lit_rl.algorithms.search.alpha_zero import AlphaZero, prior_loss, value_loss
from lit_rl.data.episodes import Episodes
from lit_rl.data.self_play import SelfPlay
from lit_rl.envs.recipe import Env
from lit_rl.envs.tic_tac_toe import minimax, move_values
from lit_rl.nn.body import MLP, Recurrent
from lit_rl.optimizer import Optimizer
from tests.envs.test_tic_tac_toe import positions
from tests.tiny import tiny, trainer

GAME = Env("lit_rl.envs.tic_tac_toe:lit_rl/TicTacToe-v0", num_envs=32, kwargs={"opponent": "perfect"})


def test_the_loss_by_hand():
    """p = softmax(ln 3, 0) = (¾, ¼) over the legal moves; −½ ln ¾ − ½ ln ¼; (1 − 0.5)²."""
    logits = torch.tensor([[3.0, 1.0, 50.0]]).log()
    legal = torch.tensor([[True, True, False]])
    policy = torch.tensor([[0.5, 0.5, 0.0]])
    expected = -0.5 * np.log(0.75) - 0.5 * np.log(0.25)
    assert float(prior_loss(logits, policy, legal)) == pytest.approx(expected, rel=1e-6)
    assert value_loss(torch.tensor([0.5, -1.0]), torch.tensor([1.0, 0.0])).tolist() == [0.25, 1.0]


def test_the_penalty_is_of_all_weights():
    agent = tiny("AlphaZero")
    batch = next(iter(agent.minibatches(lessons(agent))))
    total = sum(float(p.detach().square().sum()) for p in agent.parameters())
    assert float(agent.loss(batch)["penalty"].detach()) == pytest.approx(1e-4 * total, rel=1e-5)


def lessons(agent):
    experience = SelfPlay(200, batch_size=64, replay_ratio=1.0, warmup=0).open(agent.env, agent.policy, 1.0, 0)
    for _ in range(12):
        experience.next_round()
    return experience.lessons(1)


def test_outcomes_are_seen_by_whoever_moves():
    """Boards, moves and results of whole games: z alternates, a winning move is worth 1, π is where it may be."""
    agent = tiny("AlphaZero", num_envs=5)
    experience = SelfPlay(500, warmup=0).open(agent.env, agent.policy, 0.5, 3)
    while len(experience.recent) < 20:
        experience.next_round()
    rows, first = experience.rows, 0
    for score, length in experience.recent:
        game = rows[first : first + length]
        stones = np.abs(game["board"]).sum(-1)
        assert stones.tolist() == list(range(length)), "one stone after the other"
        won = game["outcome"][-1]
        assert won in (0.0, 1.0) and (length == 9 or won == 1.0)
        assert np.allclose(game["outcome"], won * (-0.5) ** np.arange(length)[::-1])
        assert score == game["outcome"][0]
        assert np.array_equal(game["legal"], game["board"] == 0)
        assert np.allclose(game["policy"].sum(-1), 1.0) and not game["policy"][~game["legal"]].any()
        for before, after in zip(game["board"], game["board"][1:], strict=False):
            assert ((-after != before).sum(), (-after - before).sum()) == (1, 1), "seen from the other side"
        first += length


def test_searches_side_by_side_are_the_searches_alone():
    """The network is asked for all games at once: each tree is as if it were alone."""
    policy = tiny("AlphaZero", simulations=20).policy
    policy.refresh()
    states = [0, 0b1 << 9, (0b11 | 0b11000 << 9)]
    together = policy.study(states, Random(0))
    for state, tree in zip(states, together, strict=True):
        (alone,) = policy.study([state], Random(1))
        assert alone.root.count == tree.root.count and sum(tree.root.count) == 20
        assert alone.action_values() == pytest.approx(tree.action_values(), abs=1e-5, nan_ok=True)
    noisy = policy.study(states, Random(0), (1.0, 0.25))
    assert [tree.root.prior for tree in noisy] != [tree.root.prior for tree in together]
    fast = policy.evaluate(states)
    policy._fast = None
    for one, other in zip(fast, policy.evaluate(states), strict=True):
        for a, b in zip(one, other, strict=True):
            assert a == pytest.approx(b, abs=1e-5)


def quality(agent):
    """Mean squared error of v against minimax, and the share of positions where the likeliest move is a best one."""
    every = sorted(positions())
    board = torch.from_numpy(agent.policy.world.observe(every))
    with torch.no_grad():
        _, value = agent.policy.outputs(board)
        chosen = agent.policy({"observation": board, "action_mask": board == 0})
    exact = torch.tensor([float(minimax(position)) for position in every])
    best = [move_values(p)[int(move)] == minimax(p) for p, move in zip(every, chosen, strict=True)]
    return float((value - exact).square().mean()), float(np.mean(best))


@pytest.mark.medium
@pytest.mark.usefixtures("unchecked")
def test_the_bare_network_learns(tmp_path: Path):
    """Of 4520 positions; an untrained network errs by the mean square of minimax, 0.7, and moves well in 56 %."""
    seed_everything(0, verbose=False)
    data = SelfPlay(6000, batch_size=128, replay_ratio=0.2, warmup=400, steps_per_epoch=3000)
    agent = AlphaZero(GAME, data, MLP((64,), "relu"), Optimizer(lr=5e-3), simulations=8)
    error, share = quality(agent)
    trainer(tmp_path).fit(agent)
    after_error, after_share = quality(agent)
    assert after_error < 0.75 * error and after_share > share + 0.25
    agent.evaluation, agent.policy.simulations = Episodes(20), 50
    assert agent.val_dataloader().play().returns.min() >= 0.0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="self-play is for games of two players"):
        AlphaZero("FrozenLake-v1")
    with pytest.raises(ValueError, match="two at least"):
        AlphaZero(GAME, simulations=1)
    with pytest.raises(ValueError, match="use a body without memory"):
        AlphaZero(GAME, net=Recurrent())
    with pytest.raises(ValueError, match="noise is"):
        SelfPlay(noise=(0.0, 0.25))
