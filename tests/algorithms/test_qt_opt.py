"""QT-Opt: targets by hand, one maximiser for targets and for acting, and a behaviour whose density is known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl import (
    MLP,
    CEMMaximizer,
    CMAESMaximizer,
    Constant,
    Env,
    GaussianNoise,
    GradientMaximizer,
    OrnsteinUhlenbeck,
    QTOpt,
    Replay,
    SamplingMaximizer,
)
from lit_rl.algorithms.q_learning.qt_opt import clipped_target
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient
from tests.tiny import tiny, trainer

SEARCHES = [SamplingMaximizer(256), CEMMaximizer(4), GradientMaximizer(), CMAESMaximizer()]
names = pytest.mark.parametrize("maximizer", SEARCHES, ids=lambda recipe: type(recipe).__name__)


def agent(env: str = "Pendulum-v1", **changes) -> QTOpt:
    torch.manual_seed(0)
    return detached(QTOpt(env, **{"net": MLP((16,)), "optimizer": Optimizer(lr=0.01)} | changes))


def batch(rows: int = 5):
    rng = torch.Generator().manual_seed(0)
    obs, next_obs = torch.randn(rows, 3, generator=rng), torch.randn(rows, 3, generator=rng)
    action = 4 * torch.rand(rows, 1, generator=rng) - 2
    return transitions(obs, action, torch.randn(rows, generator=rng), [0.9, 0.9, 0.0, 0.9, 0.9][:rows], next_obs)


def test_the_target_by_hand() -> None:
    """1 + ½ min(4, 6) = 3; a truncated row bootstraps too, 0 + ½ min(3, −2) = −1; a terminal one is its 2."""
    reward, discount = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])
    found, lagged = torch.tensor([4.0, 3.0, 9.0]), torch.tensor([6.0, -2.0, 9.0])
    assert clipped_target(reward, discount, found, lagged).tolist() == [3.0, -1.0, 2.0]


class Peak(torch.nn.Module):
    """q(s, a) = height − (a − s_0)²: the best action of the box is known."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.height = height

    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.height - (action[..., 0] - obs[..., 0]) ** 2


@names
def test_targets_and_acting_find_the_maximum_by_the_same_search(maximizer) -> None:
    """Peaks inside the box and beyond its side, at 2: y = r + 0.9 (5 − distance²), and the action is the nearest."""
    qt, peaks = agent(maximizer=maximizer), torch.tensor([-1.5, 0.4, 3.0])
    obs = torch.stack([peaks, torch.zeros(3), torch.zeros(3)], -1)
    qt.q_target.slow, qt.q_lagged.slow, qt.policy.q = Peak(5.0), Peak(7.0), Peak(0.0)
    data = transitions(obs, torch.zeros(3, 1), [1.0, 0.0, 2.0], [0.9, 0.0, 0.9], obs)
    expected = torch.tensor([1.0 + 0.9 * 5.0, 0.0, 2.0 + 0.9 * (5.0 - 1.0)])
    torch.testing.assert_close(qt.target(data), expected, atol=0.1, rtol=0)
    qt.policy.refresh()
    act = qt.policy.act(obs.numpy(), np.zeros((3, 0), np.float32), np.random.default_rng(0), explore=False)
    np.testing.assert_allclose(act.action[:, 0], [-1.5, 0.4, 2.0], atol=0.1)
    torch.testing.assert_close(qt.policy(obs), torch.from_numpy(act.action))
    torch.testing.assert_close(qt.state_value(obs), torch.tensor([0.0, 0.0, -1.0]), atol=0.1, rtol=0)


@names
def test_exploring_adds_noise_of_a_known_density_to_the_same_action(maximizer) -> None:
    """a = clip(a* + 2 σ n): the density of a before clipping is N(a*, (2 σ)²)."""
    qt = agent(maximizer=maximizer, noise=GaussianNoise(0.05))
    obs = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    qt.policy.refresh()
    state, rng = np.zeros((40, 0), np.float32), np.random.default_rng(0)
    best, wild = (qt.policy.act(obs, state, rng, explore) for explore in (False, True))
    again = qt.policy.act(obs, state, np.random.default_rng(0))
    assert np.array_equal(wild.action, again.action), "the generator is the only source of randomness"
    inside = np.abs(wild.action[:, 0]) < 2
    distance = (wild.action - best.action)[:, 0] / (2 * 0.05)
    density = np.exp(-0.5 * distance**2) / np.sqrt(2 * np.pi) / (2 * 0.05)
    np.testing.assert_allclose(np.exp(wild.log_prob)[inside], density[inside], rtol=1e-3)
    assert inside.any() and distance.std() > 0.3 and (np.abs(wild.action) <= 2).all()
    assert (best.log_prob == 0).all()


