"""Acting with known physics: what is observed becomes a state, plans live in the memory, one call serves all."""

import pickle

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl.planning.ilqr import ILQR
from lit_rl.planning.lqr import StationaryPolicy
from lit_rl.planning.planner import Memory
from lit_rl.planning.regulator import regulate
from lit_rl.planning.shooting import CEM, ICEM
from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.systems.system import QuadraticCost
from lit_rl.planning.task import ControlTask
from lit_rl.policies.control import FeedbackPolicy, PlanningPolicy, RecedingHorizonPolicy, TrajectoryPolicy

INTEGRATOR = "lit_rl/DoubleIntegrator-v0"
TORQUE = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)
FORCE = gymnasium.spaces.Box(-10.0, 10.0, (1,), np.float32)


def pendulum(planner=CEM(2, 20, 5), horizon: int = 6) -> RecedingHorizonPolicy:
    return RecedingHorizonPolicy(ControlTask(horizon).open("Pendulum-v1", {}, 1.0), TORQUE, planner)


def blank(policy: PlanningPolicy, rows: int) -> np.ndarray:
    return np.zeros((rows, policy.state_size), np.float32)


def observations(*states: list[float]) -> np.ndarray:
    return Pendulum().observe(torch.tensor(states)).numpy()


# What the environment sees


def test_forces_become_the_nearest_of_two_actions_and_back():
    controlled = ControlTask().open("CartPole-v1", {}, 1.0)
    solved = StationaryPolicy(torch.eye(4).double(), torch.zeros(1, 4).double())
    policy = FeedbackPolicy(controlled, gymnasium.spaces.Discrete(2), solved)
    force = torch.tensor([[-9.0], [-0.1], [0.1], [30.0]]).double()
    assert policy.to_env(force).tolist() == [0, 0, 1, 1]
    assert policy.from_env(torch.tensor([[0, 1, 1]])).tolist() == [[[-10.0], [10.0], [10.0]]]
    with pytest.raises(ValueError, match="CartPole has 2 actions and the environment 3"):
        FeedbackPolicy(controlled, gymnasium.spaces.Discrete(3), solved)


def test_actions_of_a_box_keep_its_shape_and_are_clipped_as_the_motors_do():
    policy = pendulum()
    assert policy.to_env(torch.ones(3, 1)).shape == (3, 1)
    assert policy.from_env(torch.tensor([[[5.0]], [[-0.5]]])).tolist() == [[[2.0]], [[-0.5]]]


def test_feedback_is_about_the_goal_and_counts_no_whole_turns():
    task = ControlTask(cost=QuadraticCost((1.0, 0.1), (0.01,), goal=(3.0, 0.0)))
    controlled = task.open("Pendulum-v1", {}, 1.0)
    gain = torch.tensor([[-1.0, 0.0]]).double()
    policy = FeedbackPolicy(controlled, TORQUE, StationaryPolicy(torch.eye(2).double(), gain))
    act = policy.act(observations([3.1, 0.0], [-3.0, 0.0]), np.zeros((2, 0)), np.random.default_rng(0))
    assert act.action.dtype == np.float32
    assert act.action[:, 0] == pytest.approx([-0.1, -(2 * np.pi - 6.0)], abs=1e-6)
    assert policy.cost_to_go(torch.tensor([[3.1, 2.0], [-3.0, 0.0]]).double()) == pytest.approx([4.01, 0.0802], 1e-3)


# Receding horizon


@pytest.mark.parametrize("planner", [CEM(2, 20, 5), ICEM(2, 20, elites=5, keep=2)])
def test_the_memory_is_the_planner_s(planner):
    """Against the planner driven by hand; the second environment's episode ends after three steps."""
    policy = pendulum(planner)
    obs, memory, rng = observations([3.0, 0.0], [1.0, 1.0]), blank(policy, 2), np.random.default_rng(5)
    seeds, by_hand = np.random.default_rng(5), planner.fresh(policy.problem, 2)
    state = policy.state_of(obs)
    for step in range(6):
        if step == 3:
            memory[1] = 0.0
            fresh = planner.fresh(policy.problem, 2)
            by_hand = Memory(*(torch.stack([a[0], b[1]]) for a, b in zip(by_hand, fresh, strict=True)))
        act = policy.act(obs, memory, rng)
        draws = torch.Generator().manual_seed(int(seeds.integers(2**63)))
        plan = planner.plan(policy.problem, state, by_hand, draws)
        by_hand = Memory(*(part.float().double() for part in plan.memory))
        assert act.action == pytest.approx(plan.actions[:, 0].numpy(), abs=1e-6)
        assert np.allclose(policy.planned(act.state), by_hand.actions, atol=1e-6)
        memory = np.array(act.state)
    assert memory[:, 0].tolist() == [6, 3]


