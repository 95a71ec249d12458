"""Off-policy actor-critic: exact expectations of every estimator, fixed points of every critic, and the naive bias."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_rl import MLP, Env, Replay, WindowReplay
from lit_rl.algorithms.actor_critic.off_policy_actor_critic import (
    OffPolicyActorCritic,
    as_window,
    expected_q,
    q_loss,
    score_loss,
)
from lit_rl.batch import map_tensors
from lit_rl.data.windows import Window
from lit_rl.envs.finite_mdp import random_mdp
from lit_rl.nn.frozen import Frozen
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient

TWO_STEP = "lit_rl.envs.two_step:lit_rl/TwoStep-v0"
SGD = Optimizer(lr=0.5, name="sgd")


def agent(env: Any = "CartPole-v1", **changes: Any) -> OffPolicyActorCritic:
    torch.manual_seed(0)
    return detached(OffPolicyActorCritic(env, **{"net": MLP((8,)), "optimizer": SGD} | changes))


def windows(length: int = 2) -> WindowReplay:
    return WindowReplay(100, batch_size=4, warmup=10, window=length)


# --- the losses by hand -----------------------------------------------------------------------------------------


def test_critic_loss_by_hand() -> None:
    """y = 1 + 0.9·2 = 2.8 and, terminated, −1: ½(1 − 2.8)² = 1.62 and ½(0 + 1)² = 0.5."""
    q, next_q = torch.tensor([1.0, 0.0], requires_grad=True), torch.tensor([2.0, 7.0], requires_grad=True)
    loss = q_loss(q, torch.tensor([1.0, -1.0]), torch.tensor([0.9, 0.0]), next_q)
    torch.testing.assert_close(loss, torch.tensor([1.62, 0.5]))
    loss.sum().backward()
    assert q.grad.tolist() == pytest.approx([-1.8, 1.0]) and next_q.grad is None


def test_score_loss_by_hand() -> None:
    """Three actions, Q = 1, 2, 6: others' means 4, 3.5, 1.5 leave −3, −1.5, 4.5; −mean of log π times those."""
    log_prob, q = torch.tensor([[-1.0], [-2.0], [-0.5]]), torch.tensor([[1.0], [2.0], [6.0]])
    assert score_loss(log_prob, q).item() == pytest.approx((1 + 4 + 3) / 3)
    assert score_loss(log_prob, q, baseline=True).item() == pytest.approx(-(3 + 3 - 2.25) / 3)


# --- three estimators of one gradient ---------------------------------------------------------------------------


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of, retain_graph=True)[0]


@pytest.mark.parametrize("baseline", [False, True])
def test_the_score_function_is_unbiased_with_and_without_its_baseline(baseline: bool) -> None:
    """5.5d: over all pairs of fresh actions E[(3)] is the gradient of (4), an equality; it cuts the variance."""
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 4, generator=rng, dtype=torch.float64).requires_grad_()
    q = 5 + torch.randn(1, 4, generator=rng, dtype=torch.float64)
    policy, exact = logits.softmax(-1)[0].detach(), gradient(-expected_q(logits, q).sum(), logits)
    moments = {}
    for with_baseline in (False, True):
        mean, square = torch.zeros(1, 4, dtype=torch.float64), 0.0
        for a in range(4):
            for b in range(4):
                chosen = torch.tensor([a, b])
                loss = score_loss(
                    logits.log_softmax(-1)[0, chosen].unsqueeze(-1), q[0, chosen].unsqueeze(-1), with_baseline
                )
                estimate, weight = gradient(loss.sum(), logits), policy[a] * policy[b]
                mean, square = mean + weight * estimate, square + weight * estimate.square().sum()
        moments[with_baseline] = mean, square - mean.square().sum()
    torch.testing.assert_close(moments[baseline][0], exact, atol=1e-12, rtol=0)
    assert moments[True][1] < 0.2 * moments[False][1]


def test_pathwise_and_score_function_agree_with_the_closed_form() -> None:
    """5.5e: Q = −(a − 0.3)², a ~ N(μ, σ²): ∇_μ E Q = −2(μ − 0.3), ∇_{log σ} E Q = −2σ²; pathwise varies less."""
    ac = agent("Quadratic-v9", net=MLP(()), samples=200_000)
    ac.critic = Square()
    ac.frozen_critic = Frozen(ac.critic)
    obs = torch.ones(1, 1)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for kind in ("pathwise", "score"):
        ac.gradient = kind
        outputs = ac.policy.outputs(obs).detach().requires_grad_()
        loss = ac.actor_loss(outputs, obs).sum()
        found[kind] = torch.autograd.grad(loss, (outputs, ac.policy.log_std))
    mean, std = outputs.item(), ac.policy.log_std.exp().item()
    for kind, tolerance in (("pathwise", 0.03), ("score", 0.1)):
        of_mean, of_log_std = found[kind]
        assert of_mean.item() == pytest.approx(2 * (mean - 0.3), abs=tolerance)
        assert of_log_std.item() == pytest.approx(2 * std**2, abs=tolerance)


