"""Multi-step targets: by hand, as one another's special cases, and their bias at Q* by enumeration."""

from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lit_rl.algorithms.q_learning.macro_q import macro_target
from lit_rl.algorithms.q_learning.n_step_dqn import corrected_target
from lit_rl.batch import Transition
from lit_rl.data.windows import Window
from lit_rl.envs.finite_mdp import FiniteMDP, chain, random_mdp
from lit_rl.functional.multi_step import multi_step_target, trace_coefficient, traced_target

GAMMA, STEPS = 0.9, 3


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


ALL = torch.ones(1, 3, dtype=torch.bool)


def test_by_hand() -> None:
    """Rewards 1, 2, 4; γ = ½; values after the steps 10, 20, 30."""
    reward, discount, value = row(1, 2, 4), row(0.5, 0.5, 0.5), row(10, 20, 30)
    assert multi_step_target(reward, discount, value, ALL).item() == 1 + 1 + 1 + 30 / 8
    two = torch.tensor([[True, True, False]])
    assert multi_step_target(reward, discount, value, two).item() == 1 + 1 + 20 / 4, "a shorter window bootstraps there"
    ended = row(0.5, 0.0, 0.5)
    assert multi_step_target(reward, ended, value, two).item() == 1 + 1, "termination cuts the bootstrap"
    greedy = torch.tensor([[False, True, False]])
    assert multi_step_target(reward, discount, value, ALL, goes_on=greedy).item() == 1 + 1 + 20 / 4
    ratio = row(99, 3, 2)
    assert multi_step_target(reward, discount, value, ALL, ratio=ratio).item() == 1 + 3 + 6 + 6 * 30 / 8
    # δ: 1 + 5 − 7 = −1, 2 + 10 − 8 = 4, 4 + 15 − 9 = 10; c = ½, ¼
    traced = traced_target(row(7, 8, 9), reward, discount, value, ALL, row(99, 0.5, 0.25))
    assert traced.item() == 7 - 1 + 0.25 * 4 + 0.25 * 0.125 * 10


def test_coefficients() -> None:
    probability, log_mu = row(0.5, 0.9, 0.0), row(0.25, 0.9, 0.5).log()
    np.testing.assert_allclose(trace_coefficient("retrace", probability, log_mu, 0.8), [[0.8, 0.8, 0]])
    np.testing.assert_allclose(trace_coefficient("tree_backup", probability, log_mu, 0.8), [[0.4, 0.72, 0]])
    np.testing.assert_allclose(trace_coefficient("q_lambda", probability, log_mu, 0.8), [[0.8, 0.8, 0.8]])


class Paths(NamedTuple):
    """Every window of STEPS steps in an MDP, with its probability given the first state and action."""

    window: Window
    next_state: torch.Tensor  # [P, L]
    probability: np.ndarray  # [P]
    first: np.ndarray  # [P], s · A + a


def paths(mdp: FiniteMDP, mu: np.ndarray, steps: int = STEPS) -> Paths:
    """Windows go on to their last row or to a terminal state; what would follow it is masked."""
    found = []
    for states in product(range(mdp.states), repeat=steps + 1):
        for actions in product(range(mdp.actions), repeat=steps):
            ends = [mdp.terminal[s] for s in states[1:]]
            alive = [True, *(not any(ends[:k]) for k in range(1, steps))]
            if mdp.terminal[states[0]]:
                continue
            probability = mdp.transition[states[0], actions[0], states[1]]
            for k in range(1, steps):
                if alive[k]:
                    probability *= mu[states[k], actions[k]] * mdp.transition[states[k], actions[k], states[k + 1]]
                elif actions[k] or states[k + 1]:
                    probability = 0.0  # one stands for all that lie beyond the end
            if probability > 0:
                found.append((states, actions, ends, alive, probability))
    states, actions, ends, alive, probability = (np.array(column) for column in zip(*found, strict=True))
    here, action = states[:, :-1], torch.from_numpy(actions)
    discount = torch.from_numpy(GAMMA * ~ends.astype(bool))
    transition = Transition(
        obs=torch.from_numpy(here),
        action=action,
        reward=torch.from_numpy(mdp.reward[here, actions]),
        discount=discount,
        next_obs=torch.from_numpy(states[:, 1:]),
        log_prob=torch.from_numpy(np.log(mu[here, actions])),
        weight=torch.ones(len(here)),
        index=torch.arange(len(here)),
    )
    window = Window(transition, torch.from_numpy(alive.astype(bool)))
    return Paths(window, transition.next_obs, probability, here[:, 0] * mdp.actions + actions[:, 0])


def expectation(mdp: FiniteMDP, found: Paths, target: torch.Tensor) -> np.ndarray:
    """E[y | s, a] [S, A]."""
    size = mdp.states * mdp.actions
    total = np.bincount(found.first, found.probability * target.numpy(), size)
    return total.reshape(mdp.states, mdp.actions)


def fixed_point(mdp: FiniteMDP, epsilon: float) -> np.ndarray:
    """q of the policy that is ε-greedy in q itself; Q* at ε = 0."""
    q = np.zeros((mdp.states, mdp.actions))
    for _ in range(2000):
        pi = epsilon / mdp.actions + (1 - epsilon) * np.eye(mdp.actions)[q.argmax(-1)]
        q = mdp.backup((pi * q).sum(-1), GAMMA)
    return q


def problem(kind: str) -> tuple[FiniteMDP, np.ndarray]:
    rng = np.random.default_rng(3)
    mdp = random_mdp(rng, 4, 2) if kind == "random" else chain(4)
    return mdp, rng.dirichlet(np.ones(2), size=4) * 0.8 + 0.1


