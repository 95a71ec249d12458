"""Worker processes that collect ahead: the same data side by side, weights seen at once, bounded lag, no orphans."""

import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from lit_rl import DQN, MLP, PPO, SAC, Agent, Env, Replay, Rollouts, Trainer
from lit_rl.data.episodes import Episodes
from lit_rl.data.experience import Rounds
from lit_rl.data.source import Source
from lit_rl.data.workers import side_by_side
from lit_rl.envs.vector import EnvError
from lit_rl.policies.actor_critic import ActorCritic
from tests.data.streams import SPACES, Stream

ROOT = Path(__file__).parent.parent
SHORT = Episodes(count=2, max_steps=50)
NET = ActorCritic(MLP((16,)))


class Slow(gymnasium.Wrapper):
    """A step that waits, as for a simulator on another machine, and may break."""

    def __init__(self, seconds: float = 0.0, breaks_after: int = 10**9) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.seconds, self.left = seconds, breaks_after

    def step(self, action: Any) -> Any:
        time.sleep(self.seconds)
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the simulator is gone")
        return super().step(action)


gymnasium.register("Slow-v0", entry_point=Slow)


class Watch:
    """Calls back after every round, and keeps the lags."""

    def __init__(self, agent: Agent, after: Any = None) -> None:
        self.lags: list[int] = []
        draw = Rounds.draw

        def watched(rounds: Rounds, batch_idx: int) -> Any:
            for round_ in draw(rounds, batch_idx):
                self.lags.append(agent.experience.source.lag)  # type: ignore[union-attr]
                yield round_
                if after is not None:
                    after(agent)

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(Rounds, "draw", watched)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: Any) -> None:
        self.patch.undo()


def fit(agent: Agent, folder: Path, epochs: int, ckpt_path: str | None = None) -> Trainer:
    trainer = Trainer(str(folder), max_epochs=epochs, logger=False, enable_progress_bar=False, log_every_n_steps=1)
    trainer.fit(agent, ckpt_path=ckpt_path)
    return trainer


def ppo(env: Env, workers: int, **changes: Any) -> PPO:
    data = Rollouts(steps=16, steps_per_epoch=128, workers=workers)
    return PPO(env, data, NET, epochs=2, minibatch_size=32, evaluation=SHORT, **changes)


@pytest.mark.parametrize("name", ["vector", "dict"])
def test_side_by_side_is_one_rollout_of_all(name: str) -> None:
    steps, envs = 5, (2, 1, 3)
    streams = [Stream(SPACES[name], n, seed, end=0.4) for seed, n in enumerate(envs)]
    shares = [stream.rollout(steps) for stream in streams]
    whole = side_by_side(shares)
    assert whole.reward.shape == (steps, sum(envs))
    # each end (t, n) of the whole, in time order, has the final observation of the share it came from
    assert list(whole.final_index) == sorted(whole.final_index) and len(whole.final_index) > 2
    done = np.asarray(whole.terminated) | np.asarray(whole.truncated)
    assert list(whole.final_index) == list(np.flatnonzero(done.reshape(-1)))
    first = 0
    for share, n in zip(shares, envs, strict=True):
        np.testing.assert_array_equal(whole.reward[:, first : first + n], share.reward)
        for place, index in enumerate(share.final_index):
            t, env = divmod(int(index), n)
            row = list(whole.final_index).index(t * sum(envs) + first + env)
            for a, b in zip(_leaves(whole.final_obs), _leaves(share.final_obs), strict=True):
                np.testing.assert_array_equal(a[row], b[place])
        first += n


def _leaves(obs: Any) -> list[Any]:
    return list(obs.values()) if isinstance(obs, dict) else [obs]


@pytest.mark.medium
def test_ppo_learns_with_two_workers_and_one_round_of_lag(tmp_path: Path) -> None:
    seed_everything(1, verbose=False)
    data = Rollouts(steps=32, steps_per_epoch=2560, workers=2)
    agent = PPO(Env("CartPole-v1", 8), data, epochs=4, minibatch_size=64, evaluation=Episodes(5))
    with Watch(agent) as watch:
        trainer = fit(agent, tmp_path, 8)
    assert agent.env_steps == 8 * 2560 and agent.updates == 80 * 16
    # One round's updates; fewer where the learner was quicker to begin than the workers, over all epochs.
    assert watch.lags[0] == 0 and all(8 <= lag <= 16 for lag in watch.lags[2:])
    assert 8 <= agent.metrics.latest["lag"] <= 16 and 0 < agent.metrics.latest["rho"] <= 1
    assert max(agent.metrics.latest["episode_return"], float(trainer.callback_metrics["val/return"])) >= 150
    assert multiprocessing.active_children() == []


