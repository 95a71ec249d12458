"""Finite MDPs by name: random ones, and those that the literature measures exploration and planning with."""

from collections.abc import Sequence

import numpy as np

from lit_rl.envs.finite_mdp.mdp import Array, FiniteMDP, Successors, from_outcomes

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


def random_mdp(rng: np.random.Generator, states: int, actions: int) -> FiniteMDP:
    """Dirichlet(1) transitions and start, standard normal rewards."""
    transition = rng.dirichlet(np.ones(states), size=(states, actions))
    return FiniteMDP(transition, rng.normal(size=(states, actions)), rng.dirichlet(np.ones(states)))


def chain(n: int = 10) -> FiniteMDP:
    """States 0 … n−1 in a row, start at 0; 0 goes left, 1 right; stepping into the terminal state n−1 pays 1.

    V*(s) = γ^(n−2−s) for s < n−1.
    """
    if n < 2:
        raise ValueError(f"chain: n is {n}; it has a start and an end, so at least 2 states")
    transition, reward = np.zeros((n, 2, n)), np.zeros((n, 2))
    for s in range(n):
        transition[s, 0, max(s - 1, 0)] = transition[s, 1, min(s + 1, n - 1)] = 1.0
    reward[n - 2, 1] = 1.0
    return FiniteMDP(transition, reward, np.eye(n)[0], np.arange(n) == n - 1, (1, n))


def grid(size: int = 4, slip: float = 0.1, sparse: bool = False) -> FiniteMDP:
    """size × size free cells, start in the first, 1 for entering the last, which is terminal; see :func:`maze`."""
    rows = ["." * size for _ in range(size)]
    rows[0], rows[-1] = "S" + rows[0][1:], rows[-1][:-1] + "G"
    return maze(rows, slip, sparse=sparse)


def maze(rows: Sequence[str], slip: float = 0.0, step_reward: float = 0.0, sparse: bool = False) -> FiniteMDP:
    """Cells drawn as text: ``#`` wall, ``S`` start (any number, equally likely), ``G`` goal, ``X`` pit, else free.

    Actions up, right, down, left; with probability ``slip`` the step goes to one of the two sides instead,
    half each; walls and the border hold. Entering a goal pays 1, a pit −1, and ends the episode.

    Args:
        rows: strings of equal length.
        slip: chance of going astray.
        step_reward: paid by every step.
        sparse: keep three successors per pair instead of a full table.

    Raises:
        ValueError: rows differ in length, or nothing is a start.
    """
    drawn = np.array([list(row) for row in rows]) if len({len(row) for row in rows}) == 1 else np.empty((0, 0))
    if drawn.size == 0 or not (drawn == "S").any():
        raise ValueError("maze: rows are strings of one length, and at least one cell is a start, S")
    height, width = drawn.shape
    row, column = np.divmod(np.arange(drawn.size), width)
    wall = drawn.ravel() == "#"
    step = np.empty((drawn.size, 4), np.int64)  # where each move leads
    for a, (down, right) in enumerate(MOVES):
        to = np.clip(row + down, 0, height - 1) * width + np.clip(column + right, 0, width - 1)
        step[:, a] = np.where(wall[to], np.arange(drawn.size), to)
    successor = np.stack([step, np.roll(step, -1, 1), np.roll(step, 1, 1)], -1)  # as meant, and to either side
    probability = np.broadcast_to([1.0 - slip, slip / 2, slip / 2], successor.shape).copy()
    pay = (drawn.ravel() == "G") * 1.0 - (drawn.ravel() == "X")
    reward = step_reward + (probability * pay[successor]).sum(-1)
    start = (drawn.ravel() == "S") / (drawn == "S").sum()
    terminal = np.isin(drawn.ravel(), ["G", "X", "#"])
    mdp = FiniteMDP(Successors(successor, probability), reward, start, terminal, (height, width))
    return mdp if sparse else mdp.as_dense()


def four_rooms(slip: float = 0.0) -> FiniteMDP:
    """The four rooms of Sutton, Precup & Singh 1999 (11 × 11 cells): from one corner to the opposite one."""
    rows = [
        "S....#.....", ".....#.....", "...........", ".....#.....", ".....#.....", "#.####.....",
        ".....###.##", ".....#.....", ".....#.....", "...........", ".....#....G",
    ]  # fmt: skip
    return maze(rows, slip)


