"""Generators, sparse tables, gymnasium's toy text, bandits and POMDPs."""

from itertools import product

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lit_rl.envs import finite_mdp as worlds
from lit_rl.envs.recipe import Env
from lit_rl.planning.dynamic_programming import policy_iteration, value_iteration
from lit_rl.planning.evaluation import policy_value
from lit_rl.planning.model import deterministic

NAMES = [
    "RandomMDP",
    "Chain",
    "Grid",
    "FourRooms",
    "Cliff",
    "RiverSwim",
    "DeepSea",
    "Lottery",
    "BernoulliBandit",
    "GaussianBandit",
    "Tiger",
]


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_nothing_wrong_and_episodes_end(name):
    env = gymnasium.make(f"lit_rl/{name}-v0")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    for _ in range(1001):
        if any(env.step(env.action_space.sample())[2:4]):
            return
    pytest.fail("no end within 1001 steps")


def test_recipes_name_worlds_with_arguments_and_draw_them():
    recipe = Env("lit_rl.envs.finite_mdp:lit_rl/Maze-v0", kwargs={"rows": ["S.#", ".XG"], "slip": 0.2})
    env = recipe.make_one()
    assert env.observation_space == gymnasium.spaces.Discrete(6)
    pictured = gymnasium.make("lit_rl/Grid-v0", slip=0.0, render_mode="rgb_array")
    pictured.reset(seed=0)
    before = pictured.render()  # of the first cell
    assert before.shape == (96, 96, 3) and before.dtype == np.uint8
    pictured.step(1), pictured.step(2)
    assert (before != pictured.render()).any()


# [E] of exact dynamic programming: the value of the start at γ = 0.95, 0.99, 1 without a time limit.
@pytest.mark.parametrize(
    ("id_", "kwargs", "gamma", "value"),
    [
        ("FrozenLake-v1", {}, 0.95, 0.180472),
        ("FrozenLake-v1", {}, 0.99, 0.542026),
        ("FrozenLake-v1", {}, 1.0, 14 / 17),
        ("FrozenLake-v1", {"map_name": "8x8"}, 0.99, 0.414640),
        ("Taxi-v4", {}, 0.99, 6.32746),
        ("Taxi-v4", {}, 1.0, 7.93),
        ("CliffWalking-v1", {}, 0.99, -12.2479),
        ("CliffWalking-v1", {}, 1.0, -13.0),
        ("CliffWalking-v1", {"is_slippery": True}, 1.0, -64.709),
    ],
)
def test_toy_text_from_its_own_tables(id_, kwargs, gamma, value):
    mdp = worlds.finite_mdp_of(gymnasium.make(id_, **kwargs))
    solution = value_iteration(mdp.model(), gamma, 1e-12, max_sweeps=20_000)
    tolerance = 1e-8 if value in (14 / 17, 7.93, -13.0) else 5e-5 if abs(value) > 1 else 5e-7
    if id_.startswith("Cliff") and kwargs:
        tolerance = 5e-4
    assert mdp.initial @ solution.value.numpy() == pytest.approx(value, abs=tolerance)


def test_the_tables_of_toy_text_are_what_the_environment_does():
    env = gymnasium.make("FrozenLake-v1")
    mdp = worlds.finite_mdp_of(env)
    counts, pays = np.zeros((16, 4, 16)), np.zeros((16, 4))
    env.reset(seed=0)
    for _ in range(20_000):
        state, action = env.unwrapped.s, int(env.np_random.integers(4))
        following, reward, *ended = env.step(action)[:4]
        counts[state, action, following] += 1
        pays[state, action] += reward
        if any(ended):
            env.reset()
    visits = counts.sum(-1)
    seen = visits > 50
    bound = 5 * np.sqrt(0.25 / np.maximum(visits, 1))[..., None]
    assert seen.sum() > 20
    assert (np.abs(counts / np.maximum(visits, 1)[..., None] - mdp.transition) < bound)[seen].all()
    assert (np.abs(pays / np.maximum(visits, 1) - mdp.reward) < bound[..., 0])[seen].all()


