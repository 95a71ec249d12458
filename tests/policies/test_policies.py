"""Policies: what they draw is what they say they draw."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.stats import chisquare, kstest
from torch.distributions import AffineTransform, Normal, TanhTransform, TransformedDistribution

from lit_rl.batch import Rollout
from lit_rl.nn.body import MLP, Recurrent
from lit_rl.nn.mlp import linear_head
from lit_rl.policies.actor_critic import ActorCritic
from lit_rl.policies.categorical import CategoricalPolicy, sample_logits
from lit_rl.policies.epsilon_greedy import EpsilonGreedyPolicy
from lit_rl.policies.gaussian import SquashedGaussianPolicy
from lit_rl.policies.network import NetworkPolicy
from lit_rl.policies.policy import Policy
from lit_rl.policies.table import TablePolicy
from lit_rl.policies.uniform import UniformPolicy
from lit_rl.schedules import Constant, Linear

VECTOR = spaces.Box(-np.inf, np.inf, (4,), np.float32)
BOX = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 5], np.float32))
ACTIONS = {
    "categorical": (spaces.Discrete(3), 3),
    "multi categorical": (spaces.MultiDiscrete([2, 3]), 5),
    "bernoulli": (spaces.MultiBinary(3), 0),
    "bernoulli [2, 2]": (spaces.MultiBinary([2, 2]), 0),
    "gaussian": (BOX, 0),
    "gaussian [2, 1]": (spaces.Box(-1, 1, (2, 1), np.float32), 0),
}


def masked(size: int) -> spaces.Dict:
    return spaces.Dict({"observation": VECTOR, "action_mask": spaces.Box(0, 1, (size,), bool)})


def spread_out(policy: NetworkPolicy) -> NetworkPolicy:
    """Weights far from the near-uniform beginning."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_(0, 0.7)
    policy.refresh()
    return policy


def stochastic(kind: str, with_mask: bool, body: Any = MLP((8,))) -> NetworkPolicy:
    torch.manual_seed(0)
    space, size = ACTIONS[kind]
    return spread_out(ActorCritic(body).build(masked(size) if with_mask else VECTOR, space).policy)


def observations(rng: np.random.Generator, rows: int, mask: int = 0) -> Any:
    vector = rng.normal(size=(rows, 4)).astype(np.float32)
    if not mask:
        return vector
    legal = rng.random((rows, mask)) < 0.5
    legal[np.arange(rows), rng.integers(0, mask, rows)] = True
    if mask == 5:  # two choices side by side, each with something legal
        legal[np.arange(rows), rng.integers(0, 2, rows)] = True
        legal[np.arange(rows), 2 + rng.integers(0, 3, rows)] = True
    return {"observation": vector, "action_mask": legal}


def tensors(obs: Any) -> Any:
    return (
        {key: torch.from_numpy(value) for key, value in obs.items()} if isinstance(obs, dict) else torch.from_numpy(obs)
    )


def no_memory(rows: int) -> np.ndarray:
    return np.zeros((rows, 0), np.float32)


with_and_without_masks = pytest.mark.parametrize(
    ("kind", "mask"), [(kind, 0) for kind in ACTIONS] + [(kind, size) for kind, (_, size) in ACTIONS.items() if size]
)


@with_and_without_masks
def test_what_acting_says_is_what_learning_computes(kind: str, mask: int) -> None:
    policy, rng = stochastic(kind, bool(mask)), np.random.default_rng(0)
    obs = observations(rng, 200, mask)
    act = policy.act(obs, no_memory(200), rng)
    space = ACTIONS[kind][0]
    assert act.action.shape == (200, *space.shape) and act.log_prob.shape == (200,)
    outputs = policy.outputs(tensors(obs))
    log_prob = policy.log_prob(outputs, tensors(obs), torch.from_numpy(act.action))
    np.testing.assert_allclose(act.log_prob, log_prob.detach(), atol=2e-5)
    assert policy.entropy(outputs, tensors(obs)).shape == (200,)


