"""The step of a policy: its gradient, and its Fisher matrix in closed form and sampled, against dense ones."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from lit_rl import MLP, TRPO, Env, Fisher
from lit_rl.algorithms.policy_gradient.minibatches import standardized
from lit_rl.algorithms.policy_gradient.trust_region import CriticFit, PolicyBatch, PolicyStep, damped_inverse
from lit_rl.functional.natural_gradient import flatten
from lit_rl.policies.actor_critic import ActorCritic, StochasticPolicy
from tests.algorithms.stand_in import detached
from tests.tiny import ENVS

each_space = pytest.mark.parametrize("space", sorted(ENVS))


def double(space: str, body: Any = MLP((3,))) -> StochasticPolicy:
    """A policy far from uniform, in float64."""
    torch.manual_seed(1)
    policy = TRPO(ENVS[space], net=ActorCritic(body, log_std=-0.3)).policy.double()
    with torch.no_grad():
        policy.head.weight.mul_(150)  # the head begins at a hundredth
        policy.head.bias.normal_()
    return policy


def batch(space: str, policy: StochasticPolicy, rows: int = 6) -> PolicyBatch:
    env = Env(ENVS[space]).with_spaces()
    env.observation_space.seed(0), env.action_space.seed(0)
    obs = torch.stack([torch.as_tensor(env.observation_space.sample()) for _ in range(rows)])
    action = torch.stack([torch.as_tensor(env.action_space.sample()) for _ in range(rows)])
    if obs.is_floating_point():
        obs = obs.clamp(-2, 2).double()
    return PolicyBatch(obs, action.double() if space == "Box" else action, torch.randn(rows).double())


def kl_from_start(policy: StochasticPolicy, obs: Tensor) -> Any:
    """Mean KL(θ_old‖θ) as a function of the flat θ, by functional calls."""
    named = {name: p for name, p in policy.named_parameters() if p.requires_grad}
    old = policy.distribution(policy.outputs(obs)).detach()

    def of_flat(flat: Tensor) -> Tensor:
        pieces = flat.split([p.numel() for p in named.values()])
        weights = {name: piece.view_as(p) for (name, p), piece in zip(named.items(), pieces, strict=True)}
        wrapped = _Distribution(policy)
        new = functional_call(wrapped, {f"policy.{name}": weight for name, weight in weights.items()}, (obs,))
        return policy.kl(old, new, obs).mean()

    return of_flat


class _Distribution(torch.nn.Module):
    def __init__(self, policy: StochasticPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> Tensor:
        return self.policy.distribution(self.policy.outputs(obs))


def matrix(product: Any, size: int) -> Tensor:
    return torch.stack([product(v) for v in torch.eye(size, dtype=torch.float64)])


def scores(policy: StochasticPolicy, obs: Tensor, action: Tensor) -> Tensor:
    """∇ log π(a|s) of each row [B, P]."""
    parameters = [p for p in policy.parameters() if p.requires_grad]
    rows = []
    for one, of in zip(obs, action, strict=True):
        log_prob = policy.log_prob(policy.outputs(one[None]), one[None], of[None])
        rows.append(flatten(torch.autograd.grad(log_prob.sum(), parameters)))
    return torch.stack(rows)


@each_space
def test_fisher_products_are_the_hessian_of_the_kl(space: str) -> None:
    policy = double(space)
    data = batch(space, policy)
    step = PolicyStep(policy, data)
    hessian = torch.autograd.functional.hessian(kl_from_start(policy, data.obs), step.start)
    fisher = matrix(step.fisher(), len(step.start))
    torch.testing.assert_close(fisher, hessian, atol=1e-10, rtol=1e-8)
    assert fisher.abs().max() > 1e-3
    strided = PolicyStep(policy, data, stride=2).fisher()
    half = torch.autograd.functional.hessian(kl_from_start(policy, data.obs[::2]), step.start)
    torch.testing.assert_close(matrix(strided, len(step.start)), half, atol=1e-10, rtol=1e-8)


def test_fisher_is_the_expected_square_of_the_score() -> None:
    """8.2a: Σ_a π(a|s) ∇log π ∇log πᵀ, averaged over the states."""
    policy = double("Discrete")
    data = batch("Discrete", policy)
    expected = torch.zeros((), dtype=torch.float64)
    for action in range(2):
        taken = torch.full((len(data.obs),), action)
        weight = policy.log_prob(policy.outputs(data.obs), data.obs, taken).exp().detach()
        g = scores(policy, data.obs, taken)
        expected = expected + (weight[:, None, None] * g[:, :, None] * g[:, None, :]).mean(0)
    step = PolicyStep(policy, data)
    torch.testing.assert_close(matrix(step.fisher(), len(step.start)), expected, atol=1e-12, rtol=1e-10)


def test_fisher_of_a_gaussian_head() -> None:
    """8.2a: diag(1/σ², 2) for a mean that is its bias alone, and log σ."""
    policy = double("Box")
    step = PolicyStep(policy, batch("Box", policy))
    place = {name: i for i, name in enumerate(_flat_names(policy))}
    fisher = matrix(step.fisher(), len(step.start))
    bias, log_std = place["head.bias"], place["log_std"]
    assert fisher[bias, bias].item() == pytest.approx((-2 * policy.log_std).exp().item())
    assert fisher[log_std, log_std].item() == pytest.approx(2.0)
    assert fisher[bias, log_std].item() == pytest.approx(0.0, abs=1e-12)


def _flat_names(policy: StochasticPolicy) -> list[str]:
    return [name for name, p in policy.named_parameters() for _ in range(p.numel())]


@each_space
def test_the_sampled_fisher_is_the_mean_square_of_the_scores(space: str) -> None:
    policy = double(space)
    data = batch(space, policy)
    g = scores(policy, data.obs, data.action)
    step = PolicyStep(policy, data)
    torch.testing.assert_close(matrix(step.sampled_fisher(), len(step.start)), g.T @ g / len(g), atol=1e-10, rtol=1e-8)


@each_space
def test_the_gradient_is_the_policy_gradient(space: str) -> None:
    policy = double(space)
    data = batch(space, policy)
    g = scores(policy, data.obs, data.action)
    expected = (standardized(data.advantage)[:, None] * g).mean(0)
    torch.testing.assert_close(PolicyStep(policy, data).gradient, expected, atol=1e-12, rtol=1e-10)


@each_space
def test_a_step_says_what_it_gains_and_how_far_it_goes(space: str) -> None:
    policy = double(space)
    data = batch(space, policy)
    step = PolicyStep(policy, data)
    kl_of = kl_from_start(policy, data.obs)
    before = policy.log_prob(policy.outputs(data.obs), data.obs, data.action).detach()
    direction = 0.05 * step.gradient
    gain, kl = step.try_step(direction)
    torch.testing.assert_close(flatten([p.detach() for p in step.parameters]), step.start + direction)
    after = policy.log_prob(policy.outputs(data.obs), data.obs, data.action).detach()
    assert gain == pytest.approx((((after - before).exp() - 1) * standardized(data.advantage)).mean().item())
    step.move(step.start)
    assert kl == pytest.approx(kl_of(step.start + direction).item()) and kl > 0 and gain > 0
    torch.testing.assert_close(flatten([p.detach() for p in step.parameters]), step.start, atol=0, rtol=0)


def test_the_inverse_is_damped() -> None:
    policy = double("Discrete")
    step = PolicyStep(policy, batch("Discrete", policy))
    fisher = matrix(step.fisher(), len(step.start))
    eye = torch.eye(len(step.start), dtype=torch.float64)
    x = damped_inverse(step.fisher(), step.gradient, Fisher(iterations=100, damping=0.05))
    torch.testing.assert_close(x, torch.linalg.solve(fisher + 0.05 * eye, step.gradient), atol=1e-4, rtol=1e-4)


def test_compatible_features_give_the_natural_gradient() -> None:
    """8.2a: where the actions of the batch come as often as π takes them, w of the regression of A is F⁻¹ g.

    π(1|s) = ¾ in every state: rows with action 1 come three times for each one with action 0.
    """
    policy = double("Discrete")
    with torch.no_grad():
        policy.head.weight.zero_()
        policy.head.bias.copy_(torch.tensor([1.0, 3.0], dtype=torch.float64).log())
    obs = batch("Discrete", policy).obs.repeat_interleave(4, 0)
    action = torch.tensor([0, 1, 1, 1]).repeat(6)
    data = PolicyBatch(obs, action, torch.randn(24, dtype=torch.float64))
    step = PolicyStep(policy, data)
    exact, sampled = matrix(step.fisher(), len(step.start)), matrix(step.sampled_fisher(), len(step.start))
    torch.testing.assert_close(sampled, exact, atol=1e-12, rtol=1e-10)
    g = scores(policy, obs, action)
    w = torch.linalg.lstsq(g, standardized(data.advantage)[:, None], driver="gelsd").solution[:, 0]
    natural = torch.linalg.pinv(exact, hermitian=True, rtol=1e-10) @ step.gradient
    torch.testing.assert_close(w, natural, atol=1e-8, rtol=1e-6)
    for product in (step.fisher(), step.sampled_fisher()):
        x = damped_inverse(product, step.gradient, Fisher(iterations=60, damping=1e-9))
        torch.testing.assert_close(exact @ x, exact @ natural, atol=1e-5, rtol=1e-4)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    policy = double("Discrete")
    data = batch("Discrete", policy)
    with pytest.raises(FloatingPointError, match="the policy gradient is not finite after 0 updates"):
        PolicyStep(policy, data._replace(advantage=torch.full((6,), torch.nan, dtype=torch.float64)))


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"stride": 0}, {"damping": -1.0}])
def test_wrong_recipes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Fisher needs"):
        Fisher(**wrong)
    with pytest.raises(ValueError, match="CriticFit needs"):
        CriticFit(epochs=0)


def test_only_the_critic_gets_gradients_from_its_regression() -> None:
    agent = detached(TRPO(ENVS["Discrete"]))
    del agent.manual_backward  # type: ignore[attr-defined]
    for loss_of in (agent.manual_backward, torch.Tensor.backward):
        agent.zero_grad()
        value = agent.networks.value(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
        loss_of(value.square().mean())
        assert all(p.grad is None for p in agent.policy.parameters())
        found = {name: p.grad.clone() for name, p in agent.named_parameters() if p.grad is not None}
        assert set(found) == {
            n for n, _ in agent.named_parameters() if not n.startswith("policy") and "policy" not in n
        }
