"""Planning with known dynamics and searching trees, beside libraries made for it."""

import random
from collections.abc import Callable
from math import pi

import torch

from bench.measure import Quantity, Row, Sample, compare, timed
from lit_rl.planning.mppi import MPPI
from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.trajectory import ControlProblem
from lit_rl.planning.tree_search import TreeSearch
from lit_rl.planning.worlds.tic_tac_toe import TicTacToeWorld

SAMPLES, HORIZON = 500, 25
START = (pi, 0.0)  # hanging down
BAR = -500.0  # of the swing-up's return in 100 steps; who stays below pays about 1,000
SEARCHES = 10  # in a turn
MUST_BLOCK = 0b000_010_000 | 0b000_001_001 << 9  # own stone in the middle, the other's at 0 and 3: only 6 holds


def plans(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """MPPI swings up a pendulum, 500 samples × 25 steps for each plan; the score is the episode's return."""
    steps = steps or 100
    system = Pendulum()
    limit = torch.tensor([2.0], dtype=torch.float64)
    problem = ControlProblem(system, system.cost, -limit, limit, HORIZON)

    def play(seed: int, first_action: Callable[[torch.Tensor], torch.Tensor]) -> float:
        torch.manual_seed(seed)
        state, cost = torch.tensor(START, dtype=torch.float64), 0.0
        for _ in range(steps):
            action = first_action(state)
            cost += float(system.cost(state, action))
            state = system(state, action)
        return -cost

    def ours(seed: int) -> float:
        planner, memory = MPPI(SAMPLES, temperature=0.1, deviation=0.75, control_cost=True), None

        def first_action(state: torch.Tensor) -> torch.Tensor:
            nonlocal memory
            plan = planner.plan(problem, state, memory)
            memory = plan.memory
            return plan.actions[0]

        return play(seed, first_action)

    def theirs(seed: int) -> float:
        from pytorch_mppi import MPPI as Peer

        peer = Peer(
            system, system.cost, 2, noise_sigma=(0.75 * limit).square().diag(), num_samples=SAMPLES,
            horizon=HORIZON, lambda_=0.1, u_min=-limit, u_max=limit, U_init=torch.zeros(HORIZON, 1).double(),
        )  # fmt: skip
        return play(seed, peer.command)

    def turn(episode: Callable[[int], float]) -> Callable[[int], Sample]:
        episode(0)  # what is imported and warmed up counts for neither
        return lambda seed: timed(lambda: episode(seed), steps)

    turns = {"pytorch_mppi": turn(theirs), "lit_rl": turn(ours)}
    bar = BAR if steps >= 100 else None  # in less time nobody is up
    return compare("MPPI, 500 × 25", turns, "pytorch_mppi", rounds, {"lit_rl": 1.0}, "plan", bar=bar)


def searches(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """UCT in tic-tac-toe, one random rollout for each simulation; the score: how often it blocks the only threat."""
    simulations = steps or 2_000
    world = TicTacToeWorld()

    def ours(seed: int) -> int:
        tree = TreeSearch().begin(world, MUST_BLOCK, two_players=True)
        tree.search(world.rollout(9, 1.0), simulations, random.Random(seed))
        return tree.best_action()

    def turn(choose: Callable[[int], int]) -> Callable[[int], Sample]:
        choose(0)

        def play(seed: int) -> float:
            return sum(choose(SEARCHES * seed + again) == 6 for again in range(SEARCHES)) / SEARCHES

        return lambda seed: timed(lambda: play(seed), SEARCHES * simulations)

    turns = {"open_spiel": turn(_open_spiel(simulations)), "lit_rl": turn(ours)}
    return compare("UCT, tic-tac-toe", turns, "open_spiel", rounds, {"lit_rl": 1.0}, "simulation", bar=1.0)


def _open_spiel(simulations: int) -> Callable[[int], int]:
    """Its search in Python, over positions and random play in C++."""
    import numpy as np
    import pyspiel
    from open_spiel.python.algorithms import mcts

    game = pyspiel.load_game("tic_tac_toe")
    position = game.new_initial_state()
    for move in (0, 4, 3):  # the first player has 0 and 3, and the second, with 4, is to move
        position.apply_action(move)

    def choose(seed: int) -> int:
        rng = np.random.RandomState(seed)
        bot = mcts.MCTSBot(game, 2**0.5, simulations, mcts.RandomRolloutEvaluator(1, rng), False, rng)
        return bot.step(position)

    return choose


PLANNERS = {"plans": plans, "searches": searches}
