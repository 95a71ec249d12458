"""MPC against LQR, after kicks, with the wrong physics; and from the command line without a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lit_rl
from lit_rl import CEM, MPC, Collocation, ControlTask, Env, GradientShooting, QuadraticCost
from lit_rl.algorithms.control.control_agent import look_back
from lit_rl.batch import Rollout
from lit_rl.callbacks import PlanPictures
from lit_rl.cli import main
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.planning.derivatives import jacobian
from lit_rl.planning.ilqr import ILQR
from lit_rl.planning.lqr import LinearQuadratic, follow, lqr
from lit_rl.planning.planner import Planner
from lit_rl.planning.regulator import CostToGo, regulate
from lit_rl.planning.systems.double_integrator import DoubleIntegrator
from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.trajectory import ControlProblem, rollout
from tests.tiny import trainer

INTEGRATOR = "lit_rl.envs.double_integrator:lit_rl/DoubleIntegrator-v0"
SMALL = CEM(iterations=1, samples=10, elites=3)


def exact_planner(name: str) -> tuple[Planner, ControlTask]:
    if name == "ilqr":
        return ILQR(), ControlTask(5, final="riccati")
    return Collocation(), ControlTask(5, DoubleIntegrator(), final="riccati")


@pytest.mark.parametrize("name", ["ilqr", "collocation"])
def test_with_the_riccati_cost_at_its_end_it_is_lqr(name: str, unchecked):
    planner, task = exact_planner(name)
    agent = MPC(INTEGRATOR, planner=planner, task=task, evaluation=Episodes(3, max_steps=10))
    found = agent.evaluation.open(agent.env, agent.policy).play()
    _, problem, goal = agent.controlled
    riccati = regulate(problem.dynamics, problem.cost, goal, 1).riccati
    to_go = CostToGo(agent.controlled.system, riccati, goal)
    paid = to_go(found.first_obs.double()) - to_go(found.final_obs.double())
    assert -found.returns.numpy() == pytest.approx(paid.numpy(), rel=1e-5)


def test_a_horizon_that_shrinks_gives_the_trajectory_of_lqr():
    """With T − t steps to go a plan for the rest is what the plan for all of them said (9.2.2a)."""
    system, cost = DoubleIntegrator(), QuadraticCost((1.0, 0.5), (0.1,), final=(3.0, 2.0))
    start, steps, size = torch.tensor([1.0, -0.5]).double(), 6, 2
    point = torch.zeros(3, dtype=torch.float64)
    linear = jacobian(lambda z: system(z[..., :2], z[..., 2:]), point)
    quadratic = LinearQuadratic(
        linear.expand(steps, 2, 3),
        torch.zeros(steps, size).double(),
        2.0 * torch.tensor([1.0, 0.5, 0.1]).double().diag().expand(steps, 3, 3),
        torch.zeros(steps, 3).double(),
        2.0 * torch.tensor([3.0, 2.0]).double().diag(),
        torch.zeros(size).double(),
    )
    states, actions = follow(quadratic, lqr(quadratic), start)
    unbounded = torch.full((1,), torch.inf, dtype=torch.float64)
    state = start
    for t in range(steps):
        problem = ControlProblem(system, cost, -unbounded, unbounded, steps - t, cost.terminal)
        action = ILQR().plan(problem, state).actions[0]
        assert torch.allclose(action, actions[t], atol=1e-10)
        state = system(state, action)
    assert torch.allclose(state, states[-1], atol=1e-10)


def test_it_recovers_from_a_kick_that_its_first_plan_does_not(unchecked):
    planner, task = exact_planner("ilqr")
    agent = MPC(INTEGRATOR, planner=planner, task=task)
    system = agent.controlled.system
    state = blind = torch.tensor([[1.0, 0.0]]).double()
    plan = planner.plan(ControlTask(25, final="riccati").open(INTEGRATOR, {}, 1.0).problem, state).actions[0]
    memory = np.zeros((1, agent.policy.state_size), np.float32)
    for t in range(25):
        act = agent.policy.act(state.float().numpy(), memory, np.random.default_rng(0))
        memory, kick = act.state, torch.tensor([0.0, 0.5]) * (t == 5)
        state = system(state, torch.tensor(act.action).double()) + kick
        blind = system(blind, plan[t : t + 1]) + kick
    assert state.abs().max() < 0.2 and blind.abs().max() > 0.45


def two_steps(policy, gravity: float = 10.0) -> Rollout:
    """[T = 2, N = 1] of a pendulum of its own, the second step being an episode's last."""
    system = Pendulum(gravity=gravity)
    actions = torch.tensor([[[1.0]], [[9.0]]])
    states = rollout(system, torch.tensor([[0.2, 0.5]]).double(), actions.double().transpose(0, 1)).transpose(0, 1)
    obs = system.observe(states).float()
    flags = torch.tensor([[False], [True]])
    memory = torch.zeros(1, policy.state_size)
    return Rollout(obs, actions, torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros_like(flags), flags,
                   torch.zeros(2, 1), obs[2], torch.tensor([1]), memory, torch.tensor(0))  # fmt: skip


