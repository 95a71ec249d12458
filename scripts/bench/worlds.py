"""Solving finite worlds exactly, beside libraries that do only that."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from bench.measure import Quantity, Row, Sample, compare, timed
from lit_rl.envs.finite_mdp import grid
from lit_rl.planning.dynamic_programming import value_iteration
from lit_rl.planning.model import Model, Successors

GAMMA = 0.95
TOLERANCE = 1e-6


def value_iterations(steps: int | None, rounds: int) -> list[Row | Quantity]:
    """Value iteration to 1e-6 in slippery grids; what the score says is minus the largest error."""
    rows: list[Row | Quantity] = []
    sizes = [20] if steps else [30, 316]
    for size in sizes:
        model = grid(size, sparse=True).model()
        exact = value_iteration(model, GAMMA, 1e-12).value.numpy()
        contestants: dict[str, Callable[[int], Sample]] = {
            "quantecon": _turn(_quantecon(model), exact),
            "lit_rl": _turn(lambda model=model: value_iteration(model, GAMMA, TOLERANCE).value.numpy(), exact),
        }
        if size < 100:  # it takes minutes beyond
            contestants["pymdptoolbox"] = _turn(partial(_mdptoolbox, *_matrices(model)), exact)
        for run in contestants.values():
            run(0)
        torch.set_num_threads(1)  # importing numba has set it to all
        name = f"value iteration, {size * size:,} states"
        reference = "pymdptoolbox" if "pymdptoolbox" in contestants else "quantecon"
        rows += compare(name, contestants, reference, rounds, {"lit_rl": 1.0}, "call", bar=-2 * TOLERANCE)
    return rows


def _turn(solve: Callable[[], np.ndarray], exact: np.ndarray) -> Callable[[int], Sample]:
    return lambda _: timed(lambda: -float(np.abs(solve() - exact).max()), 1)


def _matrices(model: Model) -> tuple[list, np.ndarray]:
    """A sparse matrix [S + 1, S + 1] per action and rewards [S + 1, A]: the last state is where episodes end."""
    from scipy import sparse

    assert isinstance(model.transition, Successors)
    reward = model.reward.numpy()
    states, actions = reward.shape
    size, rows = (states + 1, states + 1), np.tile(np.arange(states), len(model.transition.state))
    matrices = []
    for action in range(actions):
        to, probability = (part[:, :, action].reshape(-1).numpy() for part in model.transition)
        inside = sparse.csr_matrix((probability, (rows, to)), size)
        ending = 1 - np.asarray(inside.sum(1)).ravel()
        matrices.append(
            (inside + sparse.csr_matrix((ending, (np.arange(size[0]), np.full(size[0], states))), size)).tocsr()
        )
    return matrices, np.vstack([reward, np.zeros((1, actions))])


def _mdptoolbox(matrices: list, reward: np.ndarray) -> np.ndarray:
    from mdptoolbox.mdp import ValueIteration

    solver = ValueIteration(matrices, reward, GAMMA, epsilon=TOLERANCE, max_iter=100_000)
    solver.run()
    return np.array(solver.V[:-1])


def _quantecon(model: Model) -> Callable[[], np.ndarray]:
    """Its own form of the problem, pairs in one sparse matrix, is made beforehand."""
    from quantecon.markov import DiscreteDP
    from scipy import sparse

    matrices, reward = _matrices(model)
    states, actions = reward.shape
    order = np.arange(states * actions).reshape(actions, states).T.reshape(-1)  # from action-major to state-major
    pairs = sparse.vstack(matrices).tocsr()[order]
    state, action = np.divmod(np.arange(states * actions), actions)
    problem = DiscreteDP(reward.reshape(-1), pairs, GAMMA, state, action)
    return lambda: problem.solve("value_iteration", epsilon=2 * TOLERANCE, max_iter=100_000).v[:-1]


WORLDS = {"value_iteration": value_iterations}
