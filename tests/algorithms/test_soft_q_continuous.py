"""Soft Q-learning with a sampler: the value against its integral, Stein's direction by hand, known distributions."""

import math
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.integrate import quad

from lit_rl import MLP, SAC, Env, Replay, SoftQContinuous
from lit_rl.algorithms.q_learning.soft_q_continuous import (
    log_squashing,
    sampled_soft_value,
    sampler_loss,
    stein_direction,
)
from lit_rl.nn.heads import QFunction
from lit_rl.optimizer import Optimizer
from lit_rl.policies.sampler import SamplerPolicy
from tests.algorithms.stand_in import Quadratic, detached, learn, moved, parameters, transitions, with_gradient


class TwoGoals(gymnasium.Env):
    """One step: reward −2 (|a| − 1)², so that −1 and 1 are equally good, and 0 is bad."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low * 0, {}

    def step(self, action):
        return self.observation_space.low * 0, -2 * (abs(float(action[0])) - 1) ** 2, True, False, {}


if "TwoGoals-v9" not in gymnasium.registry:
    gymnasium.register("TwoGoals-v9", TwoGoals)


def test_the_value_by_hand() -> None:
    """α = 2, p = ½: V = 2 log ½ (2 e^½ + 2 e^1); equal values give q − α log p, whatever the samples."""
    value = sampled_soft_value(torch.tensor([[1.0, 3.0], [2.0, 3.0]]), math.log(0.5), 2.0)
    assert value.tolist() == pytest.approx([2 * math.log(math.exp(0.5) + math.e), 3 + 2 * math.log(2)])


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_value_is_the_integral_and_low_for_few_samples(alpha: float) -> None:
    """α log ∫ exp(q/α) da over [−2, 2] for q = −(a − m)²/2c: ½ α log 2παc where the box is wide enough."""
    m, c, generator = Quadratic.m, Quadratic.c, torch.Generator().manual_seed(0)
    exact = alpha * math.log(quad(lambda a: math.exp(-((a - m) ** 2) / (2 * c * alpha)), -2, 2)[0])
    if alpha == 0.2:
        assert exact == pytest.approx(0.5 * alpha * math.log(2 * math.pi * alpha * c), abs=1e-6)

    def mean(samples: int, scale: float = 0.0) -> tuple[float, float]:
        """With actions uniform over the box, or from N(m, scale²)."""
        rows = 200_000 // samples
        if scale:
            action = m + scale * torch.randn(samples, rows, generator=generator)
            log_density = -(((action - m) / scale) ** 2) / 2 - math.log(scale * math.sqrt(2 * math.pi))
        else:
            action, log_density = 4 * torch.rand(samples, rows, generator=generator) - 2, -math.log(4)
        value = sampled_soft_value(-((action - m) ** 2) / (2 * c), log_density, alpha)
        return value.mean().item(), value.std().item() / math.sqrt(rows)

    assert mean(20_000)[0] == pytest.approx(exact, abs=0.01)
    few, error = mean(4)
    assert few < exact - 5 * error
    if alpha == 0.2:  # the posterior itself as proposal: without variance
        assert mean(4, scale=math.sqrt(alpha * c)) == (pytest.approx(exact, abs=1e-5), pytest.approx(0, abs=1e-5))


def test_stein_direction_by_hand() -> None:
    """u = (0, 2) with scores (1, −1), moved: 1 and 3. Squared distances 1, 9, 1, 1: median 1, h = 1/log 2.

    k = exp(−d² log 2) = 2^−d². At 1: ½ (½·1 + ½·(−1)) + ½ (−2 (−1) log 2 ½ − 2 (1) log 2 ½) = 0.
    At 3: ½ (2⁻⁹·1 + ½·(−1)) + ½ (−2 (−3) log 2 · 2⁻⁹ − 2 (−1) log 2 · ½).
    """
    particles, score = torch.tensor([0.0, 2.0]).view(2, 1, 1), torch.tensor([1.0, -1.0]).view(2, 1, 1)
    found = stein_direction(particles, score, torch.tensor([1.0, 3.0]).view(2, 1, 1))
    log2 = math.log(2)
    second = (2**-9 - 0.5) / 2 + (6 * log2 * 2**-9 + 2 * log2 * 0.5) / 2
    assert found.flatten().tolist() == pytest.approx([0.0, second], abs=1e-6)


def test_stein_direction_by_its_definition() -> None:
    """In three dimensions, for two distributions at once: k and its gradient through autograd, row by row."""
    generator = torch.Generator().manual_seed(0)
    particles, score = torch.randn(2, 5, 2, 3, generator=generator, dtype=torch.float64)
    moved_ones = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    found = stein_direction(particles, score, moved_ones)
    for b in range(2):
        squared = torch.cdist(particles[:, b], moved_ones[:, b]).square()
        h = squared.flatten().median() / math.log(5)
        for i in range(4):
            total = torch.zeros(3, dtype=torch.float64)
            for j in range(5):
                u_j = particles[j, b].clone().requires_grad_()
                k = (-(u_j - moved_ones[i, b]).square().sum() / h).exp()
                total += k.detach() * score[j, b] + torch.autograd.grad(k, u_j)[0]
            torch.testing.assert_close(found[i, b], total / 5)


def test_coinciding_particles_stay_finite() -> None:
    assert stein_direction(torch.zeros(4, 2, 1), torch.ones(4, 2, 1), torch.zeros(3, 2, 1)).isfinite().all()


def test_particles_that_follow_it_are_distributed_as_told() -> None:
    """Fifty free particles for N(0.3, 0.1): mean and deviation."""
    particles = torch.linspace(-2, 2, 50, dtype=torch.float64).view(50, 1, 1)
    for _ in range(1500):
        particles = particles + 0.02 * stein_direction(particles, -(particles - 0.3) / 0.1, particles)
    assert particles.mean().item() == pytest.approx(0.3, abs=0.01)
    assert particles.std().item() == pytest.approx(math.sqrt(0.1), rel=0.1)


def test_the_loss_steps_along_the_direction() -> None:
    moved_ones = torch.zeros(2, 1, 2, requires_grad=True)
    direction = torch.tensor([[[1.0, -2.0]], [[3.0, 4.0]]], requires_grad=True)
    sampler_loss(moved_ones, direction).sum().backward()
    assert torch.equal(moved_ones.grad, -direction.detach()) and direction.grad is None


def test_the_squashing_counts_as_a_density() -> None:
    """exp(q + log(1 − tanh² u)) integrates over u as exp(q) over (−1, 1), and stays finite far out."""
    mass = quad(lambda u: math.exp(math.tanh(u) + log_squashing(torch.tensor([[u]]).double()).item()), -20, 20)[0]
    assert mass == pytest.approx(math.e - 1 / math.e, rel=1e-6)
    assert log_squashing(torch.tensor([[50.0, -50.0]])).item() == pytest.approx(2 * (2 * math.log(2) - 100))


def agent(env: Env | str = "Pendulum-v1", **changes) -> SoftQContinuous:
    torch.manual_seed(0)
    small = {"net": MLP((8,), "relu"), "optimizer": Optimizer(lr=0.01)}
    return detached(SoftQContinuous(env, **small | changes))


def batch(rows: int = 6):
    rng = torch.Generator().manual_seed(0)
    obs, next_obs = (torch.randn(rows, 3, generator=rng) for _ in range(2))
    action = torch.rand(rows, 1, generator=rng) * 4 - 2
    return transitions(obs, action, torch.randn(rows, generator=rng), torch.full((rows,), 0.9), next_obs)


@pytest.mark.parametrize(("term", "prefix"), [("td_loss", "policy.q."), ("sampler_loss", "policy.")])
def test_each_loss_reaches_its_own_parameters_alone(term: str, prefix: str) -> None:
    soft_q = agent()
    soft_q.loss(batch())[term].backward()
    names = {name for name, _ in soft_q.named_parameters() if name.startswith(prefix)}
    if term == "sampler_loss":
        names -= {name for name in names if name.startswith("policy.q.")}
    assert with_gradient(soft_q) == names


def test_one_update_moves_all_but_the_target_which_follows() -> None:
    soft_q = agent(tau=0.25)
    before = parameters(soft_q)
    soft_q.update(batch())
    assert moved(soft_q, before) == before.keys()
    for name, target in soft_q.q_target.slow.named_parameters():
        new, old = dict(soft_q.q.named_parameters())[name], before[f"q_target.slow.{name}"]
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)


def test_the_td_loss_recomputed() -> None:
    """Weights, a terminated row, samples in the environment's units and their density there."""
    soft_q, data = agent(alpha=0.3, value_samples=5), batch()
    data = data._replace(weight=torch.rand(6), discount=torch.tensor([0.9, 0.0, 0.9, 0.9, 0.0, 0.9]))
    torch.manual_seed(5)
    loss = soft_q.loss(data)["td_loss"].item()
    torch.manual_seed(5)
    action = 4 * torch.rand(5, 6, 1) - 2
    with torch.no_grad():
        q = torch.stack([soft_q.q_target(data.next_obs, a) for a in action])
        value = 0.3 * (4 * (q / 0.3).exp().mean(0)).log()
        error = soft_q.q(data.obs, data.action) - data.reward - data.discount * value
    assert loss == pytest.approx((data.weight * error**2 / 2).mean().item(), rel=1e-4)
    torch.testing.assert_close(soft_q.experience.td_error, error, rtol=1e-4, atol=1e-5)


