"""What every algorithm of the registry keeps, whatever it is: the same checks for each."""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything

import lit_rl
from lit_rl.agent import Agent
from lit_rl.data.rollouts import Rollouts
from lit_rl.data.whole_episodes import WholeEpisodes
from lit_rl.envs.recipe import Env
from lit_rl.policies.network import NetworkPolicy
from tests.tiny import ENVS, PAIRS, AtEnd, differences, draws, everything, tiny, trainer


def by_recipe() -> list[Any]:
    """All agents, of which those whose kind of data another has already are slow: for what the data decides."""
    seen, marked = set[type](), []
    for name in sorted(lit_rl.AGENTS):
        kind = type(inspect.signature(getattr(lit_rl, name)).parameters["data"].default)
        marked.append(pytest.param(name, marks=[pytest.mark.slow] if kind in seen else []))
        seen.add(kind)
    return marked


each_agent = pytest.mark.parametrize("name", sorted(lit_rl.AGENTS))
each_recipe = pytest.mark.parametrize("name", by_recipe())
# Shapes are checked where each agent learns, once; comparing whole runs needs no second look at them.
as_users_run = pytest.mark.usefixtures("unchecked")
each_pair = pytest.mark.parametrize(("name", "space"), PAIRS)


def fitted(agent: Agent, folder: Path, epochs: int = 1, **arguments: Any) -> dict[str, Any]:
    end = AtEnd()
    callbacks = [*arguments.pop("callbacks", []), end]
    trainer(folder, epochs, callbacks=callbacks, **arguments).fit(agent)
    return end.state


def batch_of_observations(agent: Agent, count: int) -> Any:
    space = agent.env.observation_space
    space.seed(0)
    rows = [space.sample() for _ in range(count)]
    if "TicTacToe" in agent.env.id:  # where one stone lies
        board = -np.eye(9, dtype=np.float32)[np.arange(count) % 9]
        return {"observation": board, "action_mask": board == 0}
    if isinstance(rows[0], dict):
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows).astype(space.dtype)


def act(agent: Agent, obs: Any, rows: int, seed: int = 0, explore: bool = False) -> Any:
    state = np.zeros((rows, agent.policy.state_size), np.float32)
    return agent.policy.act(obs, state, np.random.default_rng(seed), explore)


@each_pair
def test_learns_and_counts(name: str, space: str, tmp_path: Path) -> None:
    agent = tiny(name, space)
    before = {key: value.detach().clone() for key, value in agent.named_parameters()}
    state = fitted(agent, tmp_path)
    rounds = 5 if isinstance(agent.data, Rollouts) else 40
    assert agent.data.env_steps_per_epoch(2) == 80
    assert agent.env_steps == 80 or (isinstance(agent.data, WholeEpisodes) and agent.env_steps > 80)
    assert (
        agent.updates == (rounds * agent.epochs if name == "PPO" else 30)
        if name in ("PPO", "DQN", "SAC")
        else agent.updates > 0
    )
    stuck = [key for key, p in agent.named_parameters() if p.requires_grad and torch.equal(before[key], p.detach())]
    assert not stuck, "parameters that should move and do not"
    assert all(p.isfinite().all() for p in agent.parameters())
    assert all(p.grad is None for p in agent.parameters() if not p.requires_grad)
    learnt = {id(p) for group in agent.optimizer.build(agent.parameter_groups()).param_groups for p in group["params"]}
    assert learnt == {id(p) for p in agent.parameters() if p.requires_grad}
    assert state["counters"] == (agent.env_steps, agent.updates)


@each_pair
def test_acts_in_its_space(name: str, space: str) -> None:
    agent = tiny(name, space)
    action_space, obs = agent.env.action_space, batch_of_observations(agent, 7)
    agent.policy.refresh()
    for explore in (False, True):
        one, two = (act(agent, obs, 7, seed, explore) for seed in (0, 0))
        assert one.action.shape == (7, *action_space.shape) and one.log_prob.shape == (7,)
        assert np.array_equal(one.action, two.action), "the generator is the only source of randomness"
        if type(action_space).__name__ != "Box":
            assert all(action_space.contains(action_space.dtype.type(1) * row) for row in one.action)
    greedy, other = act(agent, obs, 7, 0), act(agent, obs, 7, 1)
    assert np.array_equal(greedy.action, other.action)
    if isinstance(agent.policy, NetworkPolicy) and not agent.policy.state_size:
        np.testing.assert_allclose(agent.policy(torch.as_tensor(obs)).detach(), greedy.action, atol=1e-5)