@with_and_without_masks
def test_the_greedy_action_draws_nothing_and_equals_the_exported_one(kind: str, mask: int) -> None:
    policy, rng = stochastic(kind, bool(mask)), np.random.default_rng(0)
    obs = observations(rng, 50, mask)
    before = rng.bit_generator.state
    act = policy.act(obs, no_memory(50), rng, explore=False)
    assert rng.bit_generator.state == before
    np.testing.assert_allclose(act.action, policy(tensors(obs)).detach(), atol=1e-6)
    # no action is likelier: compare with many draws
    if not isinstance(ACTIONS[kind][0], spaces.Box):
        best = policy.log_prob(policy.outputs(tensors(obs)), tensors(obs), torch.as_tensor(act.action)).detach().numpy()
        for _ in range(20):
            assert (policy.act(obs, no_memory(50), rng).log_prob <= best + 1e-5).all()


@with_and_without_masks
def test_numpy_and_torch_act_alike(kind: str, mask: int) -> None:
    policy = stochastic(kind, bool(mask))
    assert policy._fast is not None, "an MLP goes the fast way"
    obs = observations(np.random.default_rng(0), 30, mask)
    fast = policy.act(obs, no_memory(30), np.random.default_rng(1))
    policy._fast = None
    slow = policy.act(obs, no_memory(30), np.random.default_rng(1))
    np.testing.assert_allclose(fast.action, slow.action, atol=1e-5)
    np.testing.assert_allclose(fast.log_prob, slow.log_prob, atol=1e-5)


@pytest.mark.parametrize("mask", [None, [True, False, True, True]])
def test_categorical_frequencies(mask: list[bool] | None) -> None:
    logits = np.tile(np.array([[0.5, 3.0, -1.0, 0.0]], np.float32), (40_000, 1))
    rows = None if mask is None else np.tile(np.array([mask]), (40_000, 1))
    action, log_prob = sample_logits(logits, rows, np.random.default_rng(0), explore=True)
    weights = np.exp(logits[0].astype(float)) * (1 if mask is None else mask)
    probability = weights / weights.sum()
    counts = np.bincount(action, minlength=4)
    legal = probability > 0
    assert counts[~legal].sum() == 0
    assert chisquare(counts[legal], 40_000 * probability[legal]).pvalue > 1e-3
    np.testing.assert_allclose(np.exp(log_prob), probability[action], rtol=1e-5)


class ZeroRace(np.random.Generator):
    """A generator whose exponential draws are all 0, as one in eight million is."""

    def standard_exponential(self, size: Any, dtype: Any) -> np.ndarray:  # type: ignore[override]
        return np.zeros(size, dtype)


def test_a_race_won_at_time_zero_stays_legal() -> None:
    logits, mask = np.zeros((2, 3), np.float32), np.array([[False, True, False], [False, False, True]])
    with np.errstate(all="raise"):
        action, log_prob = sample_logits(logits, mask, ZeroRace(np.random.PCG64(0)), explore=True)
    assert action.tolist() == [1, 2] and log_prob.tolist() == [0, 0]


def test_bernoulli_frequencies() -> None:
    policy = stochastic("bernoulli", False)
    obs = np.repeat(observations(np.random.default_rng(0), 1), 20_000, 0)
    on = torch.sigmoid(policy.outputs(torch.from_numpy(obs[:1]))).detach().numpy()[0]
    share = policy.act(obs, no_memory(20_000), np.random.default_rng(1)).action.mean(0)
    assert np.abs(share - on).max() < 5 * 0.5 / np.sqrt(20_000)


def test_gaussian_draws() -> None:
    policy = stochastic("gaussian", False)
    obs = np.repeat(observations(np.random.default_rng(0), 1), 5_000, 0)
    mean = policy.outputs(torch.from_numpy(obs[:1])).detach().numpy()[0]
    std = policy.log_std.detach().exp().numpy()
    action = policy.act(obs, no_memory(5_000), np.random.default_rng(1)).action
    for k in range(2):
        assert kstest((action[:, k] - mean[k]) / std[k], "norm").pvalue > 1e-3


def squashed() -> SquashedGaussianPolicy:
    torch.manual_seed(0)
    body = MLP((8,)).build(VECTOR)
    return spread_out(SquashedGaussianPolicy(body, linear_head(8, 4), BOX))  # type: ignore[return-value]