def test_the_score_is_the_slope_of_the_squashed_density() -> None:
    """With one particle on either side, Δ = k ∇ log p + ∇k: by finite differences through q and the squashing."""
    soft_q, data = agent(alpha=0.5), batch(1)
    torch.manual_seed(3)
    moving, direction = soft_q.particle_step(data.obs, 1)
    assert moving.shape == direction.shape == (16, 1, 1) and moving.requires_grad
    torch.manual_seed(3)
    with torch.no_grad():
        u = soft_q.policy.unsquashed(data.obs, torch.randn(32, 1, 1))

        def log_density(x: torch.Tensor) -> torch.Tensor:
            q = soft_q.q(data.obs.expand(16, 1, 3), 2 * torch.tanh(x))
            return q / 0.5 + (1 - torch.tanh(x) ** 2).log().sum(-1)

        score = (log_density(u[:16] + 5e-3) - log_density(u[:16] - 5e-3)) / 1e-2
        expected = stein_direction(u[:16], score[..., None], u[16:])
    torch.testing.assert_close(direction, expected, atol=5e-3, rtol=5e-3)


def test_acting_draws_from_the_network_and_greedy_takes_the_best() -> None:
    soft_q = agent()
    soft_q.policy.refresh()
    obs, state = torch.randn(4, 3), np.zeros((4, 0), np.float32)
    noise = np.random.default_rng(7).standard_normal((4, 1), dtype=np.float32)
    drawn = soft_q.policy.act(obs.numpy(), state, np.random.default_rng(7))
    expected = soft_q.policy.squash(soft_q.policy.unsquashed(obs, torch.from_numpy(noise)[None]))[0]
    np.testing.assert_allclose(drawn.action, expected.detach(), atol=1e-5)
    action, value = soft_q.policy.candidates(obs)
    best = value.argmax(0)
    greedy = soft_q.policy.act(obs.numpy(), state, np.random.default_rng(0), explore=False).action
    np.testing.assert_allclose(greedy, action[best, torch.arange(4)].detach(), atol=1e-6)
    torch.testing.assert_close(soft_q.state_value(obs), soft_q.q(obs, torch.from_numpy(greedy)))


