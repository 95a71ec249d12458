"""NPG: sizes and directions of its steps, and what the metric buys on a badly scaled problem."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl import MLP, NPG, CriticFit, Env, Fisher, Linear, Rollouts
from lit_rl.algorithms.policy_gradient.npg import step_along
from lit_rl.algorithms.policy_gradient.trust_region import PolicyBatch, PolicyStep
from lit_rl.functional.natural_gradient import flatten
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms import finite_world
from tests.algorithms.stand_in import detached, learn, moved, parameters

UNDAMPED = Fisher(iterations=60, damping=1e-6)


def agent(seed: int = 0, **changes: Any) -> tuple[NPG, PolicyBatch]:
    torch.manual_seed(seed)
    npg = detached(NPG(finite_world.ENV, net=finite_world.TABLE, **{"fisher": UNDAMPED} | changes))
    with torch.no_grad():
        npg.policy.head.weight.normal_()
    return npg, PolicyBatch(*finite_world.visited(finite_world.mdp(seed), finite_world.table(npg.policy)))


@pytest.mark.parametrize("direction", ["fisher", "compatible"])
@pytest.mark.parametrize("limit", [1e-4, 1e-3])
def test_a_step_has_the_divergence_asked_for(direction: Any, limit: float) -> None:
    npg, batch = agent()
    step = PolicyStep(npg.policy, batch)
    along = step_along(step, direction, UNDAMPED, limit, rate=123.0)
    fisher = step.fisher()
    assert (along @ fisher(along) / 2).item() == pytest.approx(limit, rel=0.02)
    _, kl = step.try_step(along)
    assert kl == pytest.approx(limit, rel=0.05), "the KL is quadratic near the old policy"


def test_a_tabular_natural_step_adds_the_advantage_to_the_logits() -> None:
    """d = F⁻¹ g has the scores' inner products w·∇log π(a|s) = A(s, a), all states alike: Kakade 2001, theorem 1."""
    npg, batch = agent()
    step = PolicyStep(npg.policy, batch)
    d = step_along(step, "fisher", Fisher(200, 1e-7), None, rate=1.0)
    before = npg.policy.outputs(torch.arange(finite_world.SIZE)).detach().log_softmax(-1)
    step.try_step(1e-3 * d)
    after = npg.policy.outputs(torch.arange(finite_world.SIZE)).detach().log_softmax(-1)
    change = ((after - before) / 1e-3)[batch.obs, batch.action]
    advantage = (batch.advantage - batch.advantage.mean()) / batch.advantage.std(correction=0)
    # A is centred over the batch by its mean, which is nearly the 0 that it is in every state
    torch.testing.assert_close(change, advantage, atol=0.03, rtol=0.03)


def test_the_euclidean_step_is_the_gradient() -> None:
    npg, batch = agent()
    step = PolicyStep(npg.policy, batch)
    plain = step_along(step, "euclidean", UNDAMPED, None, rate=0.3)
    torch.testing.assert_close(plain, 0.3 * step.gradient)
    sized = step_along(step, "euclidean", UNDAMPED, 0.04, rate=123.0)
    assert sized.norm().item() == pytest.approx(0.2)
    torch.testing.assert_close(sized / 0.2, step.gradient / step.gradient.norm())


def test_a_fixed_step_follows_its_schedule() -> None:
    npg, batch = agent(trust_region=None, rate=Linear(0.2, 0.0, 100))
    direction = step_along(PolicyStep(npg.policy, batch), "fisher", UNDAMPED, None, rate=1.0)
    before = weights(npg)
    npg.policy.env_steps += 50
    npg.update(batch)
    torch.testing.assert_close(weights(npg) - before, 0.1 * direction, atol=1e-5, rtol=1e-3)
    assert npg.updates == 1


def weights(npg: NPG) -> Tensor:
    return flatten([p.detach() for p in npg.policy.parameters()])


@pytest.mark.parametrize("direction", ["fisher", "compatible", "euclidean"])
def test_only_the_policy_moves(direction: Any) -> None:
    npg, batch = agent(direction=direction)
    before = parameters(npg)
    npg.update(batch)
    of_policy = {name for name, p in npg.named_parameters() if any(p is q for q in npg.policy.parameters())}
    assert moved(npg, before) == of_policy


def test_the_metric_pays_where_the_plain_gradient_is_stuck(unchecked: None) -> None:
    """Kakade 2001, section 4: a policy that is nearly sure of a wrong action has hardly any plain gradient."""
    reached = {}
    for direction in ("fisher", "euclidean"):
        torch.manual_seed(0)
        npg = detached(
            NPG(finite_world.ENV, net=finite_world.TABLE, fisher=UNDAMPED, direction=direction, trust_region=0.02)
        )
        world = finite_world.mdp(3)
        worst = world.optimal_q(finite_world.GAMMA).argmin(-1)
        with torch.no_grad():
            npg.policy.head.weight.zero_()
            npg.policy.head.weight[torch.from_numpy(worst), torch.arange(finite_world.SIZE)] = 4.0
        for _ in range(12):
            batch = finite_world.visited(world, finite_world.table(npg.policy), 20_000)
            npg.update(PolicyBatch(*batch))
        reached[direction] = finite_world.performance(world, finite_world.table(npg.policy))
    assert reached["fisher"] > reached["euclidean"] + 1.0, "of an optimum of 12.6"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trust_region": 0.0}, "positive, or null"),
        ({"rate": 0.0}, "a step along the gradient is positive"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NPG(finite_world.ENV, **wrong)


@pytest.mark.medium
@pytest.mark.parametrize("direction", ["fisher", "compatible"])
def test_identity_is_learnt(direction: Any, tmp_path: Path) -> None:
    npg = NPG(
        Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=8),
        Rollouts(32, steps_per_epoch=3072),
        ActorCritic(MLP((16,))),
        Optimizer(0.01),
        direction=direction,
        trust_region=0.02,  # larger steps run off once the policy is nearly deterministic
        critic=CriticFit(2),
    )
    learn(npg, tmp_path, 1)
    assert npg.val_dataloader().play().returns.mean() > 0.95