@pytest.mark.medium
def test_optimiser_steps_are_seen_by_the_next_action(tmp_path: Path) -> None:
    agent = ppo(Env("CartPole-v1", 2), 2)
    logits = []

    def choose_left(agent: Agent) -> None:
        with torch.no_grad():
            agent.policy.head.weight.zero_()
            agent.policy.head.bias.copy_(torch.tensor([50.0, -50.0]))

    after = agent.minibatches

    def watched(data: Any) -> Any:
        logits.append(data.action.float().mean())
        return after(data)

    agent.minibatches = watched  # type: ignore[method-assign]
    with Watch(agent, choose_left):
        fit(agent, tmp_path, 2)
    assert 0.2 < logits[0] < 0.8  # at random
    assert set(map(float, logits[2:])) == {0.0}  # always to the left, one round later


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["dqn", "sac"])
def test_replay_with_workers_keeps_ratio_and_warmup(tmp_path: Path, kind: str) -> None:
    replay = Replay(2000, 8, replay_ratio=0.25, warmup=64, steps_per_round=16, n_step=3, steps_per_epoch=128, workers=2)

    def build() -> Agent:
        if kind == "dqn":
            return DQN(Env("CartPole-v1", 4), replay, MLP((16,)), epsilon=0.0, evaluation=SHORT)
        return SAC(Env("Pendulum-v1", 4), replay, MLP((16,)), evaluation=SHORT)

    agent = build()
    opening: list[np.ndarray] = []
    with Watch(agent, lambda agent: opening.append(agent.experience.memory.rows["log_prob"][:16].copy())) as watch:
        trainer = fit(agent, tmp_path, 2)
    assert agent.env_steps == 256 and agent.updates == (256 - 64) * 0.25
    assert max(watch.lags) == 16 * 0.25  # those of one round
    uniform = -np.log(2) if kind == "dqn" else -np.log(4)  # two actions; torques in [−2, 2]
    assert opening[-1] == pytest.approx(uniform)  # the warm-up of 64 steps: 16 of each environment
    # Resume: new episodes in the environments, and nothing leads from the old ones into them.
    going_on = build()
    rows: list[int] = []
    with Watch(going_on, lambda agent: rows.append(int(agent.experience.memory.rows["done"][63].sum()))):
        fit(going_on, tmp_path, 3, str(tmp_path / "checkpoints" / "last.ckpt"))
    assert going_on.env_steps == 384 and going_on.updates == (384 - 64) * 0.25
    assert rows[0] == 4  # the newest row of the checkpoint, cut in every environment
    assert trainer.current_epoch == 2 and multiprocessing.active_children() == []


def test_refusals(tmp_path: Path) -> None:
    for env, text in (
        (Env("CartPole-v1", 2, vectorization="async"), "may not start processes of its own"),
        (Env("CartPole-v1", 3), "workers is 2 and env.num_envs 3"),
    ):
        with pytest.raises(ValueError, match=text) as refusal:
            fit(ppo(env, 2), tmp_path, 1)
        assert "\n" not in str(refusal.value)


@pytest.mark.medium
def test_an_exception_leaves_no_process(tmp_path: Path) -> None:
    def fail(agent: Agent) -> None:
        assert len(multiprocessing.active_children()) == 2
        raise ZeroDivisionError

    agent = ppo(Env("CartPole-v1", 2), 2)
    with pytest.raises(ZeroDivisionError) as caught, Watch(agent, fail):
        fit(agent, tmp_path, 1)
    assert multiprocessing.active_children() == [] and caught.value is not None  # though the traceback lives
    broken = ppo(Env("Slow-v0", 2, kwargs={"breaks_after": 20}), 2)
    with pytest.raises(EnvError, match="the simulator is gone") as error:
        fit(broken, tmp_path, 1)
    assert "\n" not in str(error.value)
    assert multiprocessing.active_children() == []


ENDLESS = """
import sys
from pathlib import Path
from tests.test_workers import Env, Watch, fit, ppo
agent = ppo(Env("CartPole-v1", 2), 2)
with Watch(agent, lambda agent: print(agent.updates, flush=True)):
    fit(agent, Path(sys.argv[1]), 1_000_000)
print("ended in order", flush=True)
"""


@pytest.mark.medium
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_ends_them_in_order(tmp_path: Path, number: int) -> None:
    environment = os.environ | {"JAXTYPING_DISABLE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "40":
            assert process.poll() is None
        os.killpg(process.pid, number)  # as a terminal's Ctrl-C, or a scheduler
        rest = process.communicate(timeout=60)[0]
    assert "ended in order" in rest and "Traceback" not in rest
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.medium
def test_collecting_and_learning_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that wait 1 ms and a learner that waits 40 ms a round of 32: with a worker the data are there before."""
    waited: dict[int, list[float]] = {0: [], 1: []}
    collect = Source.collect

    def timed(source: Source, opening: bool = False) -> Any:
        start = time.perf_counter()
        rollout = collect(source, opening)
        waited[workers].append(time.perf_counter() - start)
        return rollout

    monkeypatch.setattr(Source, "collect", timed)
    for pair, workers in ((pair, workers) for pair in range(2) for workers in (0, 1)):
        data = Rollouts(steps=32, steps_per_epoch=320, workers=workers)
        env = Env("Slow-v0", kwargs={"seconds": 1e-3})
        agent = PPO(env, data, NET, epochs=1, minibatch_size=32, evaluation=Episodes(1, max_steps=1))
        with Watch(agent, lambda _: time.sleep(0.04)):
            fit(agent, tmp_path / f"{pair}-{workers}", 1)
    assert statistics.median(waited[0]) > 0.032  # 32 steps
    assert statistics.median(waited[1]) < 0.7 * statistics.median(waited[0])