def test_a_world_without_tables_is_refused():
    with pytest.raises(ValueError, match="no table"):
        worlds.finite_mdp_of(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize("mdp", [worlds.grid(), worlds.cliff(0.1), worlds.deep_sea(4), worlds.river_swim()])
def test_sparse_and_dense_are_one_world(mdp):
    sparse = mdp.as_sparse()
    assert sparse.sparse and np.allclose(sparse.as_dense().transition, mdp.transition)
    assert np.allclose(sparse.backup(np.arange(mdp.states) ** 2.0, 0.9), mdp.backup(np.arange(mdp.states) ** 2.0, 0.9))
    dense, other = (value_iteration(one.model(), 0.9) for one in (mdp, sparse))
    assert np.allclose(dense.q, other.q, atol=1e-12)
    assert np.allclose(policy_iteration(sparse.model(), 0.9).value, dense.value, atol=1e-8)
    with pytest.raises(ValueError, match="successors must be states"):
        worlds.FiniteMDP(worlds.Successors(*(part + 99 for part in sparse.transition)), mdp.reward, mdp.initial)


@pytest.mark.usefixtures("unchecked")
def test_a_hundred_thousand_states_are_solved():
    world = worlds.grid(316, sparse=True)
    solution = value_iteration(world.model(), 0.99, 1e-6)
    right = deterministic(solution.q.argmax(-1), 4)
    value = policy_value(world.model(), right, 0.99)
    assert np.allclose(value, solution.value, atol=1e-5) and solution.value[-2] > 0.9


def test_generators_by_hand():
    right = np.tile([0.0, 1.0], (6, 1))
    swim = worlds.river_swim()
    assert np.allclose(swim.transition.sum(-1), 1) and np.allclose(swim.transition[2, 1, 1:4], [0.05, 0.6, 0.35])
    assert swim.policy_value(right, 0.99)[0] > swim.policy_value(right[:, ::-1], 0.99)[0]
    for n in (3, 10):
        sea = worlds.deep_sea(n)
        best = value_iteration(sea.model(), 1.0, max_sweeps=n + 1)
        assert best.value[0] == pytest.approx(0.99)
        assert value_iteration(sea.model(), 1.0, max_sweeps=n - 1).value[0] <= 0  # nothing before row n
    assert value_iteration(worlds.cliff().model(), 1.0, max_sweeps=100).value[36] == -13
    rooms = worlds.four_rooms()
    assert (~rooms.terminal).sum() + 1 == 104  # with the goal; the figure of the literature
    assert worlds.maze(["SX", ".G"]).reward[0].tolist() == [0, -1, 0, 0]
    for bad in (["S.", "."], ["..", ".G"]):
        with pytest.raises(ValueError, match="maze"):
            worlds.maze(bad)


def test_arms_pay_what_they_should():
    env = worlds.GaussianBanditEnv((0.0, 2.0), std=0.5)
    env.reset(seed=0)
    pays = np.array([[env.step(arm)[1] for arm in (0, 1)] for _ in range(2000)])
    assert np.allclose(pays.mean(0), [0, 2], atol=5 * 0.5 / 2000**0.5) and np.allclose(pays.std(0), 0.5, atol=0.05)
    with pytest.raises(ValueError, match="probabilities"):
        worlds.BernoulliBanditEnv((0.5, 1.5))


def random_pomdp(seed=0, states=3, actions=2, observations=2):
    rng = np.random.default_rng(seed)
    emission = rng.dirichlet(np.ones(observations), size=states)
    return worlds.FinitePOMDP(worlds.random_mdp(rng, states, actions), emission)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_belief_is_the_posterior_over_all_hidden_paths(sparse):
    pomdp, actions, seen = random_pomdp(), (0, 1, 1), (1, 0, 0, 1)
    mdp, belief = pomdp.mdp, pomdp.first_belief(seen[0])
    if sparse:
        pomdp = worlds.FinitePOMDP(mdp.as_sparse(), pomdp.emission)
    for action, observation in zip(actions, seen[1:], strict=True):
        belief = pomdp.next_belief(belief, action, observation)
    posterior = np.zeros(3)
    for path in product(range(3), repeat=4):
        chance = mdp.initial[path[0]] * pomdp.emission[path[0], seen[0]]
        for t, action in enumerate(actions):
            chance *= mdp.transition[path[t], action, path[t + 1]] * pomdp.emission[path[t + 1], seen[t + 1]]
        posterior[path[-1]] += chance
    assert np.allclose(belief, posterior / posterior.sum(), atol=1e-14)


def test_the_tiger_by_hand_and_impossible_observations():
    tiger = worlds.tiger()
    belief = tiger.next_belief(tiger.first_belief(0), 0, 0)  # heard left twice
    assert belief[0] == pytest.approx(0.85**2 / (0.85**2 + 0.15**2))
    assert np.allclose(tiger.next_belief(belief, 1, 1), [0.15, 0.85])  # the tiger is put anew
    sure = worlds.tiger(accuracy=1.0)
    with pytest.raises(ValueError, match="impossible"):
        sure.next_belief(np.array([1.0, 0.0]), 0, 1)
    env = gymnasium.make("lit_rl/Tiger-v0", belief=True)
    obs, _ = env.reset(seed=1)
    assert env.observation_space.contains(obs) and max(obs) == pytest.approx(0.85)
