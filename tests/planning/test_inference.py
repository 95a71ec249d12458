"""Messages against enumeration of p(τ|O), the fix against perturbations, information against closed forms."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from lit_rl.envs.finite_mdp import chain, lottery, random_mdp
from lit_rl.planning import inference, information
from lit_rl.planning.dynamic_programming import policy_iteration
from lit_rl.planning.evaluation import horizon_values
from tests.fixtures import m2, softmax

T = 3


def posterior_paths(model, prior, temperature):
    """All paths with their weight p(τ) exp(Σ r/α)."""
    transition, reward, initial = (x.numpy() for x in (model.transition, model.reward, model.initial))
    for states in product(range(2), repeat=T):
        for actions in product(range(2), repeat=T):
            weight = initial[states[0]]
            for t in range(T):
                weight *= prior[states[t], actions[t]] * math.exp(reward[states[t], actions[t]] / temperature)
                weight *= transition[states[t], actions[t], states[t + 1]] if t + 1 < T else 1.0
            yield states, actions, weight


@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("with_prior", [False, True])
def test_messages_are_the_marginals_of_the_posterior(temperature, with_prior):
    model = m2().mdp.model()
    prior = torch.tensor(softmax(m2().logits)) if with_prior else None
    weight = np.ones((2, 2)) if prior is None else prior.numpy()
    paths = list(posterior_paths(model, weight, temperature))
    total = sum(w for *_, w in paths)
    messages = inference.backward_messages(model, T, temperature, prior)
    assert inference.log_evidence(model, messages, temperature) == pytest.approx(math.log(total), abs=1e-12)
    pairs = np.zeros((T, 2, 2))
    for states, actions, w in paths:
        for t in range(T):
            pairs[t, states[t], actions[t]] += w / total
    found = inference.pair_posterior(model, T, temperature, prior)
    assert np.allclose(found, pairs, atol=1e-14)
    policy = inference.posterior_policy(messages.q, temperature, prior)
    assert np.allclose(policy, pairs / pairs.sum(-1, keepdims=True), atol=1e-13)
    assert np.allclose(policy.sum(-1), 1)


def test_a_uniform_prior_shifts_by_log_a_per_step_and_folds_into_the_reward():
    model = m2().mdp.model()
    uniform = inference.uniform_prior(model)
    plain, with_prior = (inference.backward_messages(model, T, 1.0, p) for p in (None, uniform))
    steps = torch.arange(T, -1, -1, dtype=torch.float64)[:, None]
    assert torch.allclose(plain.value, with_prior.value + steps * math.log(2), atol=1e-12)
    prior = torch.tensor(softmax(m2().logits))
    folded = model._replace(reward=model.reward + prior.log())
    assert torch.allclose(
        inference.backward_messages(folded, T).value, inference.backward_messages(model, T, 1.0, prior).value
    )
    gamma, alpha = 0.9, 0.5
    sums, means = (inference.soft_value_iteration(model, gamma, alpha, p) for p in (None, uniform))
    assert torch.allclose(sums.value - means.value, torch.full((2,), alpha * math.log(2) / 0.1).double(), atol=1e-7)


def test_an_end_counts_as_optimal_for_ever():
    model = chain(3).model()  # from state 1, action 1 ends
    q = inference.backward_messages(model, 2).q
    assert q[0, 1, 1] == pytest.approx(1.0)  # reward 1, then nothing
    assert inference.soft_horizon_values(model, 2, 1.0).q[0, 1, 1] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="absorbing"):
        inference.pair_posterior(model, 2)


def test_the_lottery_fools_the_optimist_and_not_the_variational_policy():
    model = lottery().model()
    optimist = inference.backward_messages(model, 2, 1.0, inference.uniform_prior(model)).q[0, 0]
    assert optimist[0] == pytest.approx(-0.693102, abs=1e-5) and optimist[1] == pytest.approx(-1.0)
    variational = inference.soft_horizon_values(model, 2, 1.0, inference.uniform_prior(model)).q[0, 0]
    assert variational[0] == pytest.approx(-5.0) and variational[1] == pytest.approx(-1.0)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_the_soft_policy_maximises_the_bound(alpha):
    model = m2().mdp.model()
    values = inference.soft_horizon_values(model, T, alpha)
    best = inference.posterior_policy(values.q, alpha)
    bound = inference.evidence_bound(model, best, alpha)
    assert bound == pytest.approx(float(model.initial @ values.value[0]), abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.1, 1.0):
        for _ in range(300):
            other = (best.log() + scale * torch.randn(best.shape, generator=generator, dtype=torch.float64)).softmax(-1)
            assert inference.evidence_bound(model, other, alpha) <= bound + 1e-12
    messages = inference.backward_messages(model, T, alpha)
    assert inference.evidence_bound(model, inference.posterior_policy(messages.q, alpha), alpha) < bound - 1e-4
    assert bound / alpha <= inference.log_evidence(model, messages, alpha)
    prior = torch.tensor(softmax(m2().logits))
    informed = inference.soft_horizon_values(model, T, alpha, prior)
    policy = inference.posterior_policy(informed.q, alpha, prior)
    assert inference.evidence_bound(model, policy, alpha, prior) == pytest.approx(
        float(model.initial @ informed.value[0])
    )


def test_soft_values_satisfy_their_equation_and_become_hard():
    model = random_mdp(np.random.default_rng(0), 5, 3).model()
    soft = inference.soft_value_iteration(model, 0.9, 0.2, tolerance=1e-12)
    policy = soft.policy
    entropy = information.entropy(policy)
    again = (policy * soft.q).sum(-1) + 0.2 * entropy
    assert torch.allclose(soft.value, again, atol=1e-10)  # V = E[Q] + α H
    hard = policy_iteration(model, 0.9)
    near = inference.soft_value_iteration(model, 0.9, 1e-4)
    assert torch.allclose(near.value, hard.value, atol=1e-2) and torch.equal(near.policy.round(), hard.policy)
    assert torch.allclose(inference.soft_value_iteration(model, 0.9, 0.0).value, hard.value, atol=1e-9)
    first, second = torch.randn(2, 5).double()
    apart = [inference.soft_backup(model, v, 0.9, 0.2)[1] for v in (first, second)]
    assert (apart[0] - apart[1]).abs().max() <= 0.9 * (first - second).abs().max()
    deterministic_horizon = horizon_values(model, policy, 2)
    assert deterministic_horizon.value.shape == (3, 5)


def test_entropies_and_information_by_hand():
    joint = torch.rand(4, 3, 5).double()
    joint /= joint.sum((-1, -2), keepdim=True)
    given = joint / joint.sum(-1, keepdim=True)
    conditional = (joint.sum(-1) * information.entropy(given)).sum(-1)
    expected = information.entropy(joint.sum(-2)) - conditional
    assert torch.allclose(information.mutual_information(joint), expected, atol=1e-12)
    assert information.entropy(torch.tensor([1.0, 0.0])) == 0
    assert torch.isinf(information.kl_divergence(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])))
    assert information.state_entropy(torch.full((8,), 3.0)) == pytest.approx(math.log(8))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_neighbours_know_the_entropy_of_a_gaussian(size):
    points = torch.randn(4000, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = 0.5 * size * (math.log(2 * math.pi) + 1)
    assert information.knn_entropy(points) == pytest.approx(exact, abs=0.06)
    with pytest.raises(ValueError, match="coincide"):
        information.knn_entropy(torch.zeros(10, 2))


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.5])
def test_the_capacity_of_a_noisy_bit(flip):
    channel = torch.tensor([[1 - flip, flip], [flip, 1 - flip]], dtype=torch.float64)
    exact = math.log(2) - float(information.entropy(channel[0]))
    found = information.blahut_arimoto(channel)
    assert found.capacity == pytest.approx(exact, abs=1e-10)
    z = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double()  # the Z channel: log(5/4) at (3/5, 2/5)
    found = information.blahut_arimoto(z)
    assert found.capacity == pytest.approx(math.log(1.25), abs=1e-10)
    assert torch.allclose(found.input, torch.tensor([0.6, 0.4]).double(), atol=1e-4)


def test_empowerment_counts_what_actions_can_bring_about():
    model = chain(5).model()
    one = information.empowerment(model).capacity
    assert torch.allclose(one[:4], torch.full((4,), math.log(2)).double(), atol=1e-8)  # left and right differ
    assert one[4] == pytest.approx(0.0, abs=1e-12)  # after the end nothing matters
    two = information.empowerment(model, horizon=2).capacity
    assert two[2] == pytest.approx(math.log(3), abs=1e-6)  # two left, back, or the end
