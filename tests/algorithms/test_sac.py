"""SAC: every loss by hand, each reaching its own parameters, a bandit with a known optimum."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_rl import MLP, SAC, Replay
from lit_rl.algorithms.actor_critic.sac import actor_loss, soft_target, temperature_loss
from lit_rl.functional.critics import critics_loss
from lit_rl.optimizer import Optimizer
from lit_rl.policies.gaussian import SquashedGaussianPolicy
from tests.algorithms.stand_in import Quadratic, detached, learn, moved, parameters, transitions, with_gradient


def test_losses_by_hand() -> None:
    """α = ½. y₀ = 1 + 0.9 (min(2, 3) − ½·(−1)) = 3.25; y₁ terminated = −1."""
    alpha = torch.tensor(0.5)
    next_q, log_prob = torch.tensor([[2.0, 9.0], [3.0, 8.0]]), torch.tensor([-1.0, 2.0])
    target = soft_target(torch.tensor([1.0, -1.0]), torch.tensor([0.9, 0.0]), next_q, log_prob, alpha)
    assert target.tolist() == pytest.approx([3.25, -1.0])
    # ½(1 − 3.25)² + ½(3 − 3.25)² = 2.5625; ½·1² + ½·0² = 0.5
    q = torch.tensor([[1.0, 0.0], [3.0, -1.0]])
    assert critics_loss(q, target).tolist() == pytest.approx([2.5625, 0.5])
    # ½·(−1) − 1 = −1.5; ½·2 − (−1) = 2
    assert actor_loss(q, log_prob, alpha).tolist() == pytest.approx([-1.5, 2.0])
    # −log α (log π + H̄), H̄ = −1: −log ½ · (−2) and · 1
    log_alpha = torch.tensor(math.log(0.5), requires_grad=True)
    loss = temperature_loss(log_alpha, log_prob.requires_grad_(), -1.0)
    assert loss.tolist() == pytest.approx([2 * math.log(0.5), -math.log(0.5)])
    loss.sum().backward()
    assert log_alpha.grad.item() == pytest.approx(1.0) and log_prob.grad is None


def test_the_units_of_actions_do_not_matter_to_the_temperature() -> None:
    """Actions in ±2 are log 2 nats more spread than the same ones in ±1, and so is what is asked of them."""
    sac, unit = agent(), spaces.Box(-1.0, 1.0, (1,))
    assert sac.target_entropy == pytest.approx(math.log(2) - 1)
    assert agent(target_entropy=-3.0).target_entropy == -3.0
    scaled = SquashedGaussianPolicy(sac.policy.body, sac.policy.head, unit)
    torch.manual_seed(1)
    _, log_prob = sac.policy.sample(torch.ones(5, 3))
    torch.manual_seed(1)
    _, in_unit = scaled.sample(torch.ones(5, 3))
    torch.testing.assert_close(log_prob + sac.target_entropy, in_unit - 1.0)


def agent(**changes) -> SAC:
    torch.manual_seed(0)
    return detached(SAC("Pendulum-v1", **{"net": MLP((8,), "relu"), "optimizer": Optimizer(lr=0.01)} | changes))


def batch(rows: int = 6):
    rng = torch.Generator().manual_seed(0)
    obs, next_obs = (torch.randn(rows, 3, generator=rng) for _ in range(2))
    action = torch.rand(rows, 1, generator=rng) * 4 - 2
    return transitions(obs, action, torch.randn(rows, generator=rng), torch.full((rows,), 0.9), next_obs)


@pytest.mark.parametrize(
    ("term", "prefix"), [("critic_loss", "critics."), ("actor_loss", "policy."), ("temperature_loss", "log_alpha")]
)
def test_each_loss_reaches_its_own_parameters_alone(term: str, prefix: str) -> None:
    sac = agent()
    sac.loss(batch())[term].backward()
    assert with_gradient(sac) == {name for name, _ in sac.named_parameters() if name.startswith(prefix)}


@pytest.mark.parametrize("alpha", [None, 0.2])
def test_one_update_moves_all_but_the_target_which_follows(alpha: float | None) -> None:
    sac = agent(alpha=alpha, tau=0.25)
    before = parameters(sac)
    sac.update(batch())
    expected = {name for name in before if name != "log_alpha" or alpha is None}
    assert moved(sac, before) == expected
    for name, target in sac.critics_target.slow.named_parameters():
        new, old = dict(sac.critics.named_parameters())[name], before[f"critics_target.slow.{name}"]
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)
        assert target.grad is None
    assert alpha is None or sac.log_alpha.exp().item() == pytest.approx(alpha)


def test_the_critic_loss_recomputed() -> None:
    """(1)-(2) with the same noise, the importance weights, and terminated rows cut."""
    sac, data = agent(alpha=0.3), batch()
    data = data._replace(weight=torch.rand(6), discount=torch.tensor([0.9, 0.0, 0.9, 0.9, 0.0, 0.9]))
    torch.manual_seed(5)
    loss = sac.loss(data)
    torch.manual_seed(5)
    with torch.no_grad():
        action, log_prob = sac.policy.sample(data.next_obs)
        smallest = torch.min(*sac.critics_target(data.next_obs, action))
        y = data.reward + data.discount * (smallest - 0.3 * log_prob)
        assert y[1] == data.reward[1]
        first, second = sac.critics(data.obs, data.action)
        expected = (data.weight * ((first - y) ** 2 + (second - y) ** 2) / 2).mean()
        now, log_prob = sac.policy.sample(data.obs)
        actor = (0.3 * log_prob - torch.min(*sac.critics(data.obs, now))).mean()
    assert loss["critic_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss["actor_loss"].item() == pytest.approx(actor.item(), rel=1e-5)
    assert loss.keys() == {"critic_loss", "actor_loss"}


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"tau": 1.1}, {"alpha": 0.0}, {"critics": 0}])
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"SAC.{next(iter(wrong))} is"):
        agent(**wrong)


@pytest.mark.slow
def test_the_optimum_of_a_quadratic_bandit(tmp_path: Path) -> None:
    """Formula sheet 15.6.5a: q = −(a − m)²/2c gives N(m, αc); α = 0.2, c = 0.5: σ = 0.316."""
    data = Replay(2000, 128, 0.5, warmup=400, steps_per_epoch=1600, steps_per_batch=1000, steps_per_round=8)
    sac = SAC("Quadratic-v9", data, MLP((32, 32), "relu"), Optimizer(0.005), tau=0.05, alpha=0.2)
    learn(sac, tmp_path, 1)
    torch.manual_seed(0)
    action, _ = sac.policy.sample(torch.zeros(5000, 1))
    assert action.mean().item() == pytest.approx(Quadratic.m, abs=0.1)
    assert action.std().item() == pytest.approx(math.sqrt(0.2 * Quadratic.c), rel=0.25)


@pytest.mark.medium
def test_truncation_bootstraps(tmp_path: Path) -> None:
    """Reward 1 for ever behind a time limit, no entropy bonus to speak of: q = 1/(1 − 0.8) = 5."""
    data = Replay(1000, 32, 0.5, warmup=100, steps_per_epoch=900, steps_per_batch=500, steps_per_round=8)
    sac = SAC("Level-v9", data, MLP((16,), "relu"), Optimizer(0.02), gamma=0.8, tau=0.2, alpha=1e-4)
    learn(sac, tmp_path, 1)
    q = sac.critics(torch.zeros(3, 1), torch.tensor([[-0.5], [0.0], [0.5]]))
    np.testing.assert_allclose(q.detach().numpy(), 5, atol=0.4)