@pytest.mark.parametrize("kind", ["random", "chain"])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
@pytest.mark.parametrize("correction", ["cut", "importance", "retrace", "tree_backup", "q_lambda"])
def test_corrected_targets_leave_the_fixed_point_where_it_is(correction: str, epsilon: float, kind: str) -> None:
    if correction == "cut" and epsilon:
        pytest.skip("cutting is for the greedy policy")
    mdp, mu = problem(kind)
    q = fixed_point(mdp, epsilon)
    found, values = paths(mdp, mu), torch.from_numpy(q)
    steps = found.window.steps
    y = corrected_target(correction, found.window, values[steps.obs], values[steps.next_obs], 0.9, epsilon)
    bias = (expectation(mdp, found, y) - q)[~mdp.terminal]
    assert np.abs(bias).max() < 1e-10


def test_the_uncorrected_target_is_biased() -> None:
    mdp, mu = problem("random")
    q = fixed_point(mdp, 0.0)
    found, values = paths(mdp, mu), torch.from_numpy(q)
    steps = found.window.steps
    y = corrected_target("ignore", found.window, values[steps.obs], values[steps.next_obs])
    assert np.abs(expectation(mdp, found, y) - q).max() > 0.1
    one = Window(steps, torch.arange(STEPS).expand(found.window.valid.shape) == 0)
    y = corrected_target("ignore", one, values[steps.obs], values[steps.next_obs])
    assert np.abs(expectation(mdp, found, y) - q).max() < 1e-10, "one step needs no correction"


def test_with_a_greedy_policy_a_trace_of_zero_is_a_cut() -> None:
    """λ = 1: where a_k is greedy, V(s_k) = q(s_k, a_k) and the trace telescopes."""
    mdp, mu = problem("random")
    found = paths(mdp, mu)
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 2)))  # any q will do
    steps = found.window.steps
    cut, *traces = (
        corrected_target(c, found.window, values[steps.obs], values[steps.next_obs])
        for c in ("cut", "retrace", "tree_backup")
    )
    for y in traces:
        torch.testing.assert_close(y, cut)


def test_retrace_on_policy_is_importance_sampling() -> None:
    """π = μ: with ratios 1 both are the n-step return of expected values, up to the control variates' mean."""
    mdp, _ = problem("random")
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 2)))
    pi = (0.3 / 2 + 0.7 * np.eye(2)[values.numpy().argmax(-1)]).astype(float)
    found = paths(mdp, pi)
    steps = found.window.steps
    arguments = (found.window, values[steps.obs], values[steps.next_obs], 1.0, 0.3)
    ignore, weighted, traced = (
        expectation(mdp, found, corrected_target(c, *arguments)) for c in ("ignore", "importance", "retrace")
    )
    np.testing.assert_allclose(weighted, ignore, atol=1e-12)
    np.testing.assert_allclose(traced, ignore, atol=1e-12)


def macro_fixed_point(mdp: FiniteMDP, steps: int) -> np.ndarray:
    """q [S, Aⁿ] of the problem whose actions are open-loop sequences."""
    sequences = list(product(range(mdp.actions), repeat=steps))
    alive = ~mdp.terminal
    q = np.zeros((mdp.states, len(sequences)))
    for _ in range(1000):
        value = q.max(-1) * alive
        for j, sequence in enumerate(sequences):
            tail = value
            for action in reversed(sequence):
                tail = alive * (mdp.reward[:, action] + GAMMA * mdp.transition[:, action] @ tail)
            q[:, j] = tail
    return q


@pytest.mark.parametrize("kind", ["random", "chain"])
def test_macro_targets_leave_the_open_loop_value_where_it_is(kind: str) -> None:
    mdp, mu = problem(kind)
    q, best = macro_fixed_point(mdp, STEPS), mdp.optimal_q(GAMMA).max(-1)
    assert (q.max(-1) <= best + 1e-9).all()
    assert np.allclose(q.max(-1), best) == (kind == "chain"), "equal where the dynamics are deterministic"
    found = paths(mdp, mu)
    steps = found.window.steps
    after = torch.from_numpy(q.max(-1))[steps.next_obs[:, -1]]
    y, counts = macro_target(steps.reward, steps.discount, found.window.valid, after)
    assert counts.all()
    # E[y | s, a_0 … a_2] over the states in between: the probability of the actions is divided out
    action = steps.action.numpy()
    here = steps.obs.numpy()
    chance = found.probability / np.where(found.window.valid[:, 1:], mu[here, action][:, 1:], 1).prod(-1)
    for s, actions in {(s, tuple(a)) for s, a in zip(here[:, 0], action, strict=True)}:
        rows = (here[:, 0] == s) & (action == actions).all(-1)
        if chance[rows].sum() > 0.999:  # all that can happen; else the sequence is cut by the end somewhere
            j = int(np.ravel_multi_index(actions, (mdp.actions,) * STEPS))
            assert (chance[rows] * y.numpy()[rows]).sum() == pytest.approx(q[s, j], abs=1e-9)


def test_macro_windows_that_a_time_limit_cuts_do_not_count() -> None:
    """Row 0 is whole, row 1 terminates early, row 2 is cut: (1), (2) and nothing."""
    valid = torch.tensor([[True, True], [True, False], [True, False]])
    reward, discount = torch.ones(3, 2), torch.tensor([[0.5, 0.5], [0.0, 0.5], [0.5, 0.5]])
    y, counts = macro_target(reward, discount, valid, torch.full((3,), 8.0))
    assert counts.tolist() == [True, True, False]
    assert y[:2].tolist() == [1 + 0.5 + 2, 1]