def test_squashed_gaussian_against_transformed_distribution() -> None:
    """Formula sheet 0.4: torch's own change of variables, in float64, for what acting and learning report."""
    policy, rng = squashed(), np.random.default_rng(0)
    obs = observations(rng, 500)
    mean, log_std = policy.outputs(torch.from_numpy(obs)).detach().double().chunk(2, -1)
    law = TransformedDistribution(
        Normal(mean, log_std.clamp(-5, 2).exp()),
        [TanhTransform(), AffineTransform(torch.tensor([0.0, 2.5]), torch.tensor([2.0, 2.5]))],
    )
    act = policy.act(obs, no_memory(500), rng)
    inside = (np.abs((act.action - [0, 2.5]) / [2, 2.5]) < 0.999).all(-1)  # atanh loses digits at the edge
    expected = law.log_prob(torch.from_numpy(act.action).double()).sum(-1)
    assert inside.sum() > 100
    np.testing.assert_allclose(act.log_prob[inside], expected[inside], atol=0.01)
    assert (act.action >= BOX.low - 1e-6).all() and (act.action <= BOX.high + 1e-6).all()
    torch.manual_seed(0)
    action, log_prob = policy.sample(torch.from_numpy(obs))
    torch.manual_seed(0)
    noise = torch.randn(500, 2).double()
    unsquashed = mean + log_std.clamp(-5, 2).exp() * noise
    np.testing.assert_allclose(
        action.detach(), torch.tensor([0, 2.5]) + torch.tensor([2, 2.5]) * unsquashed.tanh(), atol=1e-4
    )
    slope = torch.log(torch.tensor([2.0, 2.5]) / unsquashed.cosh() ** 2)
    reference = (Normal(mean, log_std.clamp(-5, 2).exp()).log_prob(unsquashed) - slope).sum(-1)
    np.testing.assert_allclose(log_prob.detach(), reference, atol=2e-3, rtol=1e-4)


def test_squashed_gaussian_at_the_bounds_is_finite() -> None:
    policy = squashed()
    with torch.no_grad():
        policy.head.bias.copy_(torch.tensor([60.0, -60.0, 9.0, -9.0]))
    act = policy.act(np.zeros((100, 4), np.float32), no_memory(100), np.random.default_rng(0))
    assert np.isfinite(act.action).all() and np.isfinite(act.log_prob).all()
    _, log_prob = policy.sample(torch.zeros(100, 4))
    log_prob.sum().backward()
    assert log_prob.isfinite().all() and all(p.grad.isfinite().all() for p in policy.parameters())


def q_policy(with_mask: bool, epsilon: Any) -> EpsilonGreedyPolicy:
    torch.manual_seed(0)
    body = MLP((8,)).build(masked(4) if with_mask else VECTOR)
    return spread_out(EpsilonGreedyPolicy(body, linear_head(8, 4), epsilon))  # type: ignore[return-value]


@pytest.mark.parametrize("mask", [None, [True, False, True, True]])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_greedy_frequencies(mask: list[bool] | None, epsilon: float) -> None:
    """π(a) = ε/|A| + (1 − ε) 1[a = argmax], formula sheet 6.2.1b."""
    policy, rows = q_policy(mask is not None, Constant(epsilon)), 20_000
    vector = np.repeat(observations(np.random.default_rng(0), 1), rows, 0)
    obs = vector if mask is None else {"observation": vector, "action_mask": np.tile(np.array([mask]), (rows, 1))}
    one = {key: value[:1] for key, value in obs.items()} if isinstance(obs, dict) else obs[:1]
    legal = np.ones(4, bool) if mask is None else np.array(mask)
    q = np.where(legal, policy.outputs(tensors(one)).detach().numpy()[0], -np.inf)
    expected = epsilon * legal / legal.sum() + (1 - epsilon) * (np.arange(4) == q.argmax())
    assert expected.sum() == pytest.approx(1)
    act = policy.act(obs, no_memory(rows), np.random.default_rng(1))
    counts = np.bincount(act.action, minlength=4)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert epsilon == 0 or chisquare(counts[possible], rows * expected[possible]).pvalue > 1e-3
    np.testing.assert_allclose(np.exp(act.log_prob), expected[act.action], rtol=1e-5)


