"""Environments that raise, die, hang, lie, or never end."""

import os
import re
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.faultcard.broken import FAULTY, WRONG
from scripts.faultcard.harness import Figure, row

NAMED = re.compile(r"env (\d+) \(scripts\.faultcard\.broken:Faulty-v0\) .* at step [\d,]+ of its episode \d+")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """The warnings, each time that they are given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        texts: list[str] = []
        yield texts
        texts += [str(warning.message) for warning in caught]


def _faulty(folder: Path, **changes: Any) -> Any:
    import lit_rl

    lit_rl.allow("scripts")
    kwargs = {"folder": str(folder)} | changes.pop("kwargs")
    settings = {"num_envs": 4, "on_error": "restart", "max_restarts": 1000} | changes
    return lit_rl.Env(FAULTY, kwargs=kwargs, **settings)


def _survives(folder: Path, kind: str, vectorization: str, faults: int) -> list[str | None]:
    """Step until so many faults were dealt; each must end its own episode as truncated, and touch nothing else."""
    import numpy as np

    env = _faulty(folder, kwargs={"kind": kind, "rate": 0.3}, vectorization=vectorization).open(seed=faults)
    outcomes: list[str | None] = []
    rng = np.random.default_rng(0)
    begins = kind == "reset"  # then the episode before it ended well
    try:
        with _heard() as texts:
            before = env.reset()
        outcomes += [None if NAMED.search(text) else f"{kind}: says only {text!r}" for text in texts]
        while len(outcomes) < faults:
            restarts = env.restarts
            with _heard() as texts:
                step = env.step(rng.integers(0, 2, 4))
            new = env.restarts - restarts
            broken = {int(found[1]) for text in texts if (found := NAMED.search(text))}
            well = bool(np.isfinite(step.obs).all() and np.isfinite(step.reward).all())
            if not begins and broken:
                ended = np.flatnonzero(step.terminated | step.truncated).tolist()
                finals = {index: step.final_obs[place] for place, index in enumerate(ended)}
                well = well and all(
                    step.truncated[index] and not step.terminated[index] and step.reward[index] == 0.0
                    and np.array_equal(finals[index], before[index])
                    for index in broken
                )  # fmt: skip
            for text in texts:
                said = NAMED.search(text) or (kind == "init" and "could not be opened" in text)
                outcomes.append(None if said and well and new == len(texts) else f"{kind}, {vectorization}: {text}")
            before = step.obs
    finally:
        env.close()
    return outcomes[:faults]


def _gives_up(folder: Path, kind: str, vectorization: str) -> str | None:
    """An environment that always fails must not be started anew for ever."""
    import numpy as np

    from lit_rl.envs.vector import EnvError

    recipe = _faulty(folder, kwargs={"kind": kind, "rate": 1.0, "latest": 1}, vectorization=vectorization)
    env = recipe.replace(num_envs=1, max_restarts=10).open()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env.reset()
            for _ in range(50):
                env.step(np.zeros(1, np.int64))
    except EnvError as error:
        return None if "restart 11 within 1,000 steps" in str(error) else str(error)
    finally:
        env.close()
    return f"{kind}, {vectorization}: started anew {env.restarts} times and still going"


@row(28, "an environment raises in step, reset, its constructor or close: it is named, started anew, and only its "
     "episode ends; one that always fails ends the run", "n/n", kind="fault", quick=20, full=100)  # fmt: skip
def raising_environments(folder: Path, faults: int) -> Figure:
    pairs = [(kind, how) for kind in ("raise", "reset", "init", "close") for how in ("sync", "async")]
    share = -(-(faults - 4) // len(pairs))
    outcomes = [text for kind, how in pairs for text in _survives(folder, kind, how, share)]
    outcomes += [_gives_up(folder, kind, how) for kind in ("raise", "reset") for how in ("sync", "async")]
    return Figure.of(outcomes, "step, reset, constructor, close; sync and async; 4 cases of an environment that always "
                     "fails")  # fmt: skip


def _lost_process(folder: Path, how: str, timeout: float, repeats: int) -> tuple[list[str | None], list[float]]:
    """Kill or stop a process that steps an environment; seconds until the next step had dealt with it."""
    import numpy as np

    from lit_rl.envs.vector import EnvError

    recipe = _faulty(folder, kwargs={"rate": 0.0}, vectorization="async", step_timeout=timeout)
    words = "died (exit code -9)" if how == "kill" else f"hung: no answer for {timeout:g} s"
    rng, outcomes, seconds = np.random.default_rng(0), list[str | None](), list[float]()
    env = recipe.open()
    env.reset()
    try:
        for _ in range(repeats):
            for _ in range(int(rng.integers(1, 20))):
                env.step(rng.integers(0, 2, 4))
            index = int(rng.integers(4))
            os.kill(env.processes[index].pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
            begun = time.monotonic()
            with _heard() as texts:
                step = env.step(rng.integers(0, 2, 4))
            seconds.append(time.monotonic() - begun)
            named = len(texts) == 1 and f"env {index} (" in texts[0] and words in texts[0]
            fine = named and step.truncated[index] and not step.terminated[index] and np.isfinite(step.obs).all()
            env.step(rng.integers(0, 2, 4))
            outcomes.append(None if fine else f"{how}: {texts}")
    finally:
        env.close()
    one = recipe.replace(on_error="raise", num_envs=2).open()
    one.reset()
    os.kill(one.processes[1].pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    try:
        one.step(np.zeros(2, np.int64))
        outcomes.append(f"{how}: on_error=raise raised nothing")
    except EnvError as error:
        outcomes.append(None if f"env 1 ({FAULTY}) {words}" in str(error) else str(error))
    finally:
        one.close()
    return outcomes, seconds


def _in_step(folder: Path, kind: str, words: str, repeats: int) -> list[str | None]:
    """A step that ends its process, or never returns."""
    import numpy as np

    recipe = _faulty(folder, kwargs={"kind": kind, "rate": 0.5}, vectorization="async", step_timeout=0.5)
    env = recipe.replace(num_envs=2).open()
    outcomes: list[str | None] = []
    env.reset()
    try:
        while len(outcomes) < repeats:
            begun = time.monotonic()
            with _heard() as texts:
                env.step(np.zeros(2, np.int64))
            late = time.monotonic() - begun > 3.0
            outcomes += [None if words in text and NAMED.search(text) and not late else text for text in texts]
    finally:
        env.close()
    return outcomes[:repeats]


@row(29, "the process of an environment is killed: noticed, named and replaced by the next step", "n/n; s",
     "all; p99 < 1 s", kind="fault", limits={"p99 s": 1.0}, quick=8, full=50)  # fmt: skip
def killed_processes(folder: Path, kills: int) -> Figure:
    outcomes, seconds = _lost_process(folder, "kill", 30.0, kills - 3)
    outcomes += _in_step(folder, "exit", "died (exit code 7)", 2)
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return Figure.of(outcomes, "by kill -9 between steps, by os._exit in a step", **{"p50 s": p50, "p99 s": p99})


@row(30, "the process of an environment hangs (SIGSTOP, a step without end): killed and replaced at its timeout",
     "n/n", kind="fault", quick=4, full=12)  # fmt: skip
def hung_processes(folder: Path, hangs: int) -> Figure:
    outcomes, seconds = _lost_process(folder, "stop", 0.5, hangs - 3)
    outcomes += _in_step(folder, "hang", "hung: no answer for 0.5 s", 2)
    return Figure.of(outcomes, "timeout 0.5 s; seconds until the step returned", **{"slowest s": max(seconds)})


@row(31, "a step returns NaN, infinity, a wrong shape, dtype, type or number of values: named with its place", "n/n",
     kind="input", quick=1, full=1)  # fmt: skip
def wrong_values(folder: Path, repeats: int) -> Figure:
    import numpy as np

    from lit_rl.envs.vector import EnvError

    def caught(kind: str, how: str) -> str | None:
        recipe = _faulty(folder, kwargs={"kind": kind, "rate": 0.3, "latest": 4}, vectorization=how, on_error="raise")
        env = recipe.open(first_index=4)
        try:
            env.reset()
            for _ in range(200):
                env.step(np.zeros(4, np.int64))
        except EnvError as error:
            said = NAMED.search(str(error))
            return None if said and int(said[1]) >= 4 and "\n" not in str(error) else f"{kind}: {error}"
        finally:
            env.close()
        return f"{kind}, {how}: went unnoticed"

    outcomes = [caught(kind, how) for kind in WRONG for how in ("sync", "async")]
    return Figure.of(outcomes, f"{len(WRONG)} ways to be wrong, sync and async")


def _stream(script: Any, steps: int) -> list[tuple[tuple[int, int], float, tuple[int, int], bool, bool]]:
    """State, reward, true next state, terminated, truncated: what tests/envs/scripted.py says, worked out by hand."""
    found, episode = list[Any](), 0
    while len(found) < steps:
        length, terminated, truncated = script[min(episode, len(script) - 1)]
        for k in range(1, min(length, steps) + 1):
            over = k == length
            found.append(((episode, k - 1), 10.0 * episode + k, (episode, k), over and terminated, over and truncated))
        episode += 1
    return found[:steps]


SCRIPTS = {
    "terminated": ((4, True, False),),
    "truncated": ((4, False, True),),
    "both at once": ((4, True, True),),
    "of one step": ((1, True, False),),
    "of one step, cut": ((1, False, True),),
    "in turn": ((3, True, False), (2, False, True), (5, True, False), (1, False, True)),
    "as long as a rollout": ((7, True, False),),
    "cut where a rollout ends": ((7, False, True),),
    "longer than a rollout": ((11, False, True), (9, True, False)),
    "without end": ((10**9, True, False),),
}


@row(35, "returns, n-step targets and advantages across ends, cuts, rollouts and the ring's seam, against hand-worked "
     "ones", "n/n", quick=1, full=1)  # fmt: skip
def worked_returns(folder: Path, repeats: int) -> Figure:
    import numpy as np
    import torch

    import lit_rl
    from lit_rl.algorithms.policy_gradient.minibatches import advantages_and_targets
    from lit_rl.data.collector import Collector, as_tensors
    from lit_rl.data.memory import ReplayMemory
    from tests.envs.scripted import register

    register()
    gamma, length, rounds = 0.9, 7, 5

    def value(state: tuple[int, int]) -> float:
        return 0.5 * state[0] - 0.25 * state[1]

    def n_step(name: str, n: int) -> str | None:
        """Rows of a memory of 16 steps after 5 rollouts of 7, against a loop over the stream."""
        env = lit_rl.Env("Scripted-v0", kwargs={"script": SCRIPTS[name]}).with_spaces()
        agent = lit_rl.PPO(env)
        collector = Collector(env.open(), agent.policy, [0])
        memory = ReplayMemory(16, 1, env.observation_space, env.action_space, gamma, n)
        written = [memory.add(collector.collect(length)) for _ in range(rounds)]
        collector.close()
        stream = _stream(SCRIPTS[name], length * rounds)
        place = {int(row_): at for at, row_ in enumerate(np.concatenate(written))}  # of the newest in each row
        for index, at in sorted(place.items()):
            total, factor, last = 0.0, 1.0, at
            for k in range(n):
                if at + k >= len(stream):
                    break
                last = at + k
                total += factor * stream[last][1]
                factor *= gamma
                if stream[last][3] or stream[last][4]:
                    break
            factor = 0.0 if stream[last][3] else factor
            got = memory.read(np.array([index]))
            right = (abs(float(got.reward) - total) < 1e-4 and abs(float(got.discount) - factor) < 1e-6
                     and got.next_obs[0, :2].tolist() == list(stream[last][2])
                     and got.obs[0, :2].tolist() == list(stream[at][0]))  # fmt: skip
            if not right:
                return f"episodes {name}, {n} steps from {at}: {got} instead of {total}, {factor}, {stream[last][2]}"
        return None

    def advantages(name: str, lam: float) -> str | None:
        """Of PPO on two rollouts, with a value function that is known."""
        env = lit_rl.Env("Scripted-v0", kwargs={"script": SCRIPTS[name]}).with_spaces()
        agent = lit_rl.PPO(env, gamma=gamma, lam=lam)
        known = lambda obs: 0.5 * obs[..., 0] - 0.25 * obs[..., 1]  # noqa: E731
        outputs = agent.networks.forward
        agent.networks.value = known
        agent.networks.forward = lambda obs: (outputs(obs)[0], known(obs))
        collector, stream = Collector(env.open(), agent.policy, [0]), _stream(SCRIPTS[name], 2 * length)
        for first in (0, length):
            rollout = as_tensors(collector.collect(length))
            with torch.no_grad():
                got, _ = advantages_and_targets(agent, rollout, agent.networks.evaluate(rollout))
            expected, following = [0.0] * length, 0.0
            for t in reversed(range(length)):
                state, reward, successor, terminated, truncated = stream[first + t]
                delta = reward + (0.0 if terminated else gamma * value(successor)) - value(state)
                following = delta + (0.0 if terminated or truncated else gamma * lam * following)
                expected[t] = following
            if not np.allclose(got[:, 0], expected, atol=1e-4):
                return f"episodes {name}, λ {lam}: {got[:, 0].tolist()} instead of {expected}"
        collector.close()
        return None

    outcomes = [n_step(name, n) for name in SCRIPTS for n in (1, 2, 5)]
    outcomes += [advantages(name, lam) for name in SCRIPTS for lam in (0.0, 0.9, 1.0)]
    return Figure.of(outcomes, f"{len(SCRIPTS)} kinds of episode; n of 1, 2, 5 from a ring of 16; λ of 0, 0.9, 1")


@row(36, "episodes of one step, without end, or none finished: statistics, evaluation and learning go on", "n/n",
     kind="fault", quick=1, full=1)  # fmt: skip
def odd_episodes(folder: Path, repeats: int) -> Figure:
    import math

    import numpy as np

    import lit_rl
    from lit_rl.cli.parsing import quiet
    from lit_rl.envs import episodic
    from tests.envs.scripted import register
    from tests.tiny import tiny

    register()
    quiet()
    odd = {"one step": (1, True, False), "one step, cut": (1, False, True), "without end": (10**9, True, False)}

    def learns(name: str, kind: str) -> str | None:
        env = lit_rl.Env("Scripted-v0", 2, {"script": (odd[kind],)})
        agent = tiny(name, env=env)
        trainer = lit_rl.Trainer(str(folder / "run"), 1, logger=False, enable_progress_bar=False)
        trainer.fit(agent)
        value = float(trainer.callback_metrics["val/return"])
        lengths = agent.metrics.latest.get("episode_length")
        finite = all(parameter.isfinite().all() for parameter in agent.parameters())
        right = math.isfinite(value) and finite and agent.updates > 0 and lengths == (None if "end" in kind else 1.0)
        return None if right else f"{name}, {kind}: return {value}, length {lengths}, {agent.updates} updates"

    def evaluated(max_steps: int) -> str | None:
        env = lit_rl.Env("Scripted-v0", 2, {"script": (odd["without end"],)}).with_spaces()
        results = lit_rl.Episodes(3, max_steps=max_steps).open(env, lit_rl.PPO(env).policy).play()
        return None if results.lengths.tolist() == [max_steps] * 3 else f"lengths {results.lengths.tolist()}"

    def warned(how: str) -> str | None:
        env = lit_rl.Env("Scripted-v0", 2, {"script": (odd["without end"],)}, vectorization=how).open()
        env.reset()
        action = np.zeros(2, np.int64)
        with _heard() as texts:
            for _ in range(2 * episodic.ENDLESS if how == "sync" else episodic.ENDLESS):
                env.step(action)
        env.close()
        return None if len(texts) == 1 and "without an end of its episode" in texts[0] else f"{how}: {texts}"

    outcomes = [learns(name, kind) for name in ("PPO", "DQN") for kind in odd]
    outcomes += [evaluated(1), evaluated(50), warned("sync")]
    return Figure.of(
        outcomes, "PPO and DQN on three kinds; evaluation cut at 1 and 50 steps; a warning after 30,000 steps"
    )
