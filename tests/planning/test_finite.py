"""Chains, occupancies, values and optimal values against closed forms, enumeration and linear programming."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from lit_rl.envs.finite_mdp import chain, grid, random_mdp, river_swim
from lit_rl.planning import dynamic_programming as dp
from lit_rl.planning import evaluation, markov_chain, occupancy, projection
from lit_rl.planning.model import Model, expectation, flow, pair_chain, policy_chain
from tests.fixtures import HORIZON, enumerate_paths, finite_horizon_values, m2, softmax

GAMMA = 0.9


def case(seed=0, states=5, actions=3):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states, actions)
    return mdp, mdp.model(), torch.tensor(softmax(rng.normal(size=(states, actions))))


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.1), (0.9, 0.7), (1.0, 1.0)])
def test_two_states_that_flip(a, b):
    flip = torch.tensor([[1 - a, a], [b, 1 - b]], dtype=torch.float64)
    stationary = markov_chain.stationary_distribution(flip)
    assert torch.allclose(stationary, torch.tensor([b, a], dtype=torch.float64) / (a + b), atol=1e-12)
    moved = markov_chain.propagate(flip, torch.tensor([1.0, 0.0], dtype=torch.float64), 500)
    periodic = a == b == 1.0
    assert markov_chain.period(flip) == (2 if periodic else 1) and markov_chain.is_irreducible(flip)
    assert markov_chain.is_ergodic(flip) != periodic
    assert torch.allclose(moved[-1], stationary, atol=1e-9) != periodic


def test_classes_and_periods():
    eye, cycle = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64).roll(1, 0)
    assert markov_chain.period(cycle) == 3 and markov_chain.recurrent_classes(eye) == [[0], [1], [2]]
    with pytest.raises(ValueError, match="several recurrent"):
        markov_chain.stationary_distribution(eye)
    absorbed = torch.tensor([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    assert markov_chain.recurrent_classes(absorbed) == [[1, 2]] and not markov_chain.is_irreducible(absorbed)
    assert torch.allclose(markov_chain.stationary_distribution(absorbed), torch.tensor([0, 0.5, 0.5]).double())
    left = torch.linalg.eig(case()[1].transition[:, 0].mT)
    vector = left.eigenvectors[:, left.eigenvalues.real.argmax()].real
    found = markov_chain.stationary_distribution(case()[1].transition[:, 0])
    assert torch.allclose(found, vector / vector.sum(), atol=1e-12)
    assert markov_chain.period(torch.tensor([[0.0, 1], [0, 1]]).double()) == 0  # never back


@pytest.mark.parametrize("seed", range(3))
def test_three_objectives_and_their_occupancies(seed):
    _, model, policy = case(seed)
    marginals = occupancy.state_marginals(model, policy, 400)
    by_hand = sum(GAMMA**t * marginals[t] for t in range(400)) * (1 - GAMMA)
    occupied = occupancy.discounted_occupancy(model, policy, GAMMA)
    assert torch.allclose(occupied, by_hand, atol=1e-12) and occupied.sum() == pytest.approx(1.0)
    value = evaluation.policy_value(model, policy, GAMMA)
    reward = (policy * model.reward).sum(-1)
    returns = occupancy.discounted_return(model, policy, GAMMA)
    assert returns == pytest.approx(float(model.initial @ value)) == pytest.approx(float(occupied @ reward) / 0.1)
    near = occupancy.discounted_return(model, policy, 1 - 1e-7) * 1e-7
    assert near == pytest.approx(occupancy.average_return(model, policy), abs=1e-5)
    pairs = pair_chain(model.transition, policy)
    q = torch.linalg.solve(torch.eye(15, dtype=torch.float64) - GAMMA * pairs, model.reward.flatten())
    assert torch.allclose(q.view(5, 3), evaluation.action_value(model, value, GAMMA), atol=1e-12)


def test_finite_horizon_against_all_paths():
    m = m2()
    policy = softmax(m.logits)
    paths = list(enumerate_paths(m.mdp, policy))
    expected = sum(p.probability * sum(GAMMA**t * r for t, r in enumerate(p.rewards)) for p in paths)
    model, pi = m.mdp.model(), torch.tensor(policy)
    assert occupancy.finite_horizon_return(model, pi, HORIZON, GAMMA) == pytest.approx(expected, abs=1e-14)
    values = evaluation.horizon_values(model, pi, HORIZON, GAMMA)
    value, q = finite_horizon_values(m.mdp, policy, GAMMA)
    assert np.allclose(values.value, value, atol=1e-14) and np.allclose(values.q, q, atol=1e-14)
    timed = pi.expand(HORIZON, 2, 2)
    assert occupancy.finite_horizon_return(model, timed, HORIZON, GAMMA) == pytest.approx(expected)
    marginals = occupancy.state_marginals(model, pi, HORIZON)
    last = sum(p.probability for p in paths if p.states[2] == 1)
    assert marginals[2, 1] == pytest.approx(last)


def test_value_of_a_chain_by_simulation():
    _, model, policy = case(1, 2, 2)
    rng = np.random.default_rng(0)
    transition, pi, reward = (x.numpy() for x in (model.transition, policy, model.reward))
    count, total, state = 20_000, np.zeros(20_000), rng.choice(2, 20_000, p=model.initial.numpy())
    for t in range(100):
        action = (rng.random(count) > pi[state, 0]).astype(int)
        total += GAMMA**t * reward[state, action]
        state = (rng.random(count) > transition[state, action, 0]).astype(int)
    error = 5 * total.std() / count**0.5
    assert abs(total.mean() - occupancy.discounted_return(model, policy, GAMMA)) < error


@pytest.mark.parametrize("seed", range(5))
def test_improvement_never_harms_and_advantages_sum_to_nothing(seed):
    _, model, policy = case(seed)
    value = evaluation.policy_value(model, policy, GAMMA)
    q = evaluation.action_value(model, value, GAMMA)
    assert torch.allclose((policy * evaluation.advantage(q, value)).sum(-1), torch.zeros(5).double(), atol=1e-12)
    better = evaluation.policy_value(model, evaluation.greedy(q), GAMMA)
    assert (better >= value - 1e-12).all() and (better > value + 1e-6).any()
    assert torch.equal(evaluation.greedy(q), evaluation.greedy(evaluation.advantage(q, value)))  # implicit in A too


def test_sweeps_contract_to_the_solution():
    _, model, policy = case()
    exact = evaluation.policy_value(model, policy, GAMMA)
    errors = [
        float((evaluation.evaluate_by_sweeps(model, policy, GAMMA, sweeps=k) - exact).abs().max()) for k in range(1, 20)
    ]
    assert all(after <= GAMMA * before + 1e-15 for before, after in pairwise(errors))
    assert torch.allclose(evaluation.evaluate_by_sweeps(model, policy, GAMMA, 1e-9), exact, atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match="how many sweeps"):
        evaluation.evaluate_by_sweeps(model, policy, 1.0)


@pytest.mark.parametrize("mdp", [random_mdp(np.random.default_rng(s), 6, 3) for s in range(3)] + [grid(), river_swim()])
def test_policy_and_value_iteration_and_the_linear_program_agree(mdp):
    model = mdp.model()
    rows = [(GAMMA * model.transition[:, a] - torch.eye(mdp.states)).numpy() for a in range(mdp.actions)]
    program = linprog(
        np.ones(mdp.states),
        A_ub=np.concatenate(rows),
        b_ub=-model.reward.T.flatten().numpy(),
        bounds=(None, None),
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    by_value, by_policy = dp.value_iteration(model, GAMMA, 1e-12), dp.policy_iteration(model, GAMMA)
    assert np.allclose(by_value.value, program.x, atol=1e-8)
    assert torch.allclose(by_value.q, by_policy.q, atol=1e-10)
    assert torch.allclose(by_value.q, dp.policy_iteration(model, GAMMA, sweeps=5).q, atol=1e-9)
    assert by_policy.iterations < 20 < by_value.iterations
    assert torch.allclose(dp.bellman(model, by_policy.value, GAMMA), by_policy.value, atol=1e-12)


def test_value_iteration_keeps_its_promised_error_and_horizons_are_sweeps():
    _, model, _ = case(3)
    exact = dp.policy_iteration(model, GAMMA).value
    first = float(exact.abs().max())
    for sweeps in (1, 5, 30):
        found = dp.value_iteration(model, GAMMA, 0.0, max_sweeps=sweeps).value
        assert float((found - exact).abs().max()) <= GAMMA**sweeps * first + 1e-12
    assert float((dp.value_iteration(model, GAMMA, 1e-3).value - exact).abs().max()) <= 1e-3
    horizon = dp.horizon_value_iteration(model, 5, GAMMA)
    assert torch.allclose(horizon.value[0], dp.value_iteration(model, GAMMA, 0.0, max_sweeps=5).value)
    with pytest.raises(ValueError, match="gamma is 1"):
        dp.value_iteration(model, 1.0)


def test_ties_do_not_cycle():
    model = chain(6).model()
    tied = Model(torch.cat([model.transition, model.transition], 1), model.reward.repeat(1, 2), model.initial)
    assert dp.policy_iteration(tied, GAMMA).iterations < 10
    policy = evaluation.greedy(torch.zeros(6, 4))
    assert torch.equal(evaluation.improve(torch.full((6, 4), 1.0 / 3).double(), policy), policy)


def test_many_worlds_at_once():
    worlds = [random_mdp(np.random.default_rng(s), 4, 2).model() for s in range(7)]
    stacked = Model(*(torch.stack(part) for part in zip(*worlds, strict=True)))
    together = dp.value_iteration(stacked, GAMMA, 1e-10)
    solved = dp.policy_iteration(stacked, GAMMA)
    for row, one in enumerate(worlds):
        alone = dp.policy_iteration(one, GAMMA)
        assert torch.allclose(together.q[row], alone.q, atol=1e-9) and torch.allclose(solved.q[row], alone.q)


def test_forwards_and_backwards_are_transposes_dense_and_sparse():
    mdp, model, policy = case()
    for one in (model, mdp.as_sparse().model()):
        value, weight = torch.randn(5).double(), torch.rand(5, 3).double()
        assert (weight * expectation(one.transition, value)).sum() == pytest.approx(
            float(flow(one.transition, weight) @ value)
        )
        assert torch.allclose(policy_chain(one.transition, policy), policy_chain(model.transition, policy))
        batch = torch.randn(4, 5).double()
        rows = torch.stack([expectation(one.transition, row) for row in batch])
        sparse = one.transition if one is not model else None
        if sparse is not None:
            index, chance = (part.unsqueeze(1).expand(-1, 4, -1, -1) for part in sparse)
            assert torch.allclose(expectation(type(sparse)(index, chance), batch), rows)
        else:
            assert torch.allclose(expectation(one.transition, batch), rows)


def test_bellman_contracts_and_projections_do_not_expand():
    _, model, policy = case()
    features, weight = torch.randn(5, 2).double(), torch.rand(5).double()
    onto = projection.projection(features, weight)
    assert torch.allclose(onto @ onto, onto, atol=1e-10)
    for _ in range(50):
        before = torch.randn(2, 5).double() * 10
        after = torch.stack([dp.bellman(model, v, GAMMA) for v in before])
        assert dp.contraction_ratio(before, after) <= GAMMA + 1e-12
        moved = (onto @ before.mT).mT
        norms = projection.weighted_norm(torch.stack([before[0] - before[1], moved[0] - moved[1]]), weight)
        assert norms[1] <= norms[0] + 1e-12
    stationary = markov_chain.stationary_distribution(policy_chain(model.transition, policy))
    matrix, _ = projection.projected_policy_operator(model, policy, features, stationary, GAMMA)
    for _ in range(50):
        v = torch.randn(5).double()
        assert (
            projection.weighted_norm(matrix @ v, stationary) <= GAMMA * projection.weighted_norm(v, stationary) + 1e-12
        )


@pytest.mark.parametrize(("gamma", "diverges"), [(0.8, False), (0.9, True)])
def test_fitting_after_a_backup_may_diverge_also_for_a_bootstrapped_critic(gamma, diverges):
    model, features = projection.two_state_counterexample()
    even, w = torch.full((2,), 0.5, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    value = features @ w
    for step in range(1, 101):
        value = projection.projected_bellman(model, features, even, value, gamma)
        assert value[0] == pytest.approx((1.2 * gamma) ** step)  # w ← (6/5) γ w
    only = torch.ones(2, 1, dtype=torch.float64)
    matrix, _ = projection.projected_policy_operator(model, only, features, even, gamma)
    assert (torch.linalg.eigvals(matrix).abs().max() > 1) == diverges
    visited = torch.tensor([0.0, 1.0], dtype=torch.float64)  # the stationary distribution: on-policy it converges
    matrix, _ = projection.projected_policy_operator(model, only, features, visited, gamma)
    assert torch.linalg.eigvals(matrix).abs().max() <= gamma + 1e-12


def test_offline_td_lambda_is_the_lambda_return():
    rng = np.random.default_rng(0)
    length, lam = 12, 0.7
    states, rewards = torch.tensor(rng.integers(4, size=length)), torch.tensor(rng.normal(size=length))
    value = torch.tensor(rng.normal(size=4))
    following = torch.cat([value[states[1:]], torch.zeros(1, dtype=torch.float64)])  # the episode terminates
    delta = rewards + GAMMA * following - value[states]
    change = evaluation.lambda_value_change(delta, states, 4, GAMMA * lam, step_size=0.1)
    returns, tail = [], 0.0
    for t in reversed(range(length)):
        tail = rewards[t] + GAMMA * ((1 - lam) * following[t] + lam * tail)
        returns.append(tail)
    forward = torch.zeros(4, dtype=torch.float64)
    for t, g in enumerate(reversed(returns)):
        forward[states[t]] += 0.1 * (g - value[states[t]])
    assert torch.allclose(change, forward, atol=1e-12)
