"""Entropy-regularised policy gradient: exact gradients over all trajectories, its soft-Q twin, known optima."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import MLP, EntropyPG, Env, Recurrent, Rollouts
from lit_rl.algorithms.policy_gradient.entropy_pg import score_loss, soft_q_as_policy_gradient
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.functional.action_values import soft_value
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, learn, moved, parameters
from tests.oracles.trajectories import problem
from tests.tiny import ENVS

ALPHA = 0.4


@pytest.mark.parametrize("constant", [0.0, -ALPHA])
@pytest.mark.parametrize("baseline", [0.0, 3.0])
def test_the_gradient_is_that_of_return_plus_entropy(constant: float, baseline: float) -> None:
    """15.6.2a: ∇E Σ (r − α log π) over all trajectories, with and without the −α that may be dropped."""
    paths, logits = problem().paths, problem().logits.clone().requires_grad_()
    log_prob = paths.log_prob(logits)
    objective = (paths.probability(logits) * (paths.reward - ALPHA * log_prob).sum(0)).sum()
    (exact,) = torch.autograd.grad(objective, logits, retain_graph=True)
    augmented = paths.reward - ALPHA * log_prob.detach()
    to_go = augmented.flip(0).cumsum(0).flip(0) + constant - baseline
    weight = paths.probability(logits).detach().expand_as(to_go)
    loss = (weight.flatten() * score_loss(log_prob.flatten(), to_go.flatten())).sum()
    (estimate,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(-estimate, exact, atol=1e-12, rtol=1e-10)
    without = torch.autograd.grad(paths.objective(logits), logits)[0]
    assert (exact - without).abs().max() > 1e-3, "the entropy counts"


def test_the_gradient_by_finite_differences() -> None:
    paths, logits = problem(1).paths, problem(1).logits

    def objective(at: torch.Tensor) -> torch.Tensor:
        return paths.probability(at) @ (paths.reward - ALPHA * paths.log_prob(at)).sum(0)

    weights = logits.clone().requires_grad_()
    log_prob = paths.log_prob(weights)
    to_go = (paths.reward - ALPHA * log_prob.detach()).flip(0).cumsum(0).flip(0)
    probability = paths.probability(logits).expand_as(to_go).flatten()
    (probability * score_loss(log_prob.flatten(), to_go.flatten())).sum().backward()
    for index in ((0, 0), (0, 1), (1, 0), (1, 1)):
        h = torch.zeros_like(logits)
        h[index] = 1e-6
        slope = (objective(logits + h) - objective(logits - h)) / 2e-6
        assert -weights.grad[index].item() == pytest.approx(slope.item(), abs=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_soft_q_learning_is_this_policy_gradient_and_a_value_regression(alpha: float) -> None:
    """15.6.3a: the two gradients sum to that of ½ (Q(s, a) − y)², to machine precision."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    action = torch.randint(3, (7,), generator=generator)
    target = torch.randn(7, generator=generator, dtype=torch.float64)
    policy_term, value_term = soft_q_as_policy_gradient(q, action, target, alpha)
    (split,) = torch.autograd.grad((policy_term + value_term).sum(), q)
    error = q.gather(-1, action[:, None])[:, 0] - target
    (whole,) = torch.autograd.grad((0.5 * error.square()).sum(), q)
    torch.testing.assert_close(split, whole, atol=1e-14, rtol=1e-12)
    policy = ((q - soft_value(q, alpha)[:, None]) / alpha).exp()
    torch.testing.assert_close(policy.sum(-1), torch.ones(7, dtype=torch.float64))


def agent(env: Any = "CartPole-v1", body: Any = MLP((8,)), **changes: Any) -> EntropyPG:
    torch.manual_seed(0)
    return detached(EntropyPG(Env.of(env).replace(num_envs=3), **{"net": ActorCritic(body)} | changes))


def rollout(entropy_pg: EntropyPG) -> Any:
    collector = open_collector(entropy_pg.env, entropy_pg.policy, seed=0, rank=0)
    data = as_tensors(collector.collect(20))
    collector.close()
    return data


@pytest.mark.parametrize("space", sorted(ENVS))
@pytest.mark.parametrize("body", [MLP((8,)), Recurrent(MLP((8,)), 5)])
def test_one_step_on_every_rollout(space: str, body: Any) -> None:
    entropy_pg = agent(ENVS[space], body)
    (batch,) = entropy_pg.minibatches(rollout(entropy_pg))
    assert len(batch.advantage) == 60
    before = parameters(entropy_pg)
    entropy_pg.update(batch)
    still = before.keys() - moved(entropy_pg, before)
    assert all(name.endswith("weight_hh") for name in still), "episodes of one step remember nothing"


def test_entropy_enters_the_reward_or_the_loss() -> None:
    """λ = 0, γ = 0: A = r − α log π − V, against A = r − V and a bonus α H in the loss."""
    of_return, of_step = (
        agent(entropy=entropy, alpha=0.5, lam=0.0, gamma=0.0, standardize=False) for entropy in ("return", "step")
    )
    data = rollout(of_return)
    now = of_return.networks.evaluate(data)
    (one,), (other,) = of_return.minibatches(data), of_step.minibatches(data)
    torch.testing.assert_close(one.advantage, (data.reward - 0.5 * now.log_prob - now.value).flatten())
    torch.testing.assert_close(other.advantage, (data.reward - now.value).flatten())
    assert "entropy_loss" not in of_return.loss(one)
    logits = of_step.policy.outputs(other.obs).detach()
    entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(of_step.loss(other)["entropy_loss"].detach(), -0.5 * entropy)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="a temperature is 0 or positive"):
        EntropyPG("CartPole-v1", alpha=-1.0)


@pytest.mark.medium
def test_a_bandit_ends_at_the_boltzmann_policy(tmp_path: Path) -> None:
    """15.6.2a: π ∝ exp(r/α), for arms that pay 0.1, 0.5 and 0.9 in the mean."""
    env = Env("lit_rl.envs.toy:lit_rl/Bandit-v0", num_envs=16)
    bandit = EntropyPG(
        env, Rollouts(32, 40_960), ActorCritic(MLP(())), Optimizer(0.1), alpha=0.5, standardize=False, lam=1.0
    )
    learn(bandit, tmp_path, 1)
    policy = bandit.policy.outputs(torch.zeros(1, dtype=torch.int64)).softmax(-1)[0]
    torch.testing.assert_close(policy, (torch.tensor([0.1, 0.5, 0.9]) / 0.5).softmax(-1), atol=0.05, rtol=0.0)


@pytest.mark.slow
def test_a_quadratic_ends_at_its_gaussian(tmp_path: Path) -> None:
    """Reward −(a − 0.3)²/2c with c = ½: the optimum is N(0.3, αc)."""
    env = Env("Quadratic-v9", num_envs=16)
    net = ActorCritic(MLP(()), log_std=-0.5)
    quadratic = EntropyPG(env, Rollouts(32, 61_440), net, Optimizer(0.02), alpha=0.2, standardize=False, lam=1.0)
    learn(quadratic, tmp_path, 1)
    mean = quadratic.policy.outputs(torch.zeros(1, 1)).item()
    assert mean == pytest.approx(0.3, abs=0.06)
    assert quadratic.policy.log_std.exp().square().item() == pytest.approx(0.1, rel=0.2)