def test_numpy_and_torch_act_alike_on_nested_observations() -> None:
    torch.manual_seed(0)
    space = spaces.Dict({"near": spaces.Box(-1, 1, (2,), np.float32), "far": spaces.Discrete(3)})
    box = spaces.Box(-1, 3, (2,), np.float32)
    policy = SamplerPolicy(MLP((8,), normalize=True), space, box, QFunction(MLP((8,)), space, box), 4)
    obs = {"near": np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32), "far": np.array([0, 1, 2, 0, 1])}
    tensors = {key: torch.from_numpy(value) for key, value in obs.items()}
    policy.update_statistics({key: value[None] for key, value in tensors.items()})
    state = np.zeros((5, 0), np.float32)
    slow = policy.act(obs, state, np.random.default_rng(0)).action  # no numpy view of the weights before refresh()
    policy.refresh()
    assert policy._fast is not None
    np.testing.assert_allclose(policy.act(obs, state, np.random.default_rng(0)).action, slow, atol=1e-6)
    assert box.contains(slow[0]) and policy(tensors).shape == (5, 2)


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"alpha": 0.0}, {"particles": 1}, {"value_samples": 0}])
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"SoftQContinuous.{next(iter(wrong))} is"):
        agent(**wrong)


def samples(soft_q: SoftQContinuous) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return soft_q.policy.squash(soft_q.policy.unsquashed(torch.zeros(1, 1), torch.randn(5000, 1, 1))).flatten()


