"""NAF: q by hand, its maximum at μ, what learns; on a linear-quadratic step it finds q itself."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_rl import MLP, NAF, Env, GaussianNoise, Replay
from lit_rl.algorithms.q_learning.naf import lower_triangular, normalized_advantage_q
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient
from tests.algorithms.test_ddpg import batch


class TwoForces(gymnasium.Env):
    """One step with two actions: reward 1 − ½ (a − m)ᵀ P (a − m) with m = s (½, −1), P coupled."""

    P = np.array([[2.0, 0.6], [0.6, 1.0]])
    m = np.array([0.5, -1.0])
    observation_space = spaces.Box(-0.5, 0.5, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.np_random.uniform(-0.5, 0.5, 1).astype(np.float32)
        return self.s, {}

    def step(self, action):
        error = action - self.s * self.m
        return self.s, float(1 - 0.5 * error @ self.P @ error), True, False, {}


if "TwoForces-v9" not in gymnasium.registry:
    gymnasium.register("TwoForces-v9", TwoForces)


def test_q_by_hand() -> None:
    """L = [[2, 0], [1, 3]], a − μ = (1, −1): Lᵀ(a − μ) = (2 − 1, −3), q = 10 − ½ (1 + 9)."""
    entries = torch.tensor([[np.log(2), 1.0, np.log(3)]], dtype=torch.float32)
    cholesky = lower_triangular(entries, 2)
    torch.testing.assert_close(cholesky, torch.tensor([[[2.0, 0.0], [1.0, 3.0]]]))
    mean, action = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(
        normalized_advantage_q(torch.tensor([10.0]), mean, cholesky, action), torch.tensor([5.0])
    )


def agent(env: str = "TwoForces-v9", **changes) -> NAF:
    torch.manual_seed(0)
    return detached(NAF(env, **{"net": MLP((8,)), "optimizer": Optimizer(lr=0.01)} | changes))


def test_mu_is_the_maximum() -> None:
    """∇_a q = 0 there, q = V, and the Hessian is −P in scaled actions (formula sheet 7.5.2a)."""
    naf = agent()
    with torch.no_grad():
        for parameter in naf.parameters():
            parameter.normal_(0, 0.5)
    obs = torch.randn(5, 1)
    action = naf.policy.greedy(obs).detach().requires_grad_()
    q = naf.q(obs, action)
    (slope,) = torch.autograd.grad(q.sum(), action)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-5, rtol=0)
    torch.testing.assert_close(q, naf.state_value(obs))
    hessian = torch.autograd.functional.hessian(lambda a: naf.q(obs[:1], a).sum(), action[:1])[0, :, 0]
    cholesky = lower_triangular(naf.cholesky_head(naf.policy.body(obs[:1])), 2)[0]
    torch.testing.assert_close(hessian, -cholesky @ cholesky.T, atol=1e-5, rtol=1e-4)
    assert (torch.linalg.eigvalsh(hessian) < 0).all()
    others = naf.policy.scale(2 * torch.rand(5, 2) - 1)
    assert (naf.q(obs, others) < naf.state_value(obs)).all()


def test_the_loss_and_who_moves() -> None:
    naf, data = agent("Pendulum-v1"), batch()
    y = data.reward + 0.9 * naf.value_target(data.next_obs)[:, 0]
    expected = 0.5 * (naf.q(data.obs, data.action) - y).square().mean()
    assert naf.loss(data)["td_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    before = parameters(naf)
    naf.update(data)
    slow = {name for name in before if name.startswith("value_target.")}
    assert moved(naf, before) == before.keys() and with_gradient(naf) == before.keys() - slow


def test_a_terminal_step_does_not_bootstrap() -> None:
    naf, data = agent("Pendulum-v1"), batch()
    ended = data._replace(discount=torch.zeros(6))
    naf.loss(ended)
    error = naf.q(data.obs, data.action) - data.reward
    torch.testing.assert_close(naf.experience.td_error, error.detach())
    assert transitions(data.obs, data.action, data.reward, 0 * data.reward, data.next_obs).discount.sum() == 0


def test_actions_of_a_box_of_float64_serve_too() -> None:
    naf, data = agent("Pendulum-v1"), batch()
    twice = data._replace(action=data.action.double())
    assert torch.equal(naf.loss(twice)["td_loss"], naf.loss(data)["td_loss"])


@pytest.mark.medium
def test_a_linear_quadratic_step_is_recovered(tmp_path: Path) -> None:
    """The true q is in the family: μ, P and V are found."""
    data = Replay(4000, 128, 0.25, warmup=400, steps_per_epoch=6000, steps_per_batch=1000)
    naf = NAF(Env("TwoForces-v9", num_envs=4), data, MLP((32,)), Optimizer(3e-3), 0.9, 0.05, GaussianNoise(0.5))
    learn(naf, tmp_path, 1)
    obs = torch.tensor([[-0.4], [0.0], [0.4]])
    np.testing.assert_allclose(naf.policy.greedy(obs).detach(), obs.numpy() * TwoForces.m, atol=0.1)
    np.testing.assert_allclose(naf.state_value(obs).detach(), 1, atol=0.1)
    cholesky = lower_triangular(naf.cholesky_head(naf.policy.body(obs)), 2).detach().numpy()
    np.testing.assert_allclose(cholesky @ cholesky.transpose(0, 2, 1), np.stack([TwoForces.P] * 3), atol=0.25)