def test_correlated_noise_remembers_itself() -> None:
    qt = agent(noise=OrnsteinUhlenbeck(0.1))
    qt.policy.refresh()
    obs, rng = np.zeros((4, 3), np.float32), np.random.default_rng(0)
    act = qt.policy.act(obs, np.zeros((4, 1), np.float32), rng)
    best = qt.policy.act(obs, np.zeros((4, 1), np.float32), rng, explore=False)
    np.testing.assert_allclose(act.action, np.clip(best.action + 2 * act.state, -2, 2), atol=1e-6)


def test_one_update_moves_q_alone_and_the_copies_follow() -> None:
    qt = agent(tau=0.25, lag=2)
    before, data = parameters(qt), batch()
    slow = [p.clone() for p in qt.q_target.parameters()]
    lagged = [p.clone() for p in qt.q_lagged.parameters()]
    qt.update(data)
    of_q = {name for name in before if name.startswith("policy.")}
    assert with_gradient(qt) == of_q
    assert moved(qt, before) == of_q | {name for name in before if name.startswith("q_target.")}
    for old, new, target in zip(slow, qt.policy.q.parameters(), qt.q_target.parameters(), strict=True):
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)
    assert all(map(torch.equal, lagged, qt.q_lagged.parameters()))
    qt.update(data)
    assert all(map(torch.equal, qt.q_target.parameters(), qt.q_lagged.parameters()))


def test_the_loss_is_the_weighted_mean_of_squares() -> None:
    qt, data = agent(), batch()._replace(weight=torch.tensor([1.0, 0.5, 0.2, 0.0, 0.3]))
    torch.manual_seed(3)
    target = qt.target(data)
    error = (qt.policy.q(data.obs, data.action) - target).detach()
    torch.manual_seed(3)
    expected = (data.weight * 0.5 * error**2).mean().item()
    assert qt.loss(data)["td_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_search_by_gradients_is_validated_and_tested(tmp_path: Path) -> None:
    """Lightning's inference mode would keep no graph to follow."""
    quiet, qt = trainer(tmp_path, limit_val_batches=1), tiny("QTOpt", maximizer=GradientMaximizer(2, 2))
    quiet.fit(qt)
    (validated,), (tested,) = quiet.validate(qt, verbose=False), quiet.test(qt, verbose=False)
    assert validated["val/return"] == tested["test/return"] < 0 and "val/overestimation" in validated


@pytest.mark.medium
def test_a_one_step_quadratic_is_learnt(tmp_path: Path) -> None:
    """Reward −(a − 0.3)²/(2 · 0.5), then the end: the greedy action is 0.3."""
    data = Replay(600, 32, 3.0, warmup=200, steps_per_epoch=600, steps_per_batch=300)
    env, search = Env("Quadratic-v9", num_envs=4), CEMMaximizer(2, 16, 4)
    qt = QTOpt(env, data, MLP((64,), "relu"), Optimizer(lr=0.01), 0.9, search, noise=GaussianNoise(0.3))
    learn(qt, tmp_path, 1)
    assert qt.policy(torch.zeros(1, 1)).item() == pytest.approx(0.3, abs=0.2)


@pytest.mark.medium
def test_truncation_bootstraps(tmp_path: Path) -> None:
    """Reward 1 for ever behind a time limit: q = 1/(1 − 0.8) = 5, not the 3.4 of 5 steps."""
    data = Replay(1_000, 32, 0.5, warmup=100, steps_per_epoch=1_100, steps_per_batch=500)
    qt = QTOpt(
        "Level-v9", data, MLP((16,)), Optimizer(0.01), 0.8, SamplingMaximizer(8), 0.1, 20, GaussianNoise(Constant(0.5))
    )
    learn(qt, tmp_path, 1)
    assert qt.state_value(torch.zeros(1, 1)).item() == pytest.approx(5.0, abs=0.4)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"QTOpt\.lag is 0"):
        agent(lag=0)
    with pytest.raises(ValueError, match=r"QTOpt\.tau is 0"):
        agent(tau=0.0)