class Square(torch.nn.Module):
    """Q(s, a) = −(a − 0.3)²."""

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return -(action.squeeze(-1) - 0.3).square()


def test_the_pathwise_gradient_by_finite_differences() -> None:
    """d/dθ of −mean Q(s, μ(s; θ) + σ ξ) with the noise held fixed, through a real critic, in every parameter."""
    ac = agent("Pendulum-v1", samples=3).double()
    obs = torch.randn(5, 3, dtype=torch.float64)

    def loss() -> Tensor:
        torch.manual_seed(7)
        return ac.actor_loss(ac.policy.outputs(obs), obs).mean()

    loss().backward()
    assert all(p.grad is None for p in ac.critic.parameters())
    for parameter in ac.policy.parameters():
        flat, place = parameter.data.view(-1), parameter.numel() // 2
        values = []
        for step in (1e-6, -2e-6):
            flat[place] += step
            values.append(loss().item())
        flat[place] += 1e-6
        assert parameter.grad.view(-1)[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)


# --- fixed points -----------------------------------------------------------------------------------------------


def all_transitions(mdp: Any, behaviour: np.ndarray, gamma: float) -> Any:
    """Every (s, a, s') with the probability that a uniform s, the behaviour and the MDP give it, as weight."""
    s, a, after = (torch.from_numpy(x.ravel()) for x in np.indices(mdp.transition.shape))
    weight = torch.from_numpy(behaviour)[s, a] * torch.from_numpy(mdp.transition)[s, a, after] / mdp.states
    batch = transitions(s, a, torch.from_numpy(mdp.reward)[s, a], torch.full((len(s),), gamma), after)
    return batch._replace(weight=(weight * len(s)).float(), log_prob=torch.from_numpy(behaviour).log()[s, a].float())


def test_the_q_trick_evaluates_the_policy_that_learns_whoever_acted() -> None:
    """5.5d: tabular, data of another policy that covers all pairs: Q converges to Q^π of the frozen π."""
    rng = np.random.default_rng(1)
    mdp, gamma = random_mdp(rng, 3, 3), 0.8
    ac = agent(tabular(mdp), net=MLP(()), gamma=gamma, tau=1.0)
    with torch.no_grad():
        ac.policy.head.weight.copy_(torch.from_numpy(rng.normal(size=(3, 3))))
        policy = ac.policy.outputs(torch.arange(3)).softmax(-1).double().numpy()
    batch = all_transitions(mdp, rng.dirichlet(np.ones(3) * 5, size=3), gamma)
    optimizer = torch.optim.SGD(ac.critic.parameters(), 0.8)
    for _ in range(1500):
        optimizer.zero_grad()
        ac.critic_loss(batch).backward()
        optimizer.step()
        ac.after_update()
    value = mdp.policy_value(policy, gamma)
    np.testing.assert_allclose(ac.critic(torch.arange(3)).detach(), mdp.backup(value, gamma), atol=2e-3)


def tabular(mdp: Any) -> Env:
    """Some environment with the spaces of an MDP that has as many states as actions."""
    assert mdp.states == mdp.actions
    return Env("lit_rl.envs.toy:lit_rl/Identity-v0", kwargs={"n": mdp.states})


@pytest.mark.parametrize(("correction", "expected"), [("importance", 1.0), ("none", 0.5)])
def test_the_value_of_the_second_state_under_uniform_data(correction: str, expected: float) -> None:
    """5.5c: π always takes the good action there. Naively V = 0.5, the buffer's; with ratios min(1, π/μ) V = 1."""
    ac = agent(TWO_STEP, net=MLP(()), correction=correction, data=windows())
    obs = torch.eye(2)
    with torch.no_grad():
        ac.policy.head.weight.copy_(torch.tensor([[0.0, 30.0], [0.0, 0.0]]))  # takes 0 in the second state
    for _ in range(300):
        losses, _ = ac.value_losses(*as_window(uniform_data(obs)))
        losses["critic_loss"].backward()
        with torch.no_grad():
            for parameter in ac.critic.parameters():
                parameter.sub_(0.5 * parameter.grad)
        ac.zero_grad()
    assert ac.critic(obs[1]).item() == pytest.approx(expected, abs=1e-3)


def uniform_data(obs: Tensor) -> Window:
    """The three episodes of the two-step task, each as often as the uniform policy plays it: left, right–0, right–1."""
    reward = torch.tensor([[0.6, 0.0], [0.6, 0.0], [0.0, 1.0], [0.0, 0.0]])
    action = torch.tensor([[0, 0], [0, 0], [1, 0], [1, 1]])
    valid = torch.tensor([[True, False], [True, False], [True, True], [True, True]])
    discount = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    before = obs[torch.tensor([[0, 0], [0, 0], [0, 1], [0, 1]])]
    after = obs[torch.tensor([[0, 0], [0, 0], [1, 1], [1, 1]])]
    flat = transitions(before, action, reward, discount, after)
    rows = torch.arange(8).view(4, 2)
    return Window(flat._replace(log_prob=torch.full((4, 2), 0.5).log(), index=rows), valid)


