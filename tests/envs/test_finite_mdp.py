import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.optimize import linprog

from lit_rl.envs.finite_mdp import FiniteMDP, FiniteMDPEnv, chain, grid, random_mdp
from tests.fixtures import enumerate_paths, finite_horizon_values, m2, softmax


def test_the_64_paths_of_m2_agree_with_backward_induction():
    case = m2()
    policy = softmax(case.logits)
    paths = list(enumerate_paths(case.mdp, policy))
    assert len(paths) == 64 and sum(p.probability for p in paths) == pytest.approx(1.0)
    expected = sum(p.probability * sum(0.9**t * r for t, r in enumerate(p.rewards)) for p in paths)
    value, q = finite_horizon_values(case.mdp, policy, 0.9)
    assert case.mdp.initial @ value[0] == pytest.approx(expected)
    assert np.allclose((policy * (q[0] - value[0][:, None])).sum(-1), 0)  # Σ_a π A = 0


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_chain_by_hand(n):
    mdp, gamma = chain(n), 0.9
    right = np.tile([0.0, 1.0], (n, 1))
    expected = np.array([gamma ** (n - 2 - s) for s in range(n - 1)] + [0.0])
    assert np.allclose(mdp.policy_value(right, gamma), expected)
    q = mdp.optimal_q(gamma)
    assert np.allclose(q.max(-1), expected, atol=1e-9)
    assert np.array_equal(mdp.greedy(q)[:-1], right[:-1])
    assert np.allclose(mdp.policy_value(right, 1.0), [1.0] * (n - 1) + [0.0])  # γ = 1 works where all ends


@pytest.mark.parametrize("mdp", [random_mdp(np.random.default_rng(s), 4, 3) for s in range(3)] + [grid()])
def test_optimal_values_solve_the_linear_program(mdp):
    # V* is the least V with V ≥ R_a + γ P_a V for all a: another route to the same number.
    gamma = 0.9
    alive = 1.0 - mdp.terminal
    rows, bounds = [], []
    for s, a in np.ndindex(mdp.reward.shape):
        rows.append(alive[s] * gamma * mdp.transition[s, a] * alive - np.eye(mdp.states)[s])
        bounds.append(-alive[s] * mdp.reward[s, a])
    solution = linprog(np.ones(mdp.states), A_ub=np.array(rows), b_ub=bounds, bounds=(None, None))
    q = mdp.optimal_q(gamma)
    assert np.allclose(q.max(-1), solution.x, atol=1e-7)
    assert np.allclose(mdp.policy_value(mdp.greedy(q), gamma), q.max(-1), atol=1e-9)
    assert np.allclose(q, mdp.backup(q.max(-1), gamma), atol=1e-9)


def test_slip_of_the_grid():
    mdp = grid(4, slip=0.1)
    # From the start, right: 0.9 to cell 1, 0.05 down to cell 4, 0.05 up into the wall.
    assert np.allclose(mdp.transition[0, 1, [1, 4, 0]], [0.9, 0.05, 0.05])
    assert mdp.reward[14, 1] == pytest.approx(0.9)  # the cell before the goal
    sure = grid(4, slip=0.0)
    assert sure.optimal_q(0.9)[0].max() == pytest.approx(0.9**5)  # six steps, the last pays


def test_the_env_samples_its_tables():
    mdp = random_mdp(np.random.default_rng(0), 3, 2)
    check_env(FiniteMDPEnv(mdp), skip_render_check=True)
    env = FiniteMDPEnv(mdp)
    state, _ = env.reset(seed=0)
    counts, visits = np.zeros_like(mdp.transition), np.zeros((3, 2))
    for _ in range(6000):
        action = int(env.np_random.integers(2))
        following, reward, terminated, truncated, _ = env.step(action)
        assert reward == mdp.reward[state, action] and not terminated and not truncated
        counts[state, action, following] += 1
        visits[state, action] += 1
        state = following
    error = np.abs(counts / visits[:, :, None] - mdp.transition)
    assert (error < 5 * np.sqrt(0.25 / visits[:, :, None])).all()  # five standard errors


def test_terminal_states_end_episodes_and_time_limits_cut_them():
    env = gymnasium.wrappers.TimeLimit(FiniteMDPEnv(chain(3)), 4)
    env.reset(seed=0)
    assert env.step(1)[2:4] == (False, False)
    assert env.step(1)[:4] == (2, 1.0, True, False)
    env.reset()
    assert [env.step(0)[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]


def test_value_iteration_without_discount_is_refused():
    with pytest.raises(ValueError, match="gamma is 1"):
        chain(3).optimal_q(1.0)


def test_broken_tables_are_refused():
    good = chain(3)
    with pytest.raises(ValueError, match="transition must be distributions"):
        FiniteMDP(good.transition * 2, good.reward, good.initial)
    with pytest.raises(ValueError, match="does not fit"):
        FiniteMDP(good.transition, good.reward[:2], good.initial)
