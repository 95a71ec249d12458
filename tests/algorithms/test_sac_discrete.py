"""SACDiscrete: losses by hand and by enumeration, soft policy evaluation and iteration on exact MDPs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl import MLP, Env, Exponential, Replay, SACDiscrete, Table
from lit_rl.algorithms.actor_critic.sac import actor_loss, soft_target
from lit_rl.algorithms.actor_critic.sac_discrete import expected_soft_value, log_probabilities, temperature_loss
from lit_rl.envs.finite_mdp import lottery, random_mdp
from lit_rl.optimizer import Optimizer
from lit_rl.planning.evaluation import action_value, policy_value
from lit_rl.planning.inference import soft_value_iteration
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient
from tests.algorithms.table_runs import WORLD, model_of

MASK = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])


def test_losses_by_hand() -> None:
    """π = (¼, ¾), α = ½, the smaller q (1, 3): V = ¼ (1 + ½ log 4) + ¾ (3 − ½ log ¾)."""
    logits = torch.tensor([[0.0, math.log(3)]])
    pi, log_pi = log_probabilities(logits)
    assert pi[0].tolist() == pytest.approx([0.25, 0.75])
    q = torch.tensor([[[1.0, 9.0]], [[2.0, 3.0]]])
    value = expected_soft_value(pi, log_pi, q, 0.5)
    assert value.item() == pytest.approx(0.25 * (1 + 0.5 * math.log(4)) + 0.75 * (3 - 0.5 * math.log(0.75)))
    # H = ¼ log 4 + ¾ log 4/3 = 0.5623; −log α Σ π (log π + H̄) = log α (H − H̄), H̄ = 0.3
    log_alpha = torch.tensor(math.log(0.5), requires_grad=True)
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    loss = temperature_loss(log_alpha, pi.requires_grad_(), log_pi, 0.3)
    assert loss.item() == pytest.approx(math.log(0.5) * (entropy - 0.3))
    loss.sum().backward()
    assert log_alpha.grad is not None and log_alpha.grad.item() == pytest.approx(entropy - 0.3)  # too random: colder
    assert pi.grad is None


def test_expectations_are_what_enumerating_the_continuous_losses_gives() -> None:
    """Σ_a π(a) of SAC's own sampled losses, for every action in turn."""
    generator = torch.Generator().manual_seed(0)
    pi, log_pi = log_probabilities(torch.randn(6, 4, generator=generator))
    q, alpha = torch.randn(2, 6, 4, generator=generator), torch.tensor(0.3)
    reward, discount = torch.randn(6, generator=generator), torch.tensor([0.9, 0.0, 0.9, 0.9, 0.5, 0.9])
    exact = reward + discount * expected_soft_value(pi, log_pi, q, alpha)
    sampled = [soft_target(reward, discount, q[..., a], log_pi[:, a], alpha) for a in range(4)]
    torch.testing.assert_close(exact, (pi * torch.stack(sampled, -1)).sum(-1))
    actor = [actor_loss(q[..., a], log_pi[:, a], alpha) for a in range(4)]
    torch.testing.assert_close(-expected_soft_value(pi, log_pi, q, alpha), (pi * torch.stack(actor, -1)).sum(-1))