def test_epsilon_follows_the_env_steps_at_each_refresh() -> None:
    policy = q_policy(False, Linear(1.0, 0.0, 100))
    assert policy.epsilon == 1.0
    policy.env_steps += 25
    assert policy.epsilon == 1.0, "frozen during a round"
    policy.refresh()
    assert policy.epsilon == 0.75


@pytest.mark.parametrize(
    ("space", "support"),
    [
        (spaces.Discrete(4), 4),
        (spaces.MultiDiscrete([2, 3]), 6),
        (spaces.MultiBinary(2), 4),
        (spaces.MultiBinary([2, 1]), 4),
    ],
)
def test_uniform_over_finite_spaces(space: spaces.Space, support: int) -> None:
    act = UniformPolicy(space).act(np.zeros((24_000, 1)), no_memory(24_000), np.random.default_rng(0))
    assert act.action.shape == (24_000, *space.shape) and space.contains(space.dtype.type(1) * act.action[0])
    _, counts = np.unique(act.action, axis=0, return_counts=True)
    assert len(counts) == support and chisquare(counts).pvalue > 1e-3
    np.testing.assert_allclose(act.log_prob, -np.log(support), rtol=1e-6)


def test_uniform_over_the_legal_actions() -> None:
    rng = np.random.default_rng(0)
    for space, size in ((spaces.Discrete(3), 3), (spaces.MultiDiscrete([2, 3]), 5)):
        obs = observations(rng, 20_000, size)
        act = UniformPolicy(space).act(obs, no_memory(20_000), rng)
        mask = obs["action_mask"]
        blocks = [mask] if size == 3 else [mask[:, :2], mask[:, 2:]]
        actions = act.action[:, None] if size == 3 else act.action
        rows = np.arange(20_000)
        for block, action in zip(blocks, actions.T, strict=True):
            assert block[rows, action].all()
            everything = block.all(-1)
            assert chisquare(np.bincount(action[everything])).pvalue > 1e-3
        np.testing.assert_allclose(act.log_prob, -sum(np.log(block.sum(-1)) for block in blocks), rtol=1e-5)


