"""Exploration: what is drawn has the probability that is said."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.stats import chisquare, norm

from lit_rl.nn.body import MLP
from lit_rl.nn.mlp import linear_head
from lit_rl.nn.q_network import QNetwork
from lit_rl.policies.action_values import ActionValuePolicy, MacroActionPolicy, TwoEstimatorPolicy, draw
from lit_rl.policies.deterministic import DeterministicPolicy
from lit_rl.policies.exploration import Boltzmann, EpsilonGreedy, GaussianNoise, OrnsteinUhlenbeck
from lit_rl.schedules import Linear

VECTOR = spaces.Box(-np.inf, np.inf, (4,), np.float32)
BOX = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 6], np.float32))
VALUES = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]], np.float32)
MASK = np.array([[True, False, True], [True, True, True]])


def test_the_two_conventions_of_epsilon_greedy() -> None:
    """A = 3, ε = 0.3. All: 1 − ε + ε/3 = 0.8 and 0.1; others: 0.7 and 0.15. Ties go to the lowest index."""
    np.testing.assert_allclose(EpsilonGreedy(0.3).probabilities(VALUES, None, 0.3)[0], [0.1, 0.8, 0.1])
    found = EpsilonGreedy(0.3, "others").probabilities(VALUES, None, 0.3)
    np.testing.assert_allclose(found, [[0.15, 0.7, 0.15], [0.7, 0.15, 0.15]])
    # ε of the second is ε (A − 1)/A of the first
    np.testing.assert_allclose(found, EpsilonGreedy(0.45).probabilities(VALUES, None, 0.45), atol=1e-12)
    # two legal actions in row 0: the greedy one and one other
    np.testing.assert_allclose(EpsilonGreedy(0.3, "others").probabilities(VALUES, MASK, 0.3)[0], [0.3, 0, 0.7])
    for among in ("all", "others"):
        assert EpsilonGreedy(0.3, among).probabilities(np.zeros((1, 1)), None, 0.3).tolist() == [[1.0]]


def test_boltzmann_is_greedy_when_cold_and_uniform_when_hot() -> None:
    probabilities = Boltzmann().probabilities
    np.testing.assert_allclose(probabilities(VALUES, None, 1e-3)[0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(probabilities(VALUES, None, 1e6), 1 / 3, atol=1e-5)
    np.testing.assert_allclose(probabilities(VALUES + 7, None, 0.5), probabilities(VALUES, None, 0.5), rtol=1e-5)
    weights = np.exp(np.array([1.0, 3.0, 2.0]) / 0.5)
    np.testing.assert_allclose(probabilities(VALUES, None, 0.5)[0], weights / weights.sum(), rtol=1e-5)


@pytest.mark.parametrize("mask", [None, MASK])
def test_boltzmann_at_the_end_of_its_way_is_greedy(mask) -> None:
    """Its temperature falls to 0: the best legal action is certain, of which the log-probability is 0."""
    boltzmann = Boltzmann(Linear(1.0, 0.0, 100))
    probabilities = boltzmann.probabilities(VALUES, mask, boltzmann.schedule(100))
    action, log_prob = draw(probabilities, np.random.default_rng(0))
    assert action.tolist() == [1 if mask is None else 2, 0] and log_prob.tolist() == [0, 0]


EXPLORATIONS = [(EpsilonGreedy(0.3), 0.3), (EpsilonGreedy(0.3, "others"), 0.3), (Boltzmann(0.7), 0.7)]


@pytest.mark.parametrize(("exploration", "level"), [*EXPLORATIONS, (Boltzmann(), 0.0)])
@pytest.mark.parametrize("mask", [None, MASK])
def test_arrays_and_tensors_agree(exploration, level, mask) -> None:
    of_array = exploration.probabilities(VALUES, mask, level)
    of_tensor = exploration.of_tensor(torch.from_numpy(VALUES), None if mask is None else torch.from_numpy(mask), level)
    np.testing.assert_allclose(of_array, of_tensor, atol=1e-6)
    np.testing.assert_allclose(of_array.sum(-1), 1, rtol=1e-6)
    assert mask is None or (of_array[~mask] == 0).all()


@pytest.mark.parametrize(("exploration", "level"), EXPLORATIONS)
def test_frequencies(exploration, level) -> None:
    probabilities = exploration.probabilities(np.repeat(VALUES[:1], 20_000, 0), None, level)
    action, log_prob = draw(probabilities, np.random.default_rng(0))
    counts, expected = np.bincount(action, minlength=3), probabilities[0].astype(float)
    assert chisquare(counts, expected / expected.sum() * 20_000).pvalue > 1e-3
    np.testing.assert_allclose(np.exp(log_prob), probabilities[0][action], rtol=1e-5)


def test_a_draw_never_takes_an_impossible_action() -> None:
    class Edge(np.random.Generator):
        def random(self, *_) -> np.ndarray:
            return np.array([0.0, 1 - 1e-16, 0.5])

    rng = Edge(np.random.PCG64(0))
    found, _ = draw(np.array([[0, 0.5, 0.5, 0], [0.0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5]]), rng)
    assert found.tolist() == [1, 2, 3]


def test_schedules_are_read_once_per_round() -> None:
    policy = ActionValuePolicy(*QNetwork(MLP((8,))).build(VECTOR, 3), EpsilonGreedy(Linear(1.0, 0.0, 10)))
    policy.env_steps += 5
    assert policy.level == 1.0
    policy.refresh()
    assert policy.level == 0.5


def test_a_policy_that_never_acts_knows_how_its_copies_explore() -> None:
    """Halfway from 1 to 0: the greedy one of three actions has 1 − ½ + ½/3, whether or not this copy was refreshed."""
    policy = ActionValuePolicy(*QNetwork(MLP((8,))).build(VECTOR, 3), EpsilonGreedy(Linear(1.0, 0.0, 10)))
    policy.env_steps += 5
    found = policy.probabilities(torch.from_numpy(VALUES), None)[0]
    np.testing.assert_allclose(found, [1 / 6, 2 / 3, 1 / 6], rtol=1e-6)


def test_a_macro_policy_takes_the_first_action_of_the_best_sequence() -> None:
    """Two actions, sequences 00 01 10 11: values 1 5 3 2 make 0 worth 5 and 1 worth 3."""
    policy = MacroActionPolicy(*QNetwork(MLP((8,))).build(VECTOR, 4), EpsilonGreedy(0.0), 2)
    outputs = np.array([[1.0, 5.0, 3.0, 2.0], [0, 0, 0, 1]], np.float32)
    assert policy.values(outputs).tolist() == policy.values(torch.from_numpy(outputs)).tolist() == [[5, 3], [0, 1]]


def test_two_estimators_act_on_their_sum() -> None:
    torch.manual_seed(0)
    policy = TwoEstimatorPolicy(*(QNetwork(MLP((8,))).build(VECTOR, 3) for _ in range(2)), EpsilonGreedy(0.0))
    obs = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    one, other = (network(torch.from_numpy(obs)) for network in policy.estimators)
    for each in (policy, pickle.loads(pickle.dumps(policy))):
        each.refresh()
        action = each.act(obs, np.zeros((40, 0), np.float32), np.random.default_rng(0)).action
        assert np.array_equal(action, (one + other).argmax(-1))
    with torch.no_grad():
        policy.body.bodies[1].layers[0].weight.zero_()
    assert not np.array_equal(action, policy.greedy(torch.from_numpy(obs))) and not policy._fast.stale()


def deterministic(noise) -> DeterministicPolicy:
    torch.manual_seed(0)
    body = MLP((8,)).build(VECTOR)
    policy = DeterministicPolicy(body, linear_head(8, 2), BOX, noise)
    policy.refresh()
    return policy


def test_gaussian_noise_and_its_density() -> None:
    policy, rng = deterministic(GaussianNoise(0.1)), np.random.default_rng(0)
    obs = np.repeat(np.random.default_rng(1).normal(size=(1, 4)), 20_000, 0).astype(np.float32)
    state = np.zeros((len(obs), 0), np.float32)
    mean = policy.act(obs, state, rng, explore=False).action[0]
    act = policy.act(obs, state, rng)
    deviation = 0.1 * np.array([2.0, 3.0])
    inside = ((act.action > BOX.low) & (act.action < BOX.high)).all(-1)
    assert inside.mean() > 0.95
    np.testing.assert_allclose(act.action.std(0), deviation, rtol=0.05)
    density = norm.logpdf(act.action, mean, deviation).sum(-1)
    np.testing.assert_allclose(act.log_prob[inside], density[inside], atol=2e-3)
    assert BOX.contains(act.action.min(0)) and BOX.contains(act.action.max(0))


def test_the_action_executed_is_the_action_kept() -> None:
    policy = deterministic(GaussianNoise(5.0))
    act = policy.act(np.zeros((100, 4), np.float32), np.zeros((100, 0), np.float32), np.random.default_rng(0))
    assert (act.action >= BOX.low).all() and (act.action <= BOX.high).all() and (act.action == BOX.high).any()


def test_ornstein_uhlenbeck_remembers() -> None:
    """Given its memory x: mean (1 − θ) x, deviation σ. Its stationary variance is σ² / (1 − (1 − θ)²)."""
    policy, rng = deterministic(OrnsteinUhlenbeck(0.05, 0.2)), np.random.default_rng(0)
    obs, state = np.zeros((4000, 4), np.float32), np.zeros((4000, 2), np.float32)
    assert policy.state_size == 2
    mean = policy.act(obs[:1], state[:1], rng, explore=False).action[0]
    for _ in range(30):
        before = state
        act = policy.act(obs, state, rng)
        state = act.state
    np.testing.assert_allclose(state.var(), 0.05**2 / (1 - 0.8**2), rtol=0.05)
    assert np.corrcoef(before[:, 0], state[:, 0])[0, 1] == pytest.approx(0.8, abs=0.02)
    half = np.array([2.0, 3.0])
    density = norm.logpdf(act.action, mean + 0.8 * before * half, 0.05 * half).sum(-1)
    np.testing.assert_allclose(act.log_prob, density, atol=5e-3)
    greedy = policy.act(obs, state, rng, explore=False)
    assert np.array_equal(greedy.state, state) and np.allclose(greedy.action, mean)


def test_what_cannot_be_explored_with_is_refused() -> None:
    for make in (
        lambda: EpsilonGreedy(1.5),
        lambda: Boltzmann(0.0),
        lambda: GaussianNoise(-1.0),
        lambda: OrnsteinUhlenbeck(0.1, 2.0),
    ):
        with pytest.raises(ValueError, match=r"(EpsilonGreedy|Boltzmann|GaussianNoise)\.|OrnsteinUhlenbeck"):
            make()