def test_looking_back_by_hand():
    policy = MPC("Pendulum-v1", planner=SMALL, task=ControlTask(3)).policy
    found = look_back(policy, two_steps(policy))
    # θ² + 0.1 θ̇² + 0.001 u²: 0.04 + 0.025 + 0.001, then θ̇ = 0.5 + 0.05 (15 sin 0.2 + 3) = 0.799, θ = 0.24, u = 2
    speed = 0.5 + 0.05 * (15 * np.sin(0.2) + 3)
    second = (0.2 + 0.05 * speed) ** 2 + 0.1 * speed**2 + 0.004
    assert found["cost"] == pytest.approx((0.066 + second) / 2, rel=1e-5)
    assert found["model_error"] < 1e-6 and set(found) == {"cost", "model_error"}
    wrong = look_back(policy, two_steps(policy, gravity=12.0))
    assert wrong["model_error"] == pytest.approx(0.05 * 3 * np.sin(0.2), rel=1e-3)  # of θ̇, the last step aside
    later = two_steps(policy)
    later.state[:, 0] = 4  # in mid-episode with a plan of zeros
    planned = policy.problem.total(torch.tensor([[0.2, 0.5]]).double(), torch.zeros(1, 3, 1).double())
    assert look_back(policy, later)["planned_cost"] == pytest.approx(planned.item() / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("env", "task", "words"),
    [
        ("MountainCarContinuous-v0", ControlTask(), "physics of MountainCarContinuous-v0 are not known"),
        (Env("Pendulum-v1", kwargs={"g": 9.0}), ControlTask(), "Pendulum-v1 with g are not known"),
        ("MountainCarContinuous-v0", ControlTask(system=Pendulum()), "no.* for MountainCarContinuous-v0; give weights"),
        ("Pendulum-v1", ControlTask(cost=QuadraticCost((1.0,), (1.0,))), "1 weights of the state .* has 2 and 1"),
        (
            "Pendulum-v1",
            ControlTask(system=DoubleIntegrator()),
            r"observed as Box\(2,\), and Pend.* shows Box\(3,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(env, task: ControlTask, words: str):
    with pytest.raises(ValueError, match=words):
        MPC(env, task=task)


def test_a_goal_that_cannot_be_held_has_no_riccati_cost():
    hanging = QuadraticCost((1.0, 1.0), (1.0,), goal=(1.0, 0.0))
    with pytest.raises(ValueError, match="without action the system leaves"):
        MPC("Pendulum-v1", task=ControlTask(cost=hanging, final="riccati"))


def config(folder: Path) -> list[str]:
    file = folder / "mpc.yaml"
    file.write_text(
        "trainer: {enable_progress_bar: false}\n"
        "model: {class_path: MPC, init_args: {env: CartPole-v1, planner: {class_path: CEM, init_args: "
        "{iterations: 1, samples: 10, elites: 3}}, task: {horizon: 4}, evaluation: {max_steps: 12}}}\n"
    )
    return ["--config", str(file)]


def test_it_is_tested_and_watched_without_a_checkpoint(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = config(tmp_path)
    assert main(["test", *words, "--episodes", "2"]) == 0
    assert "test/return" in capsys.readouterr().out
    assert main(["play", *words]) == 0
    assert "MPC on CartPole-v1" in capsys.readouterr().out


def test_who_learns_still_needs_a_checkpoint(capsys):
    assert main(["test", "--model", "PPO", "--model.env", "CartPole-v1"]) == 2
    assert "test needs --ckpt_path" in capsys.readouterr().err


def test_pictures_arrive_in_tensorboard(tmp_path: Path):
    data = Rollouts(steps=10, steps_per_epoch=20)
    agent = MPC("Pendulum-v1", data, SMALL, ControlTask(4), evaluation=Episodes(1, max_steps=5))
    pictures = PlanPictures(steps=6, cells=3)
    trainer = lit_rl.Trainer(str(tmp_path), 1, callbacks=[pictures], enable_progress_bar=False)
    trainer.fit(agent)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["images"]) == {"plans/trajectory", "plans/cost_to_go"}
    assert {"train/cost", "train/model_error", "train/planned_cost"} <= set(events.Tags()["scalars"])
    assert events.Scalars("train/model_error")[-1].value < 1e-5
    again = lit_rl.load(tmp_path / "checkpoints" / "last.ckpt")
    assert isinstance(again, MPC) and again.env_steps == 20


def test_a_search_by_gradients_is_validated(tmp_path: Path):
    """Lightning's inference mode would keep no graph to follow."""
    planner, evaluation = GradientShooting(starts=2, steps=2), Episodes(1, max_steps=3)
    agent = MPC("Pendulum-v1", planner=planner, task=ControlTask(5), evaluation=evaluation)
    (found,) = trainer(tmp_path, limit_val_batches=1).validate(agent, verbose=False)
    assert found["val/return"] < 0
