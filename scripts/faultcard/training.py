"""Numbers that are not finite, what guards cost, and processes that leave the others alone."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from scripts.faultcard.broken import FAULTY
from scripts.faultcard.environments import _faulty
from scripts.faultcard.harness import Figure, row
from scripts.faultcard.system import descendants, living

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("PPO", "DQN", "SAC")


def _not_finite(agent: Any) -> list[str]:
    """Names of weights and buffers, and columns of the replay, that hold what is not finite."""
    import numpy as np

    bounds = ("bounds",)  # may be infinite
    found = [name for name, value in agent.state_dict().items()
             if value.is_floating_point() and not name.endswith(bounds) and not value.isfinite().all()]  # fmt: skip
    memory = getattr(agent.experience, "memory", None) if agent.has_experience else None
    if memory is not None:
        rows = memory.read(np.arange(len(memory)))._asdict()
        found += [f"replay {name}" for name, value in rows.items() if hasattr(value, "isfinite") and
                  value.is_floating_point() and not value.isfinite().all()]  # fmt: skip
    return found


@row(32, "NaN and infinity in observations, rewards, losses, gradients, weights: none in replay, normaliser, weights "
     "or checkpoint; the run stops with the name", "found / cases", "0", kind="fault", bad=True)  # fmt: skip
def not_finite_numbers(folder: Path, repeats: int) -> Figure:
    import torch
    from lightning.pytorch import Callback

    import lit_rl
    from lit_rl.checkpoint import load_checkpoint
    from lit_rl.cli.parsing import quiet
    from tests.tiny import tiny

    def agent_of(name: str, env: Any) -> Any:
        body = lit_rl.MLP((8,), normalize=True)
        net = {"net": lit_rl.ActorCritic(body)} if name == "PPO" else {"net": body}
        return tiny(name, env=env, **net)

    quiet()

    class Look(Callback):
        def __init__(self) -> None:
            self.found: list[str] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.found = self.found or _not_finite(pl_module)

    def from_environment(name: str, kind: str) -> str | None:
        """Environments that lie are started anew; nothing of it may arrive."""
        env, look = _faulty(folder, kwargs={"kind": kind, "rate": 0.5}, num_envs=2), Look()
        agent = agent_of(name, env)
        trainer = lit_rl.Trainer(str(folder / "run"), 5, logger=False, enable_progress_bar=False, callbacks=[look])
        trainer.fit(agent)
        load_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")
        return f"{name}, {kind}: {look.found}" if look.found or agent.updates == 0 else None

    def from_learning(name: str, where: str, value: float) -> str | None:
        """The third epoch goes wrong; what the second left must be finite and the newest."""
        env = lit_rl.Env("Pendulum-v1" if name == "SAC" else "CartPole-v1", 2)
        agent, run = agent_of(name, env), folder / f"{name}-{where}-{value}"
        parameter, loss = next(agent.policy.parameters()), agent.loss

        class Ruin(Callback):
            def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
                if trainer.current_epoch < 2:
                    return
                if where == "loss":
                    agent.loss = lambda batch: {n: t * value for n, t in loss(batch).items()}
                elif where == "gradient":
                    for one in agent.parameters():
                        if one.requires_grad:
                            one.register_hook(lambda gradient: gradient * value)
                else:
                    parameter.data.flatten()[0] = value

        trainer = lit_rl.Trainer(str(run), 5, logger=False, enable_progress_bar=False, callbacks=[Ruin()])
        try:
            trainer.fit(agent)
        except FloatingPointError as error:
            kept = load_checkpoint(run / "checkpoints" / "last.ckpt")
            finite = all(v.isfinite().all() for n, v in kept["state_dict"].items() if not n.endswith("bounds"))
            named = {"loss": "loss term", "gradient": "gradient of", "weights": "weights"}[where] in str(error) or (
                where == "weights" and "loss term" in str(error)
            )
            if where != "weights" and _not_finite(agent):
                return f"{name}, {where} {value}: {_not_finite(agent)}"
            return None if finite and named and "\n" not in str(error) else f"{name}, {where} {value}: {error}"
        except Exception as error:
            named = where == "weights" and "the policy's weights are not finite" in str(error)
            return None if named else f"{name}, {where} {value}: {type(error).__name__}: {error}"
        return f"{name}, {where} {value}: went unnoticed"

    torch.manual_seed(0)
    lies = ("NaN observation", "infinite observation", "overflowing observation", "NaN reward", "overflowing reward")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = [from_environment(name, kind) for name in ("PPO", "DQN") for kind in lies]
        outcomes += [from_learning(name, where, value) for name in NAMES for where in ("loss", "gradient", "weights")
                     for value in (float("nan"), float("inf"))]  # fmt: skip
    return Figure.of(outcomes, "10 lying environments through training with on_error=restart, 18 ruined updates")


def _guards(seconds: float) -> tuple[float, float]:
    """What guards cost of stepping 8 CartPoles in turn with and without: microseconds a step, and percent."""
    import numpy as np

    import lit_rl
    from lit_rl.envs.episode import EpisodeEnv
    from lit_rl.envs.guards import Guard

    class Trusting(EpisodeEnv):
        def step(self, action: Any) -> Any:
            self.steps += 1
            obs, reward, terminated, truncated, _ = self.env.step(action)
            return obs, reward, terminated, truncated

    class NoGuard(Guard):
        def faults(self, obs: Any, rewards: Any, step: int) -> dict[int, str]:
            return {}

    recipe = lit_rl.Env("CartPole-v1", 8).with_spaces()
    actions = np.random.default_rng(0).integers(0, 2, (1200, 8))
    guarded, trusting = recipe.open(), recipe.open()
    trusting.guard = NoGuard(trusting.observation_space)  # type: ignore[attr-defined]
    for one in trusting.envs:  # type: ignore[attr-defined]
        one.__class__ = Trusting

    def step(env: Any, count: int) -> float:
        begun = time.process_time()
        for action in actions[:count]:
            env.step(action)
        return (time.process_time() - begun) / (8 * count)

    for env in (guarded, trusting):
        env.reset()
        step(env, 1200)  # bounds are compared at every one of the first 1,000
    end, times = time.monotonic() + seconds, list[tuple[float, float]]()
    while time.monotonic() < end or len(times) < 10:
        if len(times) % 2:
            times.append((step(guarded, 40), step(trusting, 40)))
        else:
            without = step(trusting, 40)
            times.append((step(guarded, 40), without))
    extra = float(np.median([with_them - without for with_them, without in times]))
    return 1e6 * extra, 100 * (float(np.median([with_them / without for with_them, without in times])) - 1)


def _training(folder: Path, steps: int = 30_720) -> float:
    """Microseconds of processor time that a step of training costs: PPO in the same 8 CartPoles."""
    import lit_rl

    env, data = lit_rl.Env("CartPole-v1", 8), lit_rl.Rollouts(steps=128, steps_per_epoch=steps)
    spent = []
    for number in range(3):
        agent = lit_rl.PPO(env=env, data=data, epochs=4, minibatch_size=256)
        trainer = lit_rl.Trainer(folder / str(number), 1, limit_val_batches=0, enable_progress_bar=False)
        begun = time.process_time()
        trainer.fit(agent)
        spent.append((time.process_time() - begun) / steps)
    return 1e6 * sorted(spent)[1]


@row(33, "what the guards on every step cost, of training's speed in the cheapest environment", "% steps/s", "< 2",
     limits={"% of training": 2.0}, quick=0, full=25)  # fmt: skip
def guard_cost(folder: Path, seconds: int) -> Figure:
    extra, share = _guards(seconds)
    training = _training(folder)
    note = (
        f"processor time, medians: {extra:.2f} µs of the {training:.0f} µs that a step of PPO takes in 8 CartPoles; "
        f"of stepping them alone, without policy and learning, {share:.1f} %"
    )
    return Figure(0, 0, {"% of training": 100 * extra / training, "% of bare steps": share}, note=note)


def _ranks(pid: int) -> dict[int, int]:
    """Process ids of the two ranks of a run, by rank."""
    found = {0: pid}
    for child in descendants(pid):
        try:
            if b"LOCAL_RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes() + b"\0":
                found.setdefault(1, child)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _lost_rank(folder: Path, fault: str, rank: int, silence: float) -> str | None:
    """Two ranks of the command line; one of them meets the fault, and then all must end well."""
    from lit_rl.checkpoint import CheckpointError, load_checkpoint

    where = folder / f"{fault}-{rank}"
    where.mkdir()
    watch = f"[{{class_path: lit_rl.callbacks.WatchRanks, init_args: {{timeout: {silence}}}}}]"
    words = ["--allow", "scripts", "fit", "--model", "PPO", "--model.env", FAULTY, "--model.env.num_envs", "2",
             "--model.env.kwargs", f"{{rate: {float(fault == 'raise')}, rank: {rank}, folder: {where}}}",
             "--model.data.steps", "32", "--model.data.steps_per_epoch", "256", "--model.evaluation.count", "1",
             "--model.evaluation.max_steps", "50", "--trainer.max_epochs", "100000", "--trainer.devices", "2",
             "--trainer.callbacks", watch, "--trainer.directory", str(where / "run")]  # fmt: skip
    log = where / "log"
    with log.open("w") as out:
        job = subprocess.Popen([sys.executable, "-m", "lit_rl.cli", *words], cwd=ROOT, stdout=out, stderr=out)
    last, started = where / "run" / "checkpoints" / "last.ckpt", list[int]()
    try:
        end = time.monotonic() + 240
        while not last.exists() and time.monotonic() < end and job.poll() is None:
            time.sleep(0.1)
        if not last.exists():
            return f"{fault}, rank {rank}: never began: {log.read_text()[-300:]}"
        time.sleep(1.0)
        before = load_checkpoint(last)["lit_rl"]["env_steps"]
        started, ranks, begun = [job.pid, *descendants(job.pid)], _ranks(job.pid), time.monotonic()
        if fault == "raise":
            (where / "go").touch()
        else:
            number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}[fault]
            os.kill(ranks[rank], number)
        try:
            status = job.wait(silence + 30)
        except subprocess.TimeoutExpired:
            return f"{fault}, rank {rank}: still there after {silence + 30:g} s: {log.read_text()[-300:]}"
        taken = time.monotonic() - begun
        while living(started) and time.monotonic() < begun + silence + 30:
            time.sleep(0.05)
        said, left = log.read_text(), living(started)
        try:
            kept = load_checkpoint(last)["lit_rl"]["env_steps"]
        except CheckpointError as error:
            return f"{fault}, rank {rank}: {error}"
        if left or kept < before:
            return f"{fault}, rank {rank}: {len(left)} processes left, step {kept} kept of {before}"
        allowed = {"terminate": (143,)}.get(fault, (1, -9) if rank == 0 else (1,))
        named = fault == "terminate" or f"rank {rank} (pid {ranks[rank]}" in said
        slow = taken > {"stop": silence, "terminate": 30.0}.get(fault, 5.0) + 10
        return None if status in allowed and named and not slow else (
            f"{fault}, rank {rank}: status {status} after {taken:.1f} s: {said[-400:]}")  # fmt: skip
    finally:
        for pid in {*living(started), *living([job.pid, *descendants(job.pid)])}:
            os.kill(pid, signal.SIGKILL)
        job.wait()


@row(39, "one of two ranks is killed, stopped, raises or gets SIGTERM: all end, the rank is named, the checkpoint is "
     "good", "n/n", kind="fault", quick=1, full=8)  # fmt: skip
def lost_ranks(folder: Path, cases: int) -> Figure:
    chosen = [(fault, rank) for fault in ("kill", "stop", "raise", "terminate") for rank in (1, 0)][:cases]
    outcomes = [_lost_rank(folder, fault, rank, silence=10.0) for fault, rank in chosen]
    return Figure.of(outcomes, "a rank that is silent counts as lost after 10 s here (60 s by default); within 10 s "
                     "more (15 s after a death, 40 s after SIGTERM, when all save) no process may be left")  # fmt: skip
