"""Batch actor-critic: targets, what the two kinds of steps reach, tabular fixed points, and the exact gradient."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from lit_rl import MLP, BatchActorCritic, Critic, Env, Recurrent, Rollouts
from lit_rl.algorithms.actor_critic.actor_critic import Fit, Improve, Target, critic_loss, policy_loss
from lit_rl.batch import Rollout
from lit_rl.data.collector import as_tensors
from lit_rl.data.source import open_collector
from lit_rl.functional.returns import discounted_returns, generalized_advantage, n_step_returns
from lit_rl.optimizer import Optimizer
from lit_rl.policies.actor_critic import ActorCritic
from tests.algorithms.stand_in import detached, learn, moved, parameters
from tests.fixtures import finite_horizon_values
from tests.oracles.trajectories import mean_and_variance, problem, weighted_scores


def agent(critic: Critic = Critic(), env: Any = "CartPole-v1", shared: bool = False, **changes: Any) -> Any:
    torch.manual_seed(0)
    sgd = Optimizer(lr=0.5, name="sgd")
    net = ActorCritic(changes.pop("body", MLP((8,))), shared)
    made = BatchActorCritic(Env.of(env).replace(num_envs=3), net=net, critic=critic, **{"optimizer": sgd} | changes)
    return detached(made)


def rollout(made: Any, steps: int = 40) -> Rollout:
    collector = open_collector(made.env, made.policy, seed=0, rank=0)
    data = as_tensors(collector.collect(steps))
    collector.close()
    return data


def test_losses_by_hand() -> None:
    target = torch.tensor([3.0, 0.0], requires_grad=True)
    assert critic_loss(torch.tensor([1.0, 2.0]), target).tolist() == [2.0, 2.0]
    assert policy_loss(torch.tensor([-0.5, -2.0]), torch.tensor([2.0, -1.0])).tolist() == [1.0, -2.0]


@pytest.mark.parametrize("kind", get_args(Target))
def test_targets_are_the_estimators_of_their_names(kind: Target) -> None:
    made = agent(Critic(kind, n=4, lam=0.7), gamma=0.9)
    data = rollout(made)
    now = made.networks.evaluate(data)
    columns = (data.reward, now.next_value, 0.9 * (~data.terminated).float(), data.done)
    expected = {
        "monte_carlo": lambda: discounted_returns(*columns),
        "td": lambda: columns[0] + columns[2] * now.next_value,
        "n_step": lambda: n_step_returns(*columns, n=4),
        "gae": lambda: now.value + generalized_advantage(data.reward, now.value, *columns[1:], lam=0.7),
    }[kind]()
    assert len(data.final_index)
    torch.testing.assert_close(made.targets(data), expected, atol=1e-5, rtol=1e-5)


def test_fits_first_with_targets_made_anew_and_then_improves_once() -> None:
    made = agent(Critic("td", updates=3))
    data, before, targets, kinds = rollout(made), parameters(made), [], []
    for minibatch in made.minibatches(data):
        kinds.append(type(minibatch))
        if isinstance(minibatch, Fit):
            targets.append(minibatch.target)
        else:
            assert moved(made, before) == {name for name in before if "value" in name or "critic" in name}
            middle = parameters(made)
            torch.testing.assert_close(minibatch.advantage.mean(), torch.zeros(()), atol=1e-5, rtol=0)
        made.update(minibatch)
    assert kinds == [Fit, Fit, Fit, Improve]
    assert not torch.equal(targets[0], targets[1]) and not torch.equal(targets[1], targets[2])
    assert moved(made, middle) == {name for name in before if "critic" not in name and "value" not in name}


def test_a_shared_body_is_moved_by_both() -> None:
    made = agent(Critic(updates=1), shared=True)
    before = parameters(made)
    fit, improve = (step for step in made.minibatches(rollout(made)) for _ in [made.update(step)])
    assert isinstance(fit, Fit) and isinstance(improve, Improve)
    assert moved(made, before) == before.keys()


def test_the_critic_has_a_rate_of_its_own() -> None:
    made = agent(Critic(lr_scale=5.0))
    first, second = made.parameter_groups()
    assert second["lr_scale"] == 5.0
    assert {id(p) for p in first["params"]} == {id(p) for p in made.policy.parameters()}


def m2_rollout(steps: int = 400) -> Rollout:
    """Actions at random in a two-state chain whose rewards are known; one environment."""
    exact = problem(2)
    mdp, g = exact.m2.mdp, torch.Generator().manual_seed(0)
    transition, reward = torch.from_numpy(mdp.transition), torch.from_numpy(mdp.reward)
    states, actions = [0], []
    for _ in range(steps):
        actions.append(int(torch.randint(2, (), generator=g)))
        states.append(int(torch.multinomial(transition[states[-1], actions[-1]], 1, generator=g)))
    obs, action = torch.tensor(states)[:, None], torch.tensor(actions)[:, None]
    never = torch.zeros(steps, 1, dtype=torch.bool)
    return Rollout(
        obs, action, torch.full((steps, 1), 0.5).log(), reward[obs[:-1], action].float(), never, never,
        torch.arange(steps)[:, None], torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64),
        torch.zeros(1, 0), torch.tensor(0),
    )  # fmt: skip


def tabular(critic: Critic, **changes: Any) -> Any:
    env = Env("lit_rl.envs.toy:lit_rl/Identity-v0", kwargs={"n": 2, "horizon": 3})
    return agent(critic, env, body=MLP(()), gamma=0.8, **changes)


def test_monte_carlo_fits_the_mean_of_the_returns_in_each_state() -> None:
    """5.1a. The tail is bootstrapped, so the targets move with V until they settle."""
    made, data = tabular(Critic("monte_carlo", updates=300)), m2_rollout()
    for minibatch in made.minibatches(data):
        if isinstance(minibatch, Fit):
            made.update(minibatch)
    value, target = made.state_values(torch.arange(2)), made.targets(data).flatten()
    for state in range(2):
        here = data.obs[:-1].flatten() == state
        torch.testing.assert_close(value[state], target[here].mean(), atol=1e-3, rtol=1e-3)


def test_td_settles_on_the_values_of_the_empirical_process() -> None:
    """5.1b: certainty equivalence, V = (I − γ P̂)⁻¹ r̂ of the transitions seen."""
    made, data = tabular(Critic("td", updates=600)), m2_rollout()
    for minibatch in made.minibatches(data):
        if isinstance(minibatch, Fit):
            made.update(minibatch)
    s, following, r = data.obs[:-1].flatten(), data.obs[1:].flatten(), data.reward.flatten().double()
    one, two = torch.eye(2, dtype=torch.float64)[s], torch.eye(2, dtype=torch.float64)[following]
    visits = one.sum(0)
    expected = torch.linalg.solve(
        torch.eye(2, dtype=torch.float64) - 0.8 * (one.T @ two) / visits[:, None], (one.T @ r) / visits
    )
    torch.testing.assert_close(made.state_values(torch.arange(2)).detach().double(), expected, atol=1e-3, rtol=1e-3)


def test_action_values_settle_on_theirs(unchecked: None) -> None:
    """(8): with TD targets Q = r + γ Σ P̂ Σ π Q of the current policy."""
    made, data = tabular(Critic("td", updates=1500, action_value=True)), m2_rollout()
    for minibatch in made.minibatches(data):
        if isinstance(minibatch, Fit):
            made.update(minibatch)
    s, a, following = data.obs[:-1].flatten(), data.action.flatten(), data.obs[1:].flatten()
    pair, count = s * 2 + a, 4
    one, reward = torch.eye(count, dtype=torch.float64)[pair], data.reward.flatten().double()
    policy = made.policy.outputs(torch.arange(2)).softmax(-1).detach().double()
    ahead = torch.zeros(len(s), count, dtype=torch.float64)
    for k in range(count):
        ahead[:, k] = (following == k // 2) * policy[k // 2, k % 2]
    visits = one.sum(0)
    expected = torch.linalg.solve(
        torch.eye(count, dtype=torch.float64) - 0.8 * (one.T @ ahead) / visits[:, None], (one.T @ reward) / visits
    )
    got = made.critic_values(torch.arange(2)).detach().double().flatten()
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=2e-3)
    (*_, improve) = agent_minibatches(made, data)
    values = got.view(2, 2)
    advantage = values[s, a] - (policy * values).sum(-1)[s]
    advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    torch.testing.assert_close(improve.advantage.double(), advantage, atol=1e-2, rtol=1e-2)


def agent_minibatches(made: Any, data: Rollout) -> list[Any]:
    return list(made.minibatches(data))


def test_with_the_true_values_td_errors_are_the_policy_gradient() -> None:
    """5.0b, 5.2a: E Σ γᵗ ∇ log π (r + γ V(s') − V(s)) = ∇J by enumeration, for V = V^π of the time that is left."""
    exact, gamma = problem(4), 0.7
    value, _ = finite_horizon_values(exact.m2.mdp, exact.logits.softmax(-1).numpy(), gamma)
    paths, v = exact.paths, torch.from_numpy(value)
    transition = torch.from_numpy(exact.m2.mdp.transition)
    delta = torch.stack(
        [
            paths.reward[t]
            + gamma * (v[t + 1][paths.states[t + 1]] if t < 2 else transition.new_zeros(64))
            - v[t][paths.states[t]]
            for t in range(3)
        ]
    )
    weight = delta * gamma ** torch.arange(3, dtype=torch.float64)[:, None]
    mean, _ = mean_and_variance(weighted_scores(paths.scores(exact.logits), weight), paths.probability(exact.logits))
    torch.testing.assert_close(mean, paths.gradient(exact.logits, gamma))


def test_refusals() -> None:
    for arguments, words in (
        ({"data": Rollouts(workers=1)}, "lag"),
        ({"net": ActorCritic(Recurrent())}, "memory"),
        ({"env": "Pendulum-v1", "critic": Critic(action_value=True)}, "the actions are"),
    ):
        with pytest.raises(ValueError, match=words):
            BatchActorCritic(**{"env": "CartPole-v1"} | arguments)
    with pytest.raises(ValueError, match="n ≥ 1"):
        Critic(n=0)


def test_an_unknown_target_is_refused(unchecked: None) -> None:
    with pytest.raises(ValueError, match="monte_carlo, td, n_step, gae"):
        Critic("true")  # type: ignore[arg-type]


@pytest.mark.medium
@pytest.mark.parametrize(
    "critic", [*(Critic(kind) for kind in get_args(Target)), Critic("td", action_value=True)], ids=repr
)
def test_learns_a_short_task(critic: Critic, tmp_path: Path) -> None:
    env = Env("lit_rl.envs.toy:lit_rl/Identity-v0", num_envs=8, kwargs={"horizon": 3})
    data = Rollouts(16, steps_per_epoch=12_000)
    made = BatchActorCritic(env, data, critic=critic, optimizer=Optimizer(lr=1e-2), entropy_weight=0.01)
    learn(made, tmp_path, 1)
    assert made.val_dataloader().play().returns.mean() > 2.7
