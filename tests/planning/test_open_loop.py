"""Open against closed loop, by enumerating every sequence and every path."""

from itertools import product

import numpy as np
import pytest
import torch

from lit_rl.envs.finite_mdp import random_mdp
from lit_rl.planning.model import Model, Successors
from lit_rl.planning.open_loop import loop_gap, open_loop_values


def look_then_choose(sure: float = 0.5) -> Model:
    """Start in 0; any action leads to 1 or 2; the right action (0 in state 1, 1 in state 2) then pays 1."""
    transition = torch.zeros(3, 2, 3, dtype=torch.float64)
    transition[0, :, 1], transition[0, :, 2] = sure, 1 - sure
    reward = torch.zeros(3, 2, dtype=torch.float64)
    reward[1, 0] = reward[2, 1] = 1.0
    return Model(transition, reward, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))


def test_seeing_is_worth_what_it_lets_one_choose():
    """Blind: max(p, 1 − p); seeing: 1."""
    assert loop_gap(look_then_choose(), 2) == pytest.approx(0.5, abs=1e-15)
    assert loop_gap(look_then_choose(0.8), 2, gamma=0.5) == pytest.approx(0.1, abs=1e-15)
    assert loop_gap(look_then_choose(1.0), 2) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_every_sequence_and_every_policy(seed):
    """Sequences by summing over paths; the best of all time-dependent policies by trying them."""
    model = random_mdp(np.random.default_rng(seed), 2, 2).model()
    horizon, gamma = 3, 0.9
    values = open_loop_values(model, horizon, gamma)
    assert values.shape == (2,) * horizon

    def expected(choose):
        total = 0.0
        for path in product(range(2), repeat=horizon):
            probability, earned = float(model.initial[path[0]]), 0.0
            for t, state in enumerate(path):
                action = choose(t, state)
                earned += gamma**t * float(model.reward[state, action])
                if t + 1 < horizon:
                    probability *= float(model.transition[state, action, path[t + 1]])
            total += probability * earned
        return total

    for sequence in product(range(2), repeat=horizon):
        assert float(values[sequence]) == pytest.approx(expected(lambda t, s, a=sequence: a[t]), abs=1e-12)
    policies = product(range(2), repeat=2 * horizon)
    closed = max(expected(lambda t, s, p=policy: p[2 * t + s]) for policy in policies)
    assert loop_gap(model, horizon, gamma) == pytest.approx(closed - float(values.max()), abs=1e-12)
    assert loop_gap(model, horizon, gamma) >= 0


def test_certain_worlds_have_no_gap():
    rng = np.random.default_rng(0)
    transition = torch.nn.functional.one_hot(torch.tensor(rng.integers(4, size=(4, 2))), 4).double()
    start = torch.eye(4, dtype=torch.float64)[0]
    model = Model(transition, torch.tensor(rng.normal(size=(4, 2))), start)
    assert loop_gap(model, 6, 0.9) == pytest.approx(0.0, abs=1e-12)
    unknown = Model(transition, model.reward, torch.full((4,), 0.25, dtype=torch.float64))
    assert loop_gap(unknown, 6, 0.9) > 0.01


def test_sparse_models_are_refused():
    model = look_then_choose()
    sparse = Successors(torch.zeros(1, 3, 2, dtype=torch.long), torch.ones(1, 3, 2))
    with pytest.raises(ValueError, match="dense transitions"):
        open_loop_values(model._replace(transition=sparse), 2)