@each_agent
def test_no_policy_lag(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round is collected after all updates on the rounds before it: also with several rounds to a batch."""
    agent, events = tiny(name), []
    open_, update = type(agent.data).open, type(agent).update

    def opened(*args: Any) -> Any:
        experience = open_(*args)
        next_round = experience.next_round

        def recorded() -> Any:
            events.append(("collected at", agent.updates))
            return next_round()

        experience.next_round = recorded
        return experience

    def updated(self: Agent, minibatch: Any) -> None:
        events.append(("update", self.updates))
        update(self, minibatch)

    monkeypatch.setattr(type(agent.data), "open", opened)
    monkeypatch.setattr(type(agent), "update", updated)
    fitted(agent, tmp_path)
    made = 0
    for what, version in events:
        assert version == made, "collected ahead of an update"
        made += what == "update"
    assert made == agent.updates > 0


@as_users_run
@each_agent
def test_batches_are_bookkeeping(name: str, tmp_path: Path) -> None:
    check_batches(name, 3, tmp_path)


@as_users_run
@each_recipe
def test_batches_of_one_environment_are_bookkeeping(name: str, tmp_path: Path) -> None:
    check_batches(name, 1, tmp_path)


def check_batches(name: str, num_envs: int, tmp_path: Path) -> None:
    """Batches of other sizes, the same run."""
    states = []
    for size in (3, 1000):
        seed_everything(3, verbose=False)
        field = "rollouts_per_batch" if "rollouts_per_batch" in vars(tiny(name).data) else "steps_per_batch"
        steps = size if field == "rollouts_per_batch" else size * 5
        seed_everything(3, verbose=False)
        agent = tiny(name, num_envs=num_envs, data={field: steps})
        states.append(fitted(agent, tmp_path))
    for other in states[1:]:
        assert differences(states[0], other) == []


class SaveAt(Callback):
    """Saves after the batches (epoch, number), and at each epoch's end."""

    def __init__(self, folder: Path, *batches: tuple[int, int]) -> None:
        self.folder, self.batches, self.paths = folder, batches, []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) in self.batches and not trainer.is_last_batch:
            self._save(trainer, f"{trainer.current_epoch}-{batch_idx}")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._save(trainer, f"{trainer.current_epoch}-end")

    def _save(self, trainer: Any, name: str) -> None:
        self.paths.append(self.folder / name / "last.ckpt")
        trainer.save_checkpoint(self.paths[-1])


def check_resume(
    name: str, folder: Path, epochs: int = 2, trained: dict[str, Any] | None = None, **arguments: Any
) -> None:
    """A run that is saved on its way, against fresh agents that go on from each of its checkpoints.

    The trainer takes ``trained``, the agents the rest.
    """
    seed_everything(11, verbose=False)
    save = SaveAt(folder, (0, 0), (epochs - 1, 3))
    trained = {"limit_val_batches": 1, "check_val_every_n_epoch": 1} | (trained or {})
    straight = fitted(tiny(name, **arguments), folder, epochs, callbacks=[save], **trained)
    assert len(save.paths) >= epochs + 1
    for path in save.paths[:-1]:  # nothing is left to do after the last
        seed_everything(99, verbose=False)
        torch.rand(7), np.random.rand(7)
        agent, end = tiny(name, **arguments), AtEnd()
        trainer(folder, epochs, callbacks=[end], **trained).fit(agent, ckpt_path=str(path))
        assert differences(straight, end.state) == [], path.parent.name


@as_users_run
@pytest.mark.medium
@each_agent
def test_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    check_resume(name, tmp_path)


@as_users_run
@each_agent
def test_resumes_where_the_last_batch_is_shorter(name: str, tmp_path: Path) -> None:
    """5 rounds in batches of 2, 2, 1: a resumed epoch must know which batch it is in."""
    data = tiny(name).data
    field = {"rollouts_per_batch": 2} if isinstance(data, Rollouts) else {"steps_per_batch": 30}
    if set(field) <= set(vars(data)):
        check_resume(name, tmp_path, epochs=1, data=field)


@as_users_run
@pytest.mark.medium
@each_recipe
def test_resumes_with_environments_in_processes(name: str, tmp_path: Path) -> None:
    check_resume(name, tmp_path, 1, env=replace(tiny(name).env, vectorization="async"))


