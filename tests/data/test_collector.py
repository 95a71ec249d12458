"""The collector on environments that do exactly as they are told: every entry of a rollout, by hand."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from lit_rl.data.collector import Collector, as_tensors
from lit_rl.data.source import open_collector
from lit_rl.envs.recipe import Env
from lit_rl.nn.body import MLP, Recurrent
from lit_rl.policies.actor_critic import ActorCritic
from lit_rl.policies.policy import Act, Policy
from lit_rl.policies.uniform import UniformPolicy
from tests.envs.scripted import Scripted, register

register()


class Constant(Policy):
    """The same action always; its memory counts steps; its log-probability tells the version."""

    state_size = 1

    def __init__(self, action: Any = 0) -> None:
        super().__init__()
        self.action, self.refreshed = np.asarray(action), 0

    def refresh(self) -> None:
        self.refreshed += 1

    def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        n = len(state)
        log_prob = np.full(n, 0.5 + int(self.version), np.float32)
        return Act(np.broadcast_to(self.action, (n, *self.action.shape)), log_prob, state + 1)


class Wide(Scripted):
    """Scripted, with a box of actions that it insists on."""

    action_space = spaces.Box(-1, np.array([1, 2], np.float32), dtype=np.float32)

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action.astype(np.float32)), action
        result = super().step(0)
        return result[0], float(action.sum()), *result[2:]


gymnasium.register("Wide-v0", Wide)


def scripted(script: Any, num_envs: int = 1, policy: Policy | None = None, env_id: str = "Scripted-v0") -> Collector:
    env = Env(env_id, num_envs=num_envs, kwargs={"script": script}).with_spaces()
    return open_collector(env, policy or Constant(), seed=3, rank=0)


def test_a_rollout_by_hand() -> None:
    """Episodes of 2 (terminated), 3 (truncated), 1 (both), 9 … steps; reward = 10 · episode + step."""
    collector = scripted(((2, True, False), (3, False, True), (1, True, True), (9, True, False)))
    rollout = collector.collect(8)
    assert rollout.obs[:, 0, :2].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 0], [3, 0], [3, 1], [3, 2]]
    assert rollout.reward[:, 0].tolist() == [1, 2, 11, 12, 13, 21, 31, 32]
    assert rollout.terminated[:, 0].tolist() == [False, True, False, False, False, True, False, False]
    assert rollout.truncated[:, 0].tolist() == [False, False, False, False, True, True, False, False]
    assert as_tensors(rollout).done[:, 0].tolist() == [False, True, False, False, True, True, False, False]
    assert rollout.episode_step[:, 0].tolist() == [0, 1, 0, 1, 2, 0, 0, 1]
    assert rollout.final_index.tolist() == [1, 4, 5]
    assert rollout.final_obs[:, :2].tolist() == [[0, 2], [1, 3], [2, 1]], "the true last observations, not the resets"
    # the draw at reset belongs to the episode: the final observation carries it, the one after does not
    assert rollout.final_obs[0, 2] == rollout.obs[0, 0, 2] != rollout.obs[2, 0, 2]
    assert rollout.log_prob.tolist() == [[0.5]] * 8 and rollout.version == 0
    assert rollout.state.tolist() == [[0.0]]
    following = collector.collect(2)
    assert (following.obs[0] == rollout.obs[-1]).all(), "episodes go on"
    assert following.episode_step[:, 0].tolist() == [2, 3]
    assert following.state.tolist() == [[2.0]], "the memory since the episode's start"


def test_several_environments_end_at_their_own_times() -> None:
    env = Env("Spaced-v0", num_envs=3, kwargs={"space": spaces.Box(-1, 1, (2,), np.float32)}).with_spaces()
    collector = open_collector(env, UniformPolicy(env.action_space), seed=0, rank=0)
    rollout = collector.collect(60)
    done = rollout.terminated | rollout.truncated
    assert done.any() and rollout.final_index.tolist() == np.flatnonzero(done).tolist()
    assert len(rollout.final_obs) == done.sum()
    for n in range(3):
        step = 0
        for t in range(60):
            assert rollout.episode_step[t, n] == step
            step = 0 if done[t, n] else step + 1


def test_actions_are_stored_as_drawn_and_clipped_for_the_environment() -> None:
    rollout = scripted(((5, True, False),), 2, Constant(np.array([-3.0, 1.5], np.float32)), "Wide-v0").collect(3)
    assert rollout.action.tolist() == [[[-3.0, 1.5]] * 2] * 3
    assert rollout.reward.tolist() == [[0.5, 0.5]] * 3  # −1 + 1.5


def test_log_probs_are_those_of_the_policy_that_acts() -> None:
    policy = Constant()
    collector = scripted(((3, True, False),), 2, policy)
    for version in range(3):
        rollout = collector.collect(4)
        assert (rollout.log_prob == 0.5 + version).all() and rollout.version == version
        assert policy.refreshed == version + 1
        policy.version += 1
    uniform = collector.collect(4, UniformPolicy(spaces.Discrete(2)))
    np.testing.assert_allclose(uniform.log_prob, -np.log(2), rtol=1e-6)
    assert policy.refreshed == 3


def test_rollouts_belong_to_the_caller() -> None:
    collector = scripted(((3, True, False),), 2)
    first = collector.collect(4)
    kept = [np.array(field) for field in first]
    collector.collect(4)
    assert all((one == two).all() for one, two in zip(first, kept, strict=True))


@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 7]])
def test_how_collecting_is_cut_up_changes_nothing(chunks: list[int]) -> None:
    def gathered(pieces: list[int]) -> list[np.ndarray]:
        env = Env("CartPole-v1", num_envs=2).with_spaces()
        collector = open_collector(env, UniformPolicy(env.action_space), seed=1, rank=0)
        rollouts = [collector.collect(piece) for piece in pieces]
        names = ("action", "reward", "terminated", "episode_step", "final_obs")
        fields = [np.concatenate([getattr(r, name) for r in rollouts]) for name in names]
        return [np.concatenate([r.obs[:-1] for r in rollouts]), *fields]

    assert all((one == two).all() for one, two in zip(gathered(chunks), gathered([4, 8]), strict=True))


@pytest.mark.parametrize("recurrent", [False, True])
def test_restored_in_mid_episode(recurrent: bool) -> None:
    env = Env("CartPole-v1", num_envs=3).with_spaces()
    body = Recurrent(MLP((4,)), 4) if recurrent else MLP((4,))
    policy = ActorCritic(body).build(env.observation_space, env.action_space).policy
    collector = open_collector(env, policy, seed=0, rank=0)
    before_any = collector.snapshot()
    collector.collect(37)
    saved = collector.snapshot()
    expected = collector.collect(25)
    for state, skipped, wandered in ((saved, 0, 0), (saved, 0, 11), (before_any, 37, 0)):
        other = open_collector(env, policy, seed=0, rank=0)
        if wandered:  # what it did before leaves no trace
            other.collect(wandered)
        other.restore(state)
        if skipped:
            other.collect(skipped)
        for name, mine, theirs in zip(expected._fields, expected, other.collect(25), strict=True):
            assert np.array_equal(mine, theirs), name
    assert expected.state.any() == recurrent


def test_dict_observations_and_tensors_over_the_same_memory() -> None:
    space = spaces.Dict({"a": spaces.Box(0, 255, (1, 4, 4), np.uint8), "b": spaces.Discrete(3)})
    env = Env("Spaced-v0", num_envs=2, kwargs={"space": space, "masked": True}).with_spaces()
    rollout = open_collector(env, UniformPolicy(env.action_space), 0, 0).collect(40)
    assert rollout.obs["a"].shape == (41, 2, 1, 4, 4) and rollout.obs["a"].dtype == np.uint8
    assert rollout.obs["b"].shape == (41, 2) and rollout.obs["action_mask"].dtype == bool
    assert rollout.final_obs["a"].shape[0] == len(rollout.final_index) > 0
    assert (rollout.action[..., 0] == 0).all() and (rollout.action[..., 1] > 0).all(), "only legal actions"
    tensors = as_tensors(rollout)
    tensors.obs["a"][0, 0] = 77
    assert (rollout.obs["a"][0, 0] == 77).all()


def test_no_episode_end_gives_empty_finals() -> None:
    rollout = as_tensors(scripted(((9, True, False),), 2).collect(3))
    assert rollout.final_obs.shape == (0, 3) and rollout.final_index.shape == (0,)