BANDIT = Replay(2000, 128, 0.5, warmup=400, steps_per_epoch=1600, steps_per_batch=1000, steps_per_round=8)


@pytest.mark.medium
def test_the_sampler_of_a_quadratic_bandit(tmp_path: Path) -> None:
    """q = −(a − m)²/2c: the actions are N(m, αc), σ = 0.316; V = ½ α log 2παc."""
    net = MLP((32, 32), "relu")
    soft_q = SoftQContinuous("Quadratic-v9", BANDIT, net, Optimizer(0.005), alpha=0.2, tau=0.05)
    learn(soft_q, tmp_path, 1)
    action = samples(soft_q)
    assert action.mean().item() == pytest.approx(Quadratic.m, abs=0.1)
    assert action.std().item() == pytest.approx(math.sqrt(0.2 * Quadratic.c), rel=0.25)
    torch.manual_seed(0)
    value = soft_q.next_value(torch.zeros(500, 1), 500).mean().item()
    assert value == pytest.approx(0.1 * math.log(2 * math.pi * 0.2 * Quadratic.c), abs=0.1)


@pytest.mark.medium
def test_both_goals_are_reached_without_the_bad_middle_of_one_gaussian(tmp_path: Path) -> None:
    """Formula sheet 15.6.4a, tie-breaking. α = 0.2: p ∝ exp(−10 (|a| − 1)²) has two modes and 0.2 % between ±½."""
    net, descent = MLP((32, 32), "relu"), Optimizer(0.005)
    soft_q = SoftQContinuous("TwoGoals-v9", BANDIT, net, descent, alpha=0.2, tau=0.05)
    learn(soft_q, tmp_path, 1)
    action = samples(soft_q)
    left, right = (action < -0.5).float().mean().item(), (action > 0.5).float().mean().item()
    assert min(left, right) > 0.25 and left + right > 0.85, (left, right)
    assert soft_q.policy.greedy(torch.zeros(1, 1)).abs().item() == pytest.approx(1, abs=0.15)
    sac = SAC("TwoGoals-v9", BANDIT, net, descent, alpha=0.2, tau=0.05)
    learn(sac, tmp_path / "sac", 1)
    torch.manual_seed(0)
    drawn = sac.policy.sample(torch.zeros(5000, 1))[0].flatten()
    share = [(drawn < -0.5).float().mean().item(), (drawn > 0.5).float().mean().item()]
    assert min(share) < 0.1 or 1 - sum(share) > 0.2, "a Gaussian has one goal alone, or what lies between them as well"
