"""Replay: how many updates, from which rows, and nothing during warm-up."""

import tempfile
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.data.priority import Prioritized
from lit_rl.data.replay import Replay, ReplayExperience
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from lit_rl.policies.uniform import UniformPolicy
from tests.envs.scripted import register

register()
LONG = {"script": ((7, True, False), (4, False, True))}


def opened(num_envs: int = 1, env_id: str = "Scripted-v0", **fields: Any) -> ReplayExperience:
    env = Env(env_id, num_envs=num_envs, kwargs=LONG if env_id == "Scripted-v0" else {}).with_spaces()
    recipe = Replay(**{"capacity": 400, "batch_size": 2, "warmup": 20, **fields})
    return recipe.open(env, UniformPolicy(env.action_space), 0.9, seed=0)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("num_envs", [1, 2, 8])
def test_updates_per_env_step_do_not_depend_on_the_environments(ratio: float, num_envs: int) -> None:
    experience = opened(num_envs, replay_ratio=ratio)
    steps = updates = 0
    while steps < 320:
        data, env_steps = experience.next_round()
        assert data.reward.shape[1:] == (2,)
        steps, updates = steps + env_steps, updates + len(data.reward)
        assert updates == int(max(0, steps - 20) * ratio + 1e-6), "at every moment, not only in the long run"
    assert abs(updates - 300 * ratio) <= ratio * (steps - 320) + 1
    experience.close()


def test_warm_up_comes_as_rounds_without_updates() -> None:
    experience = opened(2, warmup=10, replay_ratio=1.0)
    counts = []
    for _ in range(8):
        data, env_steps = experience.next_round()
        assert env_steps == 2
        counts.append(len(data.reward))
    assert counts == [0, 0, 0, 0, 0, 2, 2, 2]
    assert len(experience.memory) == 16


