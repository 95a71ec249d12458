import numpy as np
import pytest
from scipy.optimize import minimize

from lit_rl.planning.margin import max_margin, minimise_on_simplex, project, soft_margin


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_margin_against_slsqp(seed):
    rng = np.random.default_rng(seed)
    expert, found = rng.normal(size=5), rng.normal(size=(4, 5))
    best = max_margin(expert, found)
    assert np.linalg.norm(best.psi) == pytest.approx(1.0) and best.weight.sum() == pytest.approx(1.0)
    assert ((expert - found) @ best.psi).min() == pytest.approx(best.margin, abs=1e-6)
    reference = minimize(
        lambda x: -x[5],
        np.append(best.psi * 0.5, 0.0),
        constraints=[
            {"type": "ineq", "fun": lambda x: (expert - found) @ x[:5] - x[5]},
            {"type": "ineq", "fun": lambda x: 1.0 - x[:5] @ x[:5]},
        ],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert best.margin == pytest.approx(-reference.fun, abs=1e-5)


@pytest.mark.parametrize("cost", [0.1, 5.0])
def test_the_soft_margin_against_slsqp(cost):
    rng = np.random.default_rng(0)
    expert, found = rng.normal(size=4), rng.normal(size=(6, 4))
    distance = np.abs(expert - found).sum(-1)
    best = soft_margin(expert, found, distance, cost)
    slack = max(0.0, float((distance - (expert - found) @ best.psi).max()))
    primal = 0.5 * best.psi @ best.psi + cost * slack
    reference = minimize(
        lambda x: 0.5 * x[:4] @ x[:4] + cost * x[4],
        np.zeros(5) + np.eye(5)[4] * 50,
        constraints=[{"type": "ineq", "fun": lambda x: (expert - found) @ x[:4] - distance + x[4]}],
        bounds=[(None, None)] * 4 + [(0, None)],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert primal == pytest.approx(reference.fun, abs=1e-5)


def test_an_expert_inside_the_hull_cannot_be_set_apart():
    corners = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert max_margin(np.array([0.0, 0.3]), corners).margin == pytest.approx(0.0, abs=1e-6)
    assert minimise_on_simplex(np.eye(2), np.array([3.0, 0.0]), 1.0, equality=False).tolist() == [1.0, 0.0]


def test_a_step_of_projection_by_hand():
    # From (0, 0) towards (2, 0), seen from (1, 1): stops at (1, 0). Beyond the new point it stays there.
    origin, new = np.zeros(2), np.array([2.0, 0.0])
    assert project(np.array([1.0, 1.0]), origin, new).tolist() == [1.0, 0.0]
    assert project(np.array([9.0, 1.0]), origin, new).tolist() == [2.0, 0.0]
    assert project(np.array([1.0, 1.0]), origin, origin).tolist() == [0.0, 0.0]