def test_uniform_over_a_box() -> None:
    act = UniformPolicy(BOX).act(np.zeros((5000, 1)), no_memory(5000), np.random.default_rng(0))
    assert act.action.dtype == np.float32 and BOX.contains(act.action[0])
    np.testing.assert_allclose(act.log_prob, -np.log(4 * 5), rtol=1e-6)
    for k in range(2):
        assert kstest((act.action[:, k] - BOX.low[k]) / (BOX.high - BOX.low)[k], "uniform").pvalue > 1e-3
    with pytest.raises(ValueError, match="finite bounds"):
        UniformPolicy(VECTOR).act(np.zeros((1, 1)), no_memory(1), np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["categorical", "gaussian", "squashed", "epsilon"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_copies_act_alike_and_are_independent(kind: str, duplicate: Any) -> None:
    policy: Policy = {"squashed": squashed, "epsilon": lambda: q_policy(False, Constant(0.5))}.get(
        kind, lambda: stochastic(kind, False)
    )()
    obs = observations(np.random.default_rng(0), 20)
    twin = duplicate(policy)
    for _ in range(2):  # fresh, and after refresh
        one, two = (p.act(obs, no_memory(20), np.random.default_rng(1)) for p in (policy, twin))
        np.testing.assert_allclose(one.action, two.action, atol=1e-5)
        np.testing.assert_allclose(one.log_prob, two.log_prob, atol=1e-5)
        twin.refresh()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    policy.refresh()
    twin.refresh()
    kept = twin.act(obs, no_memory(20), np.random.default_rng(1))
    np.testing.assert_allclose(kept.action, two.action, atol=1e-5)


def test_in_place_steps_are_seen_at_once() -> None:
    policy = stochastic("categorical", False)
    obs = observations(np.random.default_rng(0), 5)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        policy.outputs(torch.from_numpy(obs)).square().mean().backward()
        optimizer.step()
        np.testing.assert_allclose(policy._fast(obs), policy.outputs(torch.from_numpy(obs)).detach(), atol=1e-5)


def test_a_gaussian_explores_before_its_first_refresh() -> None:
    policy = ActorCritic(MLP((8,)), log_std=-1.0).build(VECTOR, spaces.Box(-1, 1, (1,), np.float32)).policy
    act = policy.act(np.zeros((2000, 4), np.float32), no_memory(2000), np.random.default_rng(0))
    assert act.action.shape == (2000, 1)
    assert act.action.std() == pytest.approx(np.exp(-1), rel=0.1)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent_acting_equals_the_unroll(cell: str) -> None:
    """Formula sheet H11: step by step with the memory handed on, against one pass over the segment."""
    torch.manual_seed(0)
    networks = ActorCritic(Recurrent(MLP((8,)), 6, cell)).build(VECTOR, spaces.Discrete(3))
    policy = spread_out(networks.policy)
    assert isinstance(policy, CategoricalPolicy) and policy._fast is None
    rng = np.random.default_rng(0)
    steps, envs = 7, 3
    obs = rng.normal(size=(steps + 1, envs, 4)).astype(np.float32)
    done = rng.random((steps, envs)) < 0.3
    final_obs = rng.normal(size=(int(done.sum()), 4)).astype(np.float32)
    state = rng.normal(size=(envs, policy.state_size)).astype(np.float32)
    first, actions, log_probs, states = state, [], [], []
    for t in range(steps):
        states.append(state)
        act = policy.act(obs[t], state, rng)
        actions.append(act.action)
        log_probs.append(act.log_prob)
        state = np.where(done[t][:, None], 0, act.state).astype(np.float32)
    episode_step = np.ones((steps, envs), np.int32)
    episode_step[1:][done[:-1]] = 0
    rollout = Rollout(
        *(torch.from_numpy(np.array(x)) for x in (obs, actions, log_probs, np.zeros((steps, envs), np.float32))),
        terminated=torch.from_numpy(done),
        truncated=torch.zeros(steps, envs, dtype=torch.bool),
        episode_step=torch.from_numpy(episode_step),
        final_obs=torch.from_numpy(final_obs),
        final_index=torch.from_numpy(np.flatnonzero(done)),
        state=torch.from_numpy(first),
        version=torch.tensor(0),
    )
    now = networks.evaluate(rollout)
    np.testing.assert_allclose(now.log_prob, np.array(log_probs), atol=1e-5)
    # the value after an end: the memory at that end sees the true final observation
    ends = np.argwhere(done)
    for m, (t, env) in enumerate(ends):
        after = policy.act(obs[t], states[t], np.random.default_rng(0)).state[env : env + 1]
        features, _ = policy.body.step(torch.from_numpy(final_obs[m : m + 1]), torch.from_numpy(after))
        assert now.next_value[t, env].item() == pytest.approx(networks.value_head(features).item(), abs=1e-5)
    last, _ = policy.body.step(torch.from_numpy(obs[-1]), torch.from_numpy(state))
    alive = torch.from_numpy(~done[-1])
    torch.testing.assert_close(now.next_value[-1][alive], networks.value_head(last).squeeze(-1)[alive].detach())
    outputs, value = networks(rollout.obs[:-1], rollout.state, torch.from_numpy(episode_step == 0))
    torch.testing.assert_close(value.view(steps, envs), now.value)
    torch.testing.assert_close(
        policy.log_prob(outputs, rollout.obs[:-1].flatten(0, 1), rollout.action.flatten()).view(steps, envs),
        now.log_prob,
    )


def test_a_table_explores_at_random_among_equal_actions() -> None:
    table = TablePolicy(spaces.Discrete(2), 3, Constant(0.3))
    table.q[1] = torch.tensor([1.0, 0.0, 1.0])
    np.testing.assert_allclose(table.distribution(np.array([0, 1])), [[1 / 3] * 3, [0.45, 0.1, 0.45]])
    np.testing.assert_allclose(table.distribution(np.array([0, 1]), explore=False), [[1, 0, 0], [1, 0, 0]])
    masked = table.distribution(np.array([1]), np.array([[False, True, True]]))
    np.testing.assert_allclose(masked, [[0, 0.15, 0.85]])