@pytest.mark.parametrize("alpha", [0.2, 5.0])
def test_illegal_actions_have_no_part(alpha: float) -> None:
    """Two of three are legal, one of three, none: finite, and so is the gradient."""
    logits = torch.tensor([[0.0, 0.0, 9.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    pi, log_pi = log_probabilities(logits, MASK)
    assert pi.tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    value = expected_soft_value(pi, log_pi, torch.tensor([[[2.0, 4.0, 1e9]] * 3]), alpha)
    assert value.tolist() == pytest.approx([3 + alpha * math.log(2), 4, 0])
    value.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert (logits.grad[0] != 0).tolist() == [True, True, False] and not logits.grad[1:].any()


def test_the_actor_rests_at_the_boltzmann_policy_and_nowhere_else() -> None:
    """α log π − q is least in the mean at π = softmax(q/α), where it is −V_soft; its gradient by finite differences."""
    q = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return -expected_soft_value(*log_probabilities(logits), q, 0.4).sum()

    logits = (q[0] / 0.4).requires_grad_()
    (slope,) = torch.autograd.grad(loss(logits), logits)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)
    assert -loss(logits).item() == pytest.approx(0.4 * (q[0] / 0.4).logsumexp(-1).sum().item())
    other = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(other), other)
    h = torch.zeros(5, 3, dtype=torch.float64)
    h[2, 1] = 1e-6
    assert slope[2, 1].item() == pytest.approx((loss(other + h) - loss(other - h)).item() / 2e-6, abs=1e-6)


def test_soft_policy_evaluation_and_iteration_are_exact(unchecked: None) -> None:
    """y for every (s, a) in turn: V^π = (I − γP_π)⁻¹(r_π + αH), and improving by (4) ends at soft value iteration."""
    for mdp in (random_mdp(np.random.default_rng(1), 5, 3), lottery()):
        model, gamma, alpha = mdp.model(), 0.9, 0.5
        logits = torch.randn(model.reward.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def evaluated(logits: torch.Tensor, model=model, gamma=gamma, alpha=alpha) -> tuple[torch.Tensor, torch.Tensor]:
            pi, log_pi = log_probabilities(logits)
            q = torch.zeros_like(logits)
            for _ in range(350):
                value = expected_soft_value(pi, log_pi, q[None], alpha)
                q = action_value(model, value, gamma)
            return q, value

        q, value = evaluated(logits)
        pi, log_pi = log_probabilities(logits)
        augmented = model._replace(reward=model.reward - alpha * log_pi)
        torch.testing.assert_close(value, policy_value(augmented, pi, gamma), atol=1e-12, rtol=0)
        for _ in range(30):
            q, _ = evaluated(q / alpha)
        exact = soft_value_iteration(model, gamma, alpha, tolerance=1e-13)
        torch.testing.assert_close(q, exact.q, atol=1e-11, rtol=0)


def agent(**changes) -> SACDiscrete:
    torch.manual_seed(0)
    small = {"net": MLP((8,), "relu"), "optimizer": Optimizer(lr=0.01)}
    return detached(SACDiscrete("CartPole-v1", **small | changes))


def batch(rows: int = 6):
    rng = torch.Generator().manual_seed(0)
    obs, next_obs = (torch.randn(rows, 4, generator=rng) for _ in range(2))
    action = torch.randint(2, (rows,), generator=rng)
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
    assert moved(sac, before) == {name for name in before if name != "log_alpha" or alpha is None}
    for name, target in sac.critics_target.slow.named_parameters():
        new, old = dict(sac.critics.named_parameters())[name], before[f"critics_target.slow.{name}"]
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)
    assert alpha is None or sac.log_alpha.exp().item() == pytest.approx(alpha)


def test_the_losses_recomputed() -> None:
    """(1)-(5) with weights, a terminated row, and numbers where the code has tensors."""
    sac, data = agent(entropy_share=0.5), batch()
    data = data._replace(weight=torch.rand(6), discount=torch.tensor([0.9, 0.0, 0.9, 0.9, 0.0, 0.9]))
    with torch.no_grad():
        sac.log_alpha.fill_(math.log(0.3))
        next_pi = sac.policy.outputs(data.next_obs).softmax(-1)
        smallest = torch.min(*sac.critics_target(data.next_obs))
        y = data.reward + data.discount * (next_pi * (smallest - 0.3 * next_pi.log())).sum(-1)
        assert y[1] == data.reward[1]
        rows = torch.arange(6)
        first, second = (values[rows, data.action] for values in sac.critics(data.obs))
        critic = (data.weight * ((first - y) ** 2 + (second - y) ** 2) / 2).mean()
        pi = sac.policy.outputs(data.obs).softmax(-1)
        actor = (pi * (0.3 * pi.log() - torch.min(*sac.critics(data.obs)))).sum(-1).mean()
        temperature = -math.log(0.3) * (pi * (pi.log() + 0.5 * math.log(2))).sum(-1).mean()
    loss = sac.loss(data)
    assert loss["critic_loss"].item() == pytest.approx(critic.item(), rel=1e-5)
    assert loss["actor_loss"].item() == pytest.approx(actor.item(), rel=1e-5)
    assert loss["temperature_loss"].item() == pytest.approx(temperature.item(), rel=1e-5)
    assert agent(alpha=0.3).loss(data).keys() == {"critic_loss", "actor_loss"}
    torch.testing.assert_close(sac.experience.td_error, ((first - y).abs() + (second - y).abs()) / 2)


def test_the_target_entropy_counts_legal_actions() -> None:
    sac = agent(entropy_share=0.5)
    assert sac.target_entropy(torch.zeros(2, 4)) == pytest.approx(0.5 * math.log(2))
    masked = {"observation": torch.zeros(2, 4), "action_mask": torch.tensor([[True, True], [True, False]])}
    share = sac.target_entropy(masked)
    assert isinstance(share, torch.Tensor) and share.tolist() == pytest.approx([0.5 * math.log(2), 0.0])


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"alpha": 0.0}, {"critics": 0}, {"entropy_share": 1.0}])
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"SACDiscrete.{next(iter(wrong))} is"):
        agent(**wrong)


@pytest.mark.medium
def test_masked_identity_is_learnt(tmp_path: Path) -> None:
    """An illegal action raises, in warm-up, exploring and greedy acting alike; the temperature finds its entropy."""
    data = Replay(1000, 64, 0.5, warmup=100, steps_per_epoch=1600, steps_per_batch=500)
    env = Env("lit_rl.envs.toy:lit_rl/MaskedIdentity-v0", num_envs=4)
    sac = SACDiscrete(env, data, MLP((32,), "relu"), Optimizer(0.01), 0.9, entropy_share=0.2, tau=0.05)
    learn(sac, tmp_path, 1)
    assert sac.val_dataloader().play().returns.mean() == 1


@pytest.mark.slow
def test_a_table_learns_the_exact_soft_values(tmp_path: Path) -> None:
    """A random MDP of 4 states, seen through its transitions: q of planning within 0.15, its policy within 0.05."""
    env = Env(WORLD + "RandomMDP-v0", num_envs=4, kwargs={"states": 4, "actions": 3})
    data = Replay(20_000, 512, 0.1, warmup=2_000, steps_per_epoch=20_000, steps_per_batch=5_000)
    descent = Optimizer(Exponential(0.05, 0.002, 20_000))
    sac = SACDiscrete(env, data, Table(), descent, 0.8, tau=0.2, alpha=0.5, critics=1)
    learn(sac, tmp_path, 1)
    exact = soft_value_iteration(model_of(sac), 0.8, 0.5)
    q = sac.critics(torch.arange(4))[0].detach().double()
    assert float((q - exact.q).abs().max()) < 0.15, q - exact.q
    pi = sac.policy.outputs(torch.arange(4)).softmax(-1).detach().double()
    torch.testing.assert_close(pi, exact.policy, atol=0.05, rtol=0)