def test_one_call_plans_for_all_environments(monkeypatch):
    policy, calls = pendulum(), []
    search = CEM.search
    monkeypatch.setattr(CEM, "search", lambda *given: calls.append(len(given[2])) or search(*given))
    policy.act(observations(*[[0.1 * i, 0.0] for i in range(7)]), blank(policy, 7), np.random.default_rng(0))
    assert calls == [7]


def test_acting_greedily_draws_nothing_and_repeats_itself():
    policy, rng = pendulum(), np.random.default_rng(0)
    obs, before = observations([3.0, 0.0]), rng.bit_generator.state
    greedy = policy.act(obs, blank(policy, 1), rng, explore=False)
    assert rng.bit_generator.state == before
    assert np.array_equal(greedy.action, policy.act(obs, blank(policy, 1), rng, explore=False).action)
    later = policy.act(obs, blank(policy, 1) + np.eye(1, policy.state_size, dtype=np.float32), rng, explore=False)
    assert not np.array_equal(greedy.action, later.action)  # other numbers in another step
    assert not np.array_equal(greedy.action, policy.act(obs, blank(policy, 1), rng).action)
    other = pendulum()  # of another seed
    assert not np.array_equal(greedy.action, other.act(obs, blank(policy, 1), rng, explore=False).action)
    other.load_state_dict(policy.state_dict())
    assert np.array_equal(greedy.action, other.act(obs, blank(policy, 1), rng, explore=False).action)


def test_a_policy_travels_to_another_process():
    policy = pendulum()
    copy = pickle.loads(pickle.dumps(policy))
    obs = observations([3.0, 0.0])
    actions = [p.act(obs, blank(p, 1), np.random.default_rng(0)).action for p in (policy, copy)]
    assert np.array_equal(*actions)


# Following a trajectory


def integrator(replan_every: int, planner=ILQR()) -> tuple[TrajectoryPolicy, StationaryPolicy]:
    controlled = ControlTask(8, final="riccati").open(INTEGRATOR, {}, 1.0)
    solved = regulate(controlled.problem.dynamics, controlled.problem.cost, controlled.goal, 1)
    return TrajectoryPolicy(controlled, FORCE, planner, replan_every), solved


def test_feedback_about_a_trajectory_is_lqr_s_also_after_a_kick():
    policy, solved = integrator(5)
    state, memory, rng = torch.tensor([[1.0, 0.0], [-0.5, 0.7]]).double(), blank(integrator(5)[0], 2), None
    for step in range(12):
        act = policy.act(state.float().numpy(), memory, rng, explore=False)
        assert act.action == pytest.approx((state @ solved.gain.mT).numpy(), abs=1e-5)
        kick = torch.tensor([0.3, -0.2]) if step == 2 else torch.zeros(2)
        state = policy.system(state, torch.tensor(act.action).double()) + kick
        memory = act.state


def test_trajectories_are_planned_when_they_are_due(monkeypatch):
    policy, _ = integrator(4)
    calls, best = [], ILQR.best
    monkeypatch.setattr(ILQR, "best", lambda *given: calls.append((len(given[2]), given[3].clone())) or best(*given))
    state, memory = np.array([[1.0, 0.0], [-0.5, 0.7]], np.float32), blank(policy, 2)
    sizes, plans = [], []
    for step in range(9):
        if step == 2:
            memory[1] = 0.0  # its episode has ended
        plans.append(policy.planned(memory))
        before = len(calls)
        memory = np.array(policy.act(state, memory, np.random.default_rng(0)).state)
        sizes.append(calls[-1][0] if len(calls) > before else 0)
    assert sizes == [2, 0, 1, 0, 1, 0, 1, 0, 1]
    assert (calls[0][1] == 0).all() and (calls[1][1] == 0).all()  # fresh ones begin from the middle of the box
    assert torch.equal(calls[2][1][0], plans[4][0])  # later ones from the rest of the last
    assert torch.equal(plans[3][0][1:-1], plans[2][0][2:]) and (plans[3][0][-3:] == plans[3][0][-1]).all()


def test_a_trajectory_may_go_round():
    """Near the lowest point the planned angle passes π and goes on; what is observed does not."""
    controlled = ControlTask(10).open("Pendulum-v1", {}, 1.0)
    policy = TrajectoryPolicy(controlled, TORQUE, ILQR(iterations=5), 10)
    state, memory = torch.tensor([[3.0, 3.0]]).double(), blank(policy, 1)
    for _ in range(10):
        act = policy.act(policy.system.observe(state).numpy(), memory, np.random.default_rng(0))
        memory = act.state
        if state[0, 0] == 3.0:
            planned = policy._unpacked(torch.from_numpy(memory))[0][0, :, 0]
        assert act.action[0, 0] == pytest.approx(planned[int(memory[0, 0]) - 1].item(), abs=1e-3)
        state = policy.system(state, torch.tensor(act.action).double())
    assert state[0, 0] > np.pi + 0.5