def cliff(slip: float = 0.0) -> FiniteMDP:
    """Cliff walking on 4 × 12 cells: −1 a step, the cliff costs −100 and leads back to the start.

    Sutton & Barto 2018, example 6.6. The best return is −13; the corner beyond the cliff ends the episode.
    """
    rows, columns, start, goal = 4, 12, 36, 47
    outcomes: list[list[list[tuple[float, int, float]]]] = []
    for s in range(rows * columns):
        moves = []
        for down, right in MOVES:
            row, column = min(max(s // columns + down, 0), rows - 1), min(max(s % columns + right, 0), columns - 1)
            to = row * columns + column
            moves.append((start, -100.0) if start < to < goal else (to, -1.0))
        chances = ((0, 1.0 - slip), (1, slip / 2), (3, slip / 2))
        outcomes.append([[(chance, *moves[(a + turn) % 4]) for turn, chance in chances] for a in range(4)])
    return from_outcomes(outcomes, np.eye(rows * columns)[start], np.arange(rows * columns) == goal, (rows, columns))


def river_swim(n: int = 6) -> FiniteMDP:
    """A river of ``n`` states: 0 drifts left surely, 1 swims right with luck; it never ends.

    Resting at the left bank pays 0.005, reaching the right bank's current pays 1, n − 1 lucky strokes away.
    Figures of Osband, Russo & Van Roy 2013, after Strehl & Littman 2008.
    """
    if n < 3:
        raise ValueError(f"river_swim: n is {n}; it needs two banks and a river, so at least 3 states")
    transition, reward = np.zeros((n, 2, n)), np.zeros((n, 2))
    for s in range(n):
        transition[s, 0, max(s - 1, 0)] = 1.0
        transition[s, 1, max(s - 1, 0)] += 0.05
        transition[s, 1, s] += 0.6
        transition[s, 1, min(s + 1, n - 1)] += 0.35
    transition[0, 1, :2], transition[n - 1, 1, n - 2 :] = (0.4, 0.6), (0.4, 0.6)
    reward[0, 0], reward[n - 1, 1] = 0.005, 1.0
    return FiniteMDP(transition, reward, np.eye(n)[0], layout=(1, n))


def deep_sea(n: int = 10, seed: int = 42) -> FiniteMDP:
    """A diver sinks one of ``n`` rows a step; only going right every time reaches the treasure of 1.

    Each step right costs 0.01/n, so that the best return is 0.99, and a random walk earns it once in 2ⁿ
    episodes. Which action is right is drawn for each cell (``seed``). Osband et al. 2020, bsuite.
    """
    if n < 1:
        raise ValueError(f"deep_sea: n is {n}; it counts rows, from 1")
    right = np.random.default_rng(seed).integers(2, size=(n, n))
    outcomes: list[list[list[tuple[float, int, float]]]] = []
    for s in range(n * n):
        row, column = divmod(s, n)
        entry = []
        for a in range(2):
            rightwards = a == right[row, column]
            to = min(column + 1, n - 1) if rightwards else max(column - 1, 0)
            pay = rightwards * (float(column == n - 1) - 0.01 / n)
            entry.append([(1.0, (row + 1) * n + to if row + 1 < n else n * n, pay)])
        outcomes.append(entry)
    end = n * n
    outcomes.append([[(1.0, end, 0.0)]] * 2)
    return from_outcomes(outcomes, np.eye(end + 1)[0], np.arange(end + 1) == end, (n, n))


def lottery() -> FiniteMDP:
    """A ticket (action 0) that leads to 0 or −10 with equal chance, or −1 for sure (action 1). Formula sheet 15.5a.

    An optimist who takes the good outcome for his own doing buys the ticket.
    """
    outcomes = [
        [[(0.5, 1, 0.0), (0.5, 2, 0.0)], [(1.0, 3, -1.0)]],
        [[(1.0, 3, 0.0)]] * 2,
        [[(1.0, 3, -10.0)]] * 2,
        [[(1.0, 3, 0.0)]] * 2,
    ]
    return from_outcomes(outcomes, np.eye(4)[0], np.arange(4) == 3)


def seeded_random_mdp(states: int = 10, actions: int = 4, seed: int = 0) -> FiniteMDP:
    """:func:`random_mdp` by its seed, for recipes."""
    return random_mdp(np.random.default_rng(seed), states, actions)


def bandit(means: Sequence[float]) -> FiniteMDP:
    """One state that every arm leads back to; arm k pays ``means[k]`` on average."""
    reward: Array = np.array([means], np.float64)
    return FiniteMDP(np.ones((1, reward.size, 1)), reward, np.ones(1))