@as_users_run
@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "env", "module"),
    [
        ("PPO", "LunarLander-v3", "Box2D"),
        ("DQN", "LunarLander-v3", "Box2D"),
        ("PPO", "HalfCheetah-v5", "mujoco"),
        ("SAC", "HalfCheetah-v5", "mujoco"),
    ],
)
def test_resumes_in_physics(name: str, env: str, module: str, tmp_path: Path) -> None:
    pytest.importorskip(module)
    check_resume(name, tmp_path, 1, env=Env(env, num_envs=2))


@each_pair
def test_loads_without_opening_an_environment(
    name: str, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = tiny(name, space)
    save = SaveAt(tmp_path)
    fitted(agent, tmp_path, callbacks=[save])
    monkeypatch.setattr(Env, "make_one", lambda self: pytest.fail("an environment was opened"))
    monkeypatch.setattr(Env, "open", lambda self, *_: pytest.fail("environments were opened"))
    loaded = lit_rl.load(save.paths[0])
    assert type(loaded) is type(agent) and (loaded.env_steps, loaded.updates) == (agent.env_steps, agent.updates)
    assert differences(dict(agent.state_dict()), dict(loaded.state_dict())) == []
    obs = batch_of_observations(agent, 5)
    agent.policy.refresh()
    for explore in (False, True):
        mine, theirs = act(agent, obs, 5, explore=explore), act(loaded, obs, 5, explore=explore)
        assert np.array_equal(mine.action, theirs.action) and np.array_equal(mine.log_prob, theirs.log_prob)
    plain = torch.load(save.paths[0], weights_only=True)
    assert plain["lit_rl"]["env_steps"] == agent.env_steps
    assert loaded.arguments().keys() == agent.arguments().keys()
    assert {k: v for k, v in loaded.arguments().items() if k != "env"} == {
        k: v for k, v in agent.arguments().items() if k != "env"
    }


@as_users_run
@each_agent
def test_runs_with_equal_seeds_are_equal_and_others_are_not(name: str, tmp_path: Path) -> None:
    states = []
    for seed in (5, 5, 6):
        seed_everything(seed, verbose=False)
        states.append(fitted(tiny(name), tmp_path))
    assert differences(states[0], states[1]) == []
    assert any(text.startswith(".weights") for text in differences(states[0], states[2])) == draws(name)


@as_users_run
@each_recipe
def test_a_test_run_leaves_nothing_to_resume(name: str, tmp_path: Path) -> None:
    """Testing a checkpoint and then training is a new training, not the checkpoint's."""
    save, agent = SaveAt(tmp_path), tiny(name)
    fitted(agent, tmp_path, callbacks=[save])
    other = tiny(name)
    trainer(tmp_path).test(other, ckpt_path=str(save.paths[0]), verbose=False)
    assert other._saved is None
    once = other.env_steps
    fitted(other, tmp_path)
    assert other.env_steps >= once + 80, "counters go on with the weights"


@each_agent
def test_another_space_is_refused(name: str) -> None:
    kind = getattr(lit_rl, name)
    for space in ENVS.keys() - set(kind.action_spaces):
        with pytest.raises(ValueError, match=f"{name} acts in"):
            tiny(name, space)


@as_users_run
@each_recipe
def test_an_agent_with_another_run_s_replay_beside_it(name: str, tmp_path: Path) -> None:
    """Two runs one after the other in one folder: what the second saves is its own, not what it finds."""
    states = []
    for seed in (1, 2):
        seed_everything(seed, verbose=False)
        agent = tiny(name)
        save = SaveAt(tmp_path, (0, 0))
        states.append(fitted(agent, tmp_path, callbacks=[save]))
    agent, end = tiny(name), AtEnd()
    trainer(tmp_path, callbacks=[end]).fit(agent, ckpt_path=str(save.paths[0]))
    assert differences(states[1], end.state) == []


def test_everything_notices_a_difference() -> None:
    """The comparison itself."""
    tree = {"a": [torch.zeros(2), 1.0, float("nan")], "b": (1, "x")}
    assert differences(tree, tree) == []
    for other in (
        {"a": [torch.zeros(2) + 1e-9, 1.0, float("nan")], "b": (1, "x")},
        {"a": [torch.zeros(2), 1.0, 0.0], "b": (1, "y")},
    ):
        assert differences(tree, other)
    assert callable(everything)