def test_the_naive_bias_as_a_number() -> None:
    """5.5c at a uniform π whose critics are at their fixed points: which way does each method turn at the start?

    Truth: going right is worth ½ to the uniform policy, ∂J/∂(logit of right) = π(1 − π)(Q_right − 0.6) = −0.025,
    and 0.1 once π takes 0 in the second state (Q_right = 1). The naive method goes on seeing V(s1) = ½: −0.025.
    """
    obs, turns = torch.eye(2), {}
    for correction in ("none", "importance"):
        ac = agent(TWO_STEP, net=MLP(()), correction=correction, data=windows(1))
        value_of_second = {"none": 0.5, "importance": 1.0}[correction]
        with torch.no_grad():
            ac.policy.head.weight.copy_(torch.tensor([[0.0, 30.0], [0.0, 0.0]]))
            ac.critic[1].weight.copy_(torch.tensor([[0.55 if correction == "none" else 0.8, value_of_second]]))
        whole = uniform_data(obs)
        start = map_tensors(lambda tensor: tensor[:, :1], whole)  # the first steps alone
        losses, _ = ac.value_losses(*as_window(start))
        losses["actor_loss"].backward()
        turns[correction] = -ac.policy.head.weight.grad[1, 0].item()
    assert turns["none"] == pytest.approx(-0.025, abs=1e-6)
    assert turns["importance"] == pytest.approx(0.1, abs=1e-6)


# --- the agent --------------------------------------------------------------------------------------------------


def batch(ac: OffPolicyActorCritic, rows: int = 6) -> Any:
    rng = torch.Generator().manual_seed(0)
    size = ac.env.observation_space.shape[0]
    obs, after = (torch.randn(rows, size, generator=rng) for _ in range(2))
    action = torch.randint(2, (rows,), generator=rng) if ac.discrete else torch.rand(rows, 1, generator=rng) * 4 - 2
    discount = torch.tensor([0.9, 0.0, 0.9, 0.9, 0.0, 0.9])
    return transitions(obs, action, torch.randn(rows, generator=rng), discount, after)


CASES = [
    ("CartPole-v1", {}),
    ("CartPole-v1", {"gradient": "score", "samples": 3, "baseline": True}),
    ("CartPole-v1", {"correction": "none"}),
    ("Pendulum-v1", {}),
    ("Pendulum-v1", {"gradient": "score", "samples": 2}),
]


@pytest.mark.parametrize(("env", "changes"), CASES)
def test_each_loss_reaches_its_own_parameters_alone(env: str, changes: dict) -> None:
    ac = agent(env, **changes)
    for term, prefix in (("critic_loss", "critic."), ("actor_loss", "policy.")):
        ac.zero_grad()
        ac.loss(batch(ac))[term].backward()
        assert with_gradient(ac) == {name for name, _ in ac.named_parameters() if name.startswith(prefix)}


def test_one_update_moves_all_but_the_target_which_follows() -> None:
    ac = agent(tau=0.25, entropy_weight=0.01)
    before = parameters(ac)
    ac.update(batch(ac))
    assert moved(ac, before) == before.keys()
    for name, target in ac.critic_target.slow.named_parameters():
        new, old = dict(ac.critic.named_parameters())[name], before[f"critic_target.slow.{name}"]
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)


def test_a_window_breaks_off_where_its_episode_ends() -> None:
    """Rows beyond it have no influence, whatever they hold."""
    ac = agent(TWO_STEP, correction="importance", data=windows())
    window = uniform_data(torch.eye(2))
    losses, _ = ac.value_losses(*as_window(window))
    window.steps.reward[:2, 1] = 1e6
    again, _ = ac.value_losses(*as_window(window))
    for name, loss in losses.items():
        torch.testing.assert_close(loss, again[name])


@pytest.mark.parametrize(
    "wrong",
    [
        {"tau": 0.0},
        {"samples": 0},
        {"baseline": True},
        {"gradient": "pathwise"},
        {"data": windows()},
        {"correction": "importance"},
    ],
)
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match="OffPolicyActorCritic"):
        agent(**wrong)


@pytest.mark.medium
@pytest.mark.parametrize(("correction", "expected"), [("q_trick", 1.0), ("importance", 1.0), ("none", 0.6)])
def test_the_two_step_task(correction: str, expected: float, tmp_path: Path) -> None:
    """5.5c: from a memory of uniform play the naive method prefers left, 0.6; both corrections find 1."""
    kind = Replay if correction == "q_trick" else WindowReplay
    data = kind(10_000, 64, 1.0, warmup=1600, steps_per_round=16, steps_per_epoch=2400, steps_per_batch=2400)
    env = Env(TWO_STEP, num_envs=4)
    ac = OffPolicyActorCritic(
        env, data, MLP((16,)), Optimizer(0.01), tau=0.1, correction=correction, entropy_weight=0.02
    )
    learn(ac, tmp_path, 1)
    assert ac.val_dataloader().play().returns.mean().item() == pytest.approx(expected)
