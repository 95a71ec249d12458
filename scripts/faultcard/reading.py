"""Checkpoints being read: damage, malice, other runs, missing parts, other versions."""

import atexit
import contextlib
import functools
import http.server
import io
import os
import random
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.faultcard import runs
from scripts.faultcard.harness import Figure, row


@functools.cache
def _trained(name: str) -> Path:
    """The directory of a finished run; rows work on copies."""
    home = Path(tempfile.mkdtemp(prefix="faults-run-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        assert runs.command(runs.words(name, home / "run", 1)) == 0
    return home / "run"


def _copy(name: str, folder: Path) -> Path:
    """A copy of a run, whose ``last.ckpt`` is to be harmed. ``good.ckpt`` lies beside it. Returns the former."""
    shutil.copytree(_trained(name), folder / "run")
    path = runs.last(folder / "run")
    (path.parent / "best.ckpt").unlink()
    shutil.copy(path, path.parent / "good.ckpt")
    return path


def _say(arguments: list[str]) -> tuple[int, str]:
    """Exit status of the command line and what it wrote to stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = runs.command(arguments)
    return code, said.getvalue()


def _refusal(arguments: list[str], *needed: str) -> str | None:
    """Nothing where the command line exits with 2 and one line in which all the words stand."""
    code, said = _say(arguments)
    line = said.strip()
    missing = [word for word in needed if word not in line]
    if code != 2 or missing or "\n" in line or "Traceback" in line or "weights_only=" in line:
        return f"exit status {code}, {missing} missing: {line[:300]}"
    return None


def _save_list(path: Path) -> None:
    """A sealed file of the wrong kind."""
    import torch

    from lit_rl.checkpoint import files

    manifest, files._manifest = files._manifest, lambda checkpoint: {"env_steps": 1, "replay": None}
    files.save_checkpoint([torch.ones(2)], path)  # type: ignore[arg-type]
    files._manifest = manifest


@row(18, "damaged file: refused with its name and the newest good one's", "n / n", kind="input", quick=25, full=25)
def damaged(folder: Path, cases: int) -> Figure:
    import torch

    from lit_rl.checkpoint import save_checkpoint

    path = _copy("PPO", folder)
    whole, good = path.read_bytes(), str(path.parent / "good.ckpt")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("holiday.jpg", b"x" * 1000)
    contents: list[bytes | Callable[[], Any]] = [whole[: len(whole) * k // 16] for k in range(16)]
    contents += [whole[:-100], whole[:-1], whole + b"x", random.Random(0).randbytes(5000), b"text\n", zipped.getvalue()]
    contents += [
        path.mkdir,
        lambda: _save_list(path),
        lambda: save_checkpoint({"weights": torch.ones(2)}, path),
    ]
    outcomes = []
    for content in contents:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        content() if callable(content) else path.write_bytes(content)
        outcomes.append(_refusal(["fit", "--ckpt_path", str(path)], str(path), good))
    return Figure.of(outcomes)


@row(19, "one flipped bit: detected before any state is applied", "n / n", kind="input", quick=16, full=200)
def flipped(folder: Path, flips: int) -> Figure:
    """In the file and in its replay, three to one."""
    import torch

    from lit_rl.checkpoint import CheckpointError, load_checkpoint
    from lit_rl.cli.saved import saved_agent

    path, chance = _copy("DQN", folder), random.Random(19)
    checkpoint = load_checkpoint(path)
    replay = sorted((path.parent / checkpoint["lit_rl"]["replay"]).rglob("*.*"))
    agent = saved_agent(checkpoint)
    before = {name: value.clone() for name, value in agent.state_dict().items()}

    def outcome(index: int) -> str | None:
        target = replay[index // 4 % len(replay)] if index % 4 == 3 else path
        whole = target.read_bytes()
        if not whole:
            return None
        harmed = bytearray(whole)
        place, bit = chance.randrange(len(whole)), chance.randrange(8)
        harmed[place] ^= 1 << bit
        target.write_bytes(harmed)
        try:
            runs.fit(agent, folder / "again", 2, path)
            return f"bit {bit} of byte {place} of {target.name} was not noticed"
        except CheckpointError as error:
            if not all(torch.equal(value, before[name]) for name, value in agent.state_dict().items()):
                return f"{target.name}: weights had moved when it was noticed"
            return None if "damaged" in str(error) or "manifest" in str(error) else str(error)
        finally:
            target.write_bytes(whole)

    return Figure.of(outcome(index) for index in range(flips))


class _Evil:
    """A pickle that leaves a flag when it is loaded."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.flag,))


@row(20, "hostile checkpoint: its code ran, or it was not refused", "count / payloads", "0", kind="input", bad=True,
     quick=13, full=13)  # fmt: skip
def hostile(folder: Path, payloads: int) -> Figure:
    """Each is given to `lit-rl fit` and to `lit_rl.load`; the attacker knows how to seal a file."""
    path = _copy("DQN", folder)
    flag = folder / "ran"
    good = path.read_bytes()
    outcomes = []
    for what, harm in _payloads(path, flag).items():
        path.write_bytes(good)
        with harm() as (target, environment):
            os.environ.update(environment)
            try:
                outcomes.append(_attack(what, target, flag))
            finally:
                for name in environment:
                    del os.environ[name]
        flag.unlink(missing_ok=True)
    return Figure.of(outcomes)


def _attack(what: str, target: str, flag: Path) -> str | None:
    import lit_rl

    code, said = _say(["fit", "--ckpt_path", target, "--trainer.max_epochs=2"])
    if flag.exists():
        return f"{what}: code ran"
    if code != 2:
        return f"{what}: exit status {code}: {said[:300]}"
    if what.startswith("replay"):
        return None  # weights alone are loaded without it
    try:
        lit_rl.load(target)
    except Exception:
        return f"{what}: code ran" if flag.exists() else None
    return f"{what}: was loaded"


def _payloads(path: Path, flag: Path) -> dict[str, Callable[[], Any]]:
    import torch

    from lit_rl.checkpoint import files, load_checkpoint, save_checkpoint

    def sealed(change: Callable[[dict[str, Any]], Any], **environment: str) -> Callable[[], Any]:
        @contextlib.contextmanager
        def harm() -> Any:
            checkpoint = load_checkpoint(path)
            change(checkpoint)
            check, files.check_plain = files.check_plain, lambda value: None  # the attacker's own writer
            save_checkpoint(checkpoint, path)
            files.check_plain = check
            yield str(path), environment

        return harm

    evil = _Evil(flag)
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(flag)]}}

    @contextlib.contextmanager
    def unsealed() -> Any:
        torch.save({"state_dict": evil}, path)
        yield str(path), {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}

    @contextlib.contextmanager
    def replay() -> Any:
        header = next(path.parent.glob("replay-*/rank0/header.json"))
        whole = header.read_bytes()
        torch.save({"arrays": evil}, header)
        yield str(path), {}
        header.write_bytes(whole)

    @contextlib.contextmanager
    def remote() -> Any:
        torch.save({"state_dict": evil}, path)
        handler = functools.partial(_Quiet, directory=str(path.parent))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}/{path.name}", {}
            server.shutdown()

    @contextlib.contextmanager
    def climbing() -> Any:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"../../{flag.name}", b"")
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
        yield str(path), {}

    return {
        "weights": sealed(lambda c: c["state_dict"].update(x=evil)),
        "callbacks": sealed(lambda c: c["callbacks"].update(x=evil)),
        "optimizer": sealed(lambda c: c["optimizer_states"].append(evil)),
        "forced": sealed(lambda c: c["lit_rl"].update(x=evil), TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"),
        "arguments": sealed(lambda c: c["hyper_parameters"].update(net=evil)),
        "class path": sealed(lambda c: c["hyper_parameters"].update(net=popen)),
        "agent's class": sealed(lambda c: c["hyper_parameters"].update(_class_path="os.system")),
        "instantiator": sealed(lambda c: c["hyper_parameters"].update(_instantiator="os.system", net=popen)),
        "replay header": replay,
        "replay elsewhere": sealed(lambda c: c["lit_rl"].update(replay="../../..")),
        "unsealed pickle": unsealed,
        "URL": remote,
        "names that climb": climbing,
    }


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@row(21, "files that load with weights_only=True", "n / files", kind="input", quick=1, full=2)
def plain(folder: Path, thorough: int) -> Figure:
    """Of every algorithm; torch alone reads them."""
    import torch

    from lit_rl.callbacks import SaveCheckpoint

    outcomes = []
    for name in runs.algorithms(few=thorough < 2):
        home = folder / name
        saver = SaveCheckpoint(str(home), every_env_steps=32)
        runs.fit(runs.tiny_agent(name), home, 1, None, saver, limit_val_batches=1.0)
        for path in home.glob("*.ckpt"):
            try:
                torch.load(path, map_location="cpu", weights_only=True)
                outcomes.append(None)
            except Exception as error:
                outcomes.append(f"{name}: {error}")
    return Figure.of(outcomes)


@row(22, "another algorithm, environment or space: refused, nothing touched", "n / n", kind="input", quick=12, full=12)
def other_kind(folder: Path, cases: int) -> Figure:
    import torch

    from lit_rl.checkpoint import CheckpointError

    pairs = [
        ("PPO", ["DQN", "CartPole-v1"]), ("PPO", ["PPO", "Acrobot-v1"]),
        ("DQN", ["PPO", "CartPole-v1"]), ("DQN", ["SAC", "Pendulum-v1"]),
        ("SAC", ["PPO", "Pendulum-v1"]), ("SAC", ["SAC", "MountainCarContinuous-v0"]),
    ]  # fmt: skip
    outcomes = []
    for source, (name, env) in pairs:
        path = runs.last(_trained(source))
        before = path.read_bytes()
        words = ["fit", f"--model={name}", f"--model.env={env}", f"--trainer.directory={folder / 'new'}"]
        outcome = _refusal(
            [*words, "--ckpt_path", str(path)], f"checkpoint is {source} on", f"this run is {name} on {env}"
        )
        touched = (folder / "new").exists() or path.read_bytes() != before
        outcomes.append(outcome or ("something was written" if touched else None))

        from lit_rl import Env

        agent = runs.tiny_agent(name, env=Env(env, num_envs=2))
        weights = {key: value.clone() for key, value in agent.state_dict().items()}
        try:
            runs.fit(agent, folder / "python", 1, path)
            outcomes.append(f"{name} on {env} went on from {source}")
        except CheckpointError as error:
            same = all(torch.equal(value, weights[key]) for key, value in agent.state_dict().items())
            outcomes.append(None if same and "this run is" in str(error) else f"{error}; weights as before: {same}")
    return Figure.of(outcomes)


@row(23, "missing or short part: refused by name; --weights_only_start begins anew", "n / n", kind="input",
     quick=10, full=10)  # fmt: skip
def missing_part(folder: Path, cases: int) -> Figure:
    from lit_rl.checkpoint import load_checkpoint, save_checkpoint

    path = _copy("DQN", folder)
    good = path.parent / "good.ckpt"

    def harmed(change: Callable[[dict[str, Any]], Any], *words: str) -> str | None:
        checkpoint = load_checkpoint(good)
        change(checkpoint)
        save_checkpoint(checkpoint, path)
        return _refusal(["fit", "--ckpt_path", str(path), "--trainer.max_epochs=2"], *words)

    first_weight = next(iter(load_checkpoint(good)["state_dict"]))
    outcomes = [
        harmed(lambda c: c.pop("optimizer_states"), str(path), "optimizer_states", str(good)),
        harmed(lambda c: c.update(optimizer_states=[]), str(path), "optimizer_states"),
        harmed(lambda c: c["optimizer_states"][0].update(state={}), str(path), "optimizer_states"),
        harmed(lambda c: c["lit_rl"]["ranks"][0].pop("random"), str(path), "ranks[0].random"),
        harmed(lambda c: c["lit_rl"]["ranks"][0]["random"].pop("numpy"), str(path), "random.numpy"),
        harmed(lambda c: c["state_dict"].pop(first_weight), str(path), first_weight),
        harmed(lambda c: c.pop("loops"), str(path), "loops"),
        harmed(lambda c: [c.pop(k) for k in ("optimizer_states", "loops", "callbacks", "lr_schedulers")], "loops"),
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        begin = ["fit", "--ckpt_path", str(path), "--trainer.max_epochs=1", "--weights_only_start", "true"]
        code, said = _say([*begin, f"--trainer.directory={folder / 'new'}"])
    new = load_checkpoint(runs.last(folder / "new"))["lit_rl"]["env_steps"] if code == 0 else 0
    outcomes.append(None if new == 160 else f"--weights_only_start: exit status {code}: {said}")
    for replay in path.parent.glob("replay-*"):
        shutil.rmtree(replay)
    outcomes.append(harmed(lambda c: None, "replay", "is missing"))
    return Figure.of(outcomes)


@row(24, "other versions: told, or refused where the format is newer", "n / n", kind="input", quick=5, full=5)
def versions(folder: Path, cases: int) -> Figure:
    import warnings

    from lit_rl import __version__
    from lit_rl.checkpoint import load_checkpoint, save_checkpoint

    path = _copy("PPO", folder)
    good = path.parent / "good.ckpt"

    def going_on(change: Callable[[dict[str, Any]], Any], *needed: str) -> str | None:
        checkpoint = load_checkpoint(good)
        change(checkpoint["lit_rl"])
        save_checkpoint(checkpoint, path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            code, said = _say(["fit", "--ckpt_path", str(path), "--trainer.max_epochs=2",
                               f"--trainer.directory={folder / 'next'}"])  # fmt: skip
        told = said + " ".join(str(warning.message) for warning in caught)
        missing = [word for word in needed if word not in told]
        return f"exit status {code}, {missing} not told: {told[-300:]}" if code or missing else None

    checkpoint = load_checkpoint(good)
    checkpoint["lit_rl"].update(format=99, version="9.0")
    save_checkpoint(checkpoint, path)
    outcomes = [
        _refusal(["fit", "--ckpt_path", str(path)], str(path), "lit_rl 9.0", "format 99", __version__),
        going_on(lambda ours: ours.update(version="0.0.9"), "lit_rl 0.0.9", f"here {__version__}"),
        going_on(lambda ours: ours.update(version="9.0"), "lit_rl 9.0", f"here {__version__}"),
        going_on(lambda ours: ours["versions"].update(torch="9.9.9", numpy="0.1"), "torch 9.9.9", "numpy 0.1"),
        _refusal(["fit", "--model=PPO", "--model.env=CartPole-v0", "--ckpt_path", str(good)], "CartPole-v0"),
    ]
    return Figure.of(outcomes)