def test_warm_up_acts_uniformly_and_then_the_policy_acts() -> None:
    class Always(UniformPolicy):
        def act(self, obs: Any, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Any:
            return super().act(obs, state, rng, explore)._replace(action=np.ones(len(state), np.int64))

    env = Env("Scripted-v0", num_envs=2, kwargs=LONG).with_spaces()
    experience = Replay(400, 2, 1.0, warmup=100).open(env, Always(env.action_space), 0.9, seed=0)
    for _ in range(70):
        experience.next_round()
    actions = experience.memory.rows["action"][:70]
    assert 0 < actions[:50].mean() < 1 and (actions[50:] == 1).all()


def test_rows_of_a_round_come_from_everything_stored_so_far() -> None:
    experience = opened(1, batch_size=64, steps_per_round=10, replay_ratio=1.0, warmup=0)
    for collected in (10, 20, 30):
        data, _ = experience.next_round()
        assert data.reward.shape == (10, 64)
        assert set(data.index.unique().tolist()) == set(range(collected))


@pytest.mark.parametrize("prioritized", [None, Prioritized()])
@pytest.mark.parametrize("storage", ["memory", "memmap"])
def test_restored_experience_goes_on_with_the_same_batches(tmp_path, monkeypatch, prioritized, storage) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def learn(experience: ReplayExperience, rounds: int) -> list[torch.Tensor]:
        seen = []
        for _ in range(rounds):
            data, _ = experience.next_round()
            for index, reward in zip(data.index, data.reward, strict=True):
                experience.learnt(index, reward + 0.1 * index)
            seen += [data.index, data.reward, data.next_obs, *([] if data.weight is None else [data.weight])]
        return seen

    fields = {"prioritized": prioritized, "storage": storage, "capacity": 60, "n_step": 3, "replay_ratio": 0.75}
    fields["env_id"] = "CartPole-v1"  # its state is what its seed and actions made it
    one = opened(2, **fields)
    learn(one, 25)
    assert one.save(tmp_path / "rows")
    state = one.snapshot()
    two = opened(2, **fields)
    two.load(tmp_path / "rows")
    two.restore(state)
    for mine, theirs in zip(learn(one, 20), learn(two, 20), strict=True):
        assert torch.equal(mine, theirs)
    assert one.statistics() == two.statistics()
    assert list(scratch.iterdir()) == [], "a kill would leave the memory map behind"
    two.close()


def test_an_episode_that_cannot_be_restored_ends_where_it_was(tmp_path) -> None:
    """Drifting-v0 counts its steps, and no replay of it leads to the same place: the next episode begins."""
    env = Env("Drifting-v0", num_envs=2, kwargs={"script": ((1_000, True, False),)}).with_spaces()
    one, two = (Replay(400, 8, warmup=0, n_step=3).open(env, UniformPolicy(env.action_space), 0.9, 0) for _ in "12")
    for _ in range(10):
        one.next_round()
    one.save(tmp_path / "rows")
    two.load(tmp_path / "rows")
    with pytest.warns(UserWarning, match="cannot be restored"):
        two.restore(one.snapshot())
    for _ in range(5):
        two.next_round()
    stored = two.memory.read(two.memory.stored())
    taken = stored.next_obs[:, 1] - stored.obs[:, 1]  # steps of each window
    assert set(taken.tolist()) == {1.0, 2.0, 3.0}
    assert torch.allclose(stored.discount, 0.9**taken), "cut as by a time limit"
    rollout = two.source.collect()
    assert (rollout.episode_step == 5).all() and (rollout.obs[0, :, 1] == 5).all()
    assert (two.source.statistics._running == sum(10 + step for step in range(1, 7))).all(), "of the new episode alone"


@pytest.mark.parametrize(
    ("recipe", "num_envs", "rounds"),
    [
        (Replay(steps_per_epoch=100, steps_per_batch=10, replay_ratio=1.0), 8, 13),
        (Replay(steps_per_epoch=100, steps_per_batch=1, replay_ratio=0.1), 1, 10),
        (Replay(steps_per_epoch=100, steps_per_batch=1000, replay_ratio=0.1), 3, 9),
        (Rollouts(16, steps_per_epoch=100, rollouts_per_batch=3), 1, 7),
        (Rollouts(16, steps_per_epoch=100, rollouts_per_batch=30), 2, 4),
    ],
)
def test_an_epoch_is_the_same_rounds_however_they_are_batched(recipe: Any, num_envs: int, rounds: int) -> None:
    env = Env("Scripted-v0", num_envs=num_envs, kwargs=LONG).with_spaces()
    experience = recipe.open(env, UniformPolicy(env.action_space), 0.9, 0, 0)
    assert recipe.rounds_per_epoch(num_envs) == rounds
    steps = 0
    for number, batch in enumerate(experience):
        steps += sum(env_steps for _, env_steps in batch.draw(number))
    assert number + 1 == len(experience)
    assert steps == recipe.env_steps_per_epoch(num_envs) >= 100


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"capacity": 0}, "capacity is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"n_step": 0}, "n_step is 0"),
        ({"replay_ratio": 0.0}, "replay_ratio"),
        ({"warmup": -1}, "warmup is -1"),
        ({"workers": -1}, "workers is -1"),
        ({"steps_per_round": 0}, "steps_per_round is 0"),
        ({"capacity": 10, "warmup": 11}, "smaller than the warm-up"),
    ],
)
def test_wrong_recipes(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Replay(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"capacity": 1, "warmup": 0, "n_step": 2}, {"capacity": 2, "warmup": 0, "n_step": 3}]
)
def test_a_memory_too_small_is_refused_when_it_opens(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"raise data\.capacity"):
        opened(1, **wrong)


def test_one_row_stored_is_enough_for_a_batch() -> None:
    experience = opened(1, warmup=0, batch_size=32, n_step=3)
    data, _ = experience.next_round()
    assert data.reward.tolist() == [[1.0] * 32] and data.discount[0, 0] == pytest.approx(0.9)
