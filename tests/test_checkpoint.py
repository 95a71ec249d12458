"""Checkpoints under kills, full disks, damage and malice. Damage is dealt to real files by real processes."""

import itertools
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.checkpoint import (
    AtomicCheckpointIO,
    CheckpointError,
    check_plain,
    copy_checkpoint,
    files,
    load_checkpoint,
    newest_good,
    read_arrays,
    read_manifest,
    remove_orphans,
    resolve_last,
    save_checkpoint,
    write_arrays,
)
from lit_rl.checkpoint.sealed import HashingWriter, seal_text


def state(steps: int, size: int = 1000, replay: str | None = None) -> dict:
    return {"weights": torch.full((size,), float(steps)), "lit_rl": {"env_steps": steps, "replay": replay}}


def fork(body: Callable[[], object]) -> int:
    """Run ``body`` in a forked child. Returns its pid at once."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            body()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return pid


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def temporaries(directory: Path) -> list[Path]:
    return list(directory.glob(".tmp.*"))


# ---- round trip ------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    saved = {
        "tensors": {"a": shared, "row": shared.view(2, 3)[1], "half": torch.ones(3, dtype=torch.bfloat16)},
        "plain": [None, True, 3, 2.5, "text", b"bytes", (1, 2), {3}, random.Random(0).getstate()],
        "generator": np.random.default_rng(0).bit_generator.state,
        "lit_rl": {"env_steps": 7, "replay": "replay-7"},
    }
    save_checkpoint(saved, tmp_path / "deep" / "a.ckpt")
    loaded = load_checkpoint(tmp_path / "deep" / "a.ckpt")
    assert loaded["plain"] == saved["plain"] and loaded["generator"] == saved["generator"]
    assert all(torch.equal(loaded["tensors"][key], saved["tensors"][key]) for key in saved["tensors"])
    loaded["tensors"]["a"][3] = -1.0  # views stay views
    assert loaded["tensors"]["row"][0] == -1.0
    manifest = read_manifest(tmp_path / "deep" / "a.ckpt")
    assert (manifest["env_steps"], manifest["replay"]) == (7, "replay-7")
    assert manifest["versions"]["torch"] == torch.__version__


def test_others_can_read_our_files(tmp_path: Path) -> None:
    save_checkpoint(state(5), tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["lit_rl"]["env_steps"] == 5


def limit_memory(extra: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra,) * 2)


def test_a_save_streams(tmp_path: Path) -> None:
    big = {"weights": torch.ones(50_000_000)}  # 200 MB, and then no room for a second copy

    def save() -> None:
        limit_memory(64 * 2**20)
        save_checkpoint(big, tmp_path / "a.ckpt")

    assert exit_code(fork(save)) == 0
    assert (tmp_path / "a.ckpt").stat().st_size > 2e8


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"hyper_parameters": {"env": Path("x")}}, "hyper_parameters.env"),
        ({"rng": [0, np.float64(1.0)]}, r"rng\[1\]: float64"),
        ({"replay": {"obs": (np.zeros(2),)}}, r"replay.obs\[0\]: ndarray"),
        ({"f": print}, "f: builtin"),
        ({"d": {Path("k"): 1}}, "a key of type"),
    ],
)
def test_objects_are_refused_by_name(tmp_path: Path, value: dict, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        save_checkpoint(value, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


def test_numpy_numbers_in_state_dict_are_found() -> None:
    check_plain({"a": 1.0})
    with pytest.raises(TypeError, match="float64"):
        check_plain({"a": np.float64(1.0)})


# ---- kills -----------------------------------------------------------------------------------------------------


def test_kill_9_at_any_moment_leaves_the_last_good_file(tmp_path: Path) -> None:
    path, done, chance = tmp_path / "last.ckpt", tmp_path / "done", random.Random(0)

    def save_for_ever() -> None:
        for steps in itertools.count(1):
            save_checkpoint(state(steps, size=2_000_000), path)
            done.write_text(str(steps))

    for _ in range(10):
        done.unlink(missing_ok=True)
        pid = fork(save_for_ever)
        while not done.exists() or not done.read_text():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL
        loaded = load_checkpoint(path)  # verifies every byte
        steps = loaded["lit_rl"]["env_steps"]
        assert steps - int(done.read_text() or steps) in (0, 1) and (loaded["weights"] == steps).all()
    save_checkpoint(state(1), tmp_path / "next.ckpt")
    assert temporaries(tmp_path) == []  # litter of the dead is gone with the next save


@pytest.mark.parametrize(("moment", "steps"), [("before", 1), ("after", 2), (100, 1), (2500, 1), (5000, 1)])
def test_death_at_chosen_instructions(tmp_path: Path, moment: str | int, steps: int) -> None:
    """Just before the rename, just after it, or when so many bytes are on the disk."""
    path = tmp_path / "last.ckpt"
    save_checkpoint(state(1), path)
    replace, pass_on = os.replace, HashingWriter._pass_on

    def replace_and_die(*arguments: Any) -> None:
        if moment == "after":
            replace(*arguments)
        os._exit(9)

    def write_and_die(self: HashingWriter, data: Any) -> None:
        pass_on(self, data)
        if isinstance(moment, int) and self.size >= moment:
            self.file.flush()
            os._exit(9)

    def save() -> None:
        os.replace, HashingWriter._pass_on = replace_and_die, write_and_die
        save_checkpoint(state(2), path)

    assert exit_code(fork(save)) == 9
    assert load_checkpoint(path)["lit_rl"]["env_steps"] == steps
    assert len(temporaries(tmp_path)) == (moment != "after")
    save_checkpoint(state(3), path)
    assert temporaries(tmp_path) == []


def test_temporaries_of_the_living_and_of_other_hosts_stay(tmp_path: Path) -> None:
    mine, other, old = (tmp_path / f".tmp.{name}.x" for name in (f"{files.platform.node()}.1", "else.999999", "old.1"))
    for path in (mine, other, old):
        path.write_text("")
    os.utime(old, (0, 0))
    save_checkpoint(state(1), tmp_path / "a.ckpt")
    assert set(temporaries(tmp_path)) == {mine, other}


# ---- the disk refuses ------------------------------------------------------------------------------------------


def refusal(path: Path, said: Path, prepare: Callable[[], None]) -> str:
    """What a save of 4 MB says in a process that ``prepare`` has restricted."""

    def save() -> None:
        with open(said, "w") as words:
            words.write("." * 4096)  # room that no limit can take away
            words.flush()
            prepare()
            try:
                save_checkpoint(state(2, size=1_000_000), path)
            except CheckpointError as error:
                os.pwrite(words.fileno(), f"{error}\n".encode(), 0)

    assert exit_code(fork(save)) == 0
    return said.read_text().split("\n")[0]


@pytest.mark.parametrize("limit", [5000, 1_000_000, 4_001_000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(state(1), path)
    text = refusal(path, tmp_path / "said", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert text.startswith("checkpoint not saved: file size limit reached (needs 4.0 MB, free ")
    assert text.endswith(f"last good: {path} (env step 1)")
    assert load_checkpoint(path)["lit_rl"]["env_steps"] == 1 and temporaries(tmp_path) == []


def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CheckpointError, match=r"not saved: no space left \(needs .* MB, free .*no good checkpoint yet"):
        save_checkpoint(state(1), tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_lies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(state(1), tmp_path / "a.ckpt")
    honest = HashingWriter.finish

    def finish(self: HashingWriter, text: bytes | None = None) -> None:
        honest(self, text)
        os.pwrite(self.file.fileno(), b"?", 200)

    monkeypatch.setattr(HashingWriter, "finish", finish)
    with pytest.raises(CheckpointError, match="what was read back differs"):
        save_checkpoint(state(2), tmp_path / "a.ckpt")
    assert load_checkpoint(tmp_path / "a.ckpt")["lit_rl"]["env_steps"] == 1


def test_read_only_directory(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to other users
        parent, directory = Path(name), Path(name) / "run"
        parent.chmod(0o755)
        save_checkpoint(state(1), directory / "last.ckpt")
        directory.chmod(0o555)

        def become_nobody() -> None:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)

        text = refusal(directory / "last.ckpt", tmp_path / "said", become_nobody)
        directory.chmod(0o755)
        good = directory / "last.ckpt"
        assert text == f"checkpoint not saved: {directory}: Permission denied; last good: {good} (env step 1)"
        assert load_checkpoint(directory / "last.ckpt")["lit_rl"]["env_steps"] == 1


# ---- damage ----------------------------------------------------------------------------------------------------


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    save_checkpoint(state(1), tmp_path / "good.ckpt")
    save_checkpoint(state(2, size=300), tmp_path / "last.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    chance = random.Random(1)
    places = [chance.randrange(len(whole)) for _ in range(50)] + list(range(len(whole) - 500, len(whole)))
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        (tmp_path / "last.ckpt").write_bytes(damaged)
        (tmp_path / "too.ckpt").write_bytes(damaged)  # a candidate that must not confuse the search
        with pytest.raises(CheckpointError, match=r"last.ckpt is damaged .*Newest good: .*good.ckpt \(env step 1\)"):
            load_checkpoint(tmp_path / "last.ckpt")


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    path, good = tmp_path / "last.ckpt", tmp_path / "good.ckpt"
    save_checkpoint(state(1), good)
    whole = good.read_bytes()
    cut = [whole[: len(whole) * k // 16] for k in range(16)] + [whole[:-1], whole[:-100], whole + b"x"]
    noise = [random.Random(k).randbytes(5000) for k in range(3)]
    for content in cut + noise:
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        message = str(caught.value)
        assert f"{path} is damaged (" in message and f"Resume with --ckpt_path {good}" in message
        assert "weights_only" not in message and "\n" not in message
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="carries no manifest: it was not written by lit_rl"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"none.ckpt cannot be read: No such file or directory. Newest good"):
        load_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        load_checkpoint(tmp_path)


def test_urls_are_refused() -> None:
    for url in ("http://127.0.0.1/a.ckpt", "s3://b/a.ckpt", "file:///a.ckpt", "HTTPS://x"):
        with pytest.raises(CheckpointError, match="remote checkpoints are not loaded; download it first"):
            AtomicCheckpointIO().load_checkpoint(url, weights_only=False)


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.flag,))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("section", ["state_dict", "callbacks", "hyper_parameters"])
def test_hostile_pickles_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool, section: str) -> None:
    """The seal is no secret, so the attacker seals too: only the restricted reader stands between."""
    if force:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr(files, "check_plain", lambda checkpoint: None)
    flag = tmp_path / "ran"
    save_checkpoint({section: {"x": Evil(flag)}, "lit_rl": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="is refused") as caught:
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not flag.exists() and "weights_only" not in str(caught.value)
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert flag.exists()  # the payload is a live one


# ---- which file ------------------------------------------------------------------------------------------------


def test_resolve_last(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing to resume in .*: no last\.ckpt"):
        resolve_last(tmp_path)
    save_checkpoint(state(9), tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=r"no last.ckpt; there is .*best.ckpt"):
        resolve_last(tmp_path)
    copy_checkpoint(tmp_path / "best.ckpt", tmp_path / "last.ckpt")
    assert resolve_last(tmp_path) == tmp_path / "last.ckpt"
    assert load_checkpoint(tmp_path / "last.ckpt")["lit_rl"]["env_steps"] == 9
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"last.ckpt is damaged. Newest good: .*best.ckpt \(env step 9\)"):
        resolve_last(tmp_path)


def test_newest_good_goes_by_env_steps(tmp_path: Path) -> None:
    assert newest_good(tmp_path) is None
    for name, steps in (("a", 30), ("b", 200), ("c", 100)):
        save_checkpoint(state(steps), tmp_path / f"{name}.ckpt")
    assert newest_good(tmp_path) == (tmp_path / "b.ckpt", 200)
    assert newest_good(tmp_path, other_than=tmp_path / "b.ckpt") == (tmp_path / "c.ckpt", 100)


def test_only_the_newest_replay_stays(tmp_path: Path) -> None:
    for steps, name in ((10, "best"), (20, "last"), (30, "mid")):
        write_arrays(tmp_path / f"replay-{steps}" / "rank0", {"a": np.zeros(3)}, {})
        save_checkpoint(state(steps, replay=f"replay-{steps}"), tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", (steps, steps))
    write_arrays(tmp_path / "replay-notes", {"a": np.zeros(3)}, {})
    remove_orphans(tmp_path)  # last.ckpt needs 20, the file written last 30
    assert sorted(path.name for path in tmp_path.glob("replay-*")) == ["replay-20", "replay-30", "replay-notes"]


def test_nothing_is_removed_when_the_last_file_cannot_say_what_it_needs(tmp_path: Path) -> None:
    write_arrays(tmp_path / "replay-10", {"a": np.zeros(3)}, {})
    save_checkpoint(state(10, replay="replay-10"), tmp_path / "a.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="no readable manifest"):
        remove_orphans(tmp_path)
    assert (tmp_path / "replay-10").is_dir()


# ---- arrays ----------------------------------------------------------------------------------------------------

ROW = np.dtype([("obs", "u1", (2, 3)), ("reward", "<f4"), ("nested", [("done", "?"), ("t", "<i8")])])


def arrays(tmp_path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = np.frombuffer(rng.integers(0, 2, 40 * ROW.itemsize, dtype=np.uint8).tobytes(), ROW)
    memmap = np.memmap(tmp_path / "map", np.float32, "w+", shape=(50, 4))
    memmap[:] = rng.normal(size=(50, 4))
    return {
        "rows": rows,
        "map": memmap,
        "strided": rng.normal(size=(6, 8, 4))[::2, :, ::-1],
        "fortran": np.asfortranarray(rng.normal(size=(5, 7))),
        "scalar": np.array(3, np.int16),
        "empty": np.zeros((0, 4)),
        "flags": rng.random(9) > 0.5,
    }


@pytest.mark.parametrize("chunk", [7, 2**24])
def test_arrays_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("lit_rl.checkpoint.arrays.CHUNK", chunk)
    given = arrays(tmp_path)
    write_arrays(tmp_path / "replay-1" / "rank0", given, {"pointer": 3})
    got, header = read_arrays(tmp_path / "replay-1" / "rank0")
    assert header == {"pointer": 3} and set(got) == set(given)
    into = {name: np.zeros(array.shape, array.dtype) for name, array in given.items()}
    some = {name: into[name] for name in ("rows", "map")}
    assert read_arrays(tmp_path / "replay-1" / "rank0", some)[0]["rows"] is into["rows"]
    read_arrays(tmp_path / "replay-1" / "rank0", into)
    for name, array in given.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        assert got[name].tobytes() == array.tobytes() == into[name].tobytes()


def test_damaged_arrays_touch_nothing(tmp_path: Path) -> None:
    given = {"a": np.arange(100), "b": np.arange(50.0)}
    folder = tmp_path / "replay-1"
    write_arrays(folder, given, {"pointer": 3})
    chance = random.Random(0)
    for name in ("a.bin", "b.bin", "header.json"):
        whole = (folder / name).read_bytes()
        variants = [whole[: len(whole) // 2], b""]
        for _ in range(20):
            flipped = bytearray(whole)
            flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
            variants.append(bytes(flipped))
        for content in variants:
            (folder / name).write_bytes(content)
            into = {key: np.zeros_like(array) for key, array in given.items()}
            with pytest.raises(CheckpointError, match=rf"is damaged \({name}"):
                read_arrays(folder, into)
            assert not any(array.any() for array in into.values())
        (folder / name).write_bytes(whole)
    (folder / "a.bin").unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read: No such file.*a.bin"):
        read_arrays(folder)


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    write_arrays(tmp_path / "r", {"a": np.zeros((3, 2), np.float32)}, {})
    with pytest.raises(CheckpointError, match=r"a is float32\(3, 2\); this run has float32\(4, 2\)"):
        read_arrays(tmp_path / "r", {"a": np.zeros((4, 2), np.float32)})
    with pytest.raises(CheckpointError, match=r"holds \['a'\]; this run needs \['b'\]"):
        read_arrays(tmp_path / "r", {"b": np.zeros((3, 2), np.float32)})
    with pytest.raises(CheckpointError, match="exists already"):
        write_arrays(tmp_path / "r", {}, {})
    with pytest.raises(CheckpointError, match="holds Python objects"):
        write_arrays(tmp_path / "s", {"a": np.array([None])}, {})
    for name in ("../a", "", "a/b", ".a"):
        with pytest.raises(CheckpointError, match="is no name"):
            write_arrays(tmp_path / "s", {name: np.zeros(1)}, {})
    assert not (tmp_path / "s").exists()


def test_names_in_a_header_do_not_climb(tmp_path: Path) -> None:
    write_arrays(tmp_path / "r", {"a": np.zeros(1)}, {})
    path = tmp_path / "r" / "header.json"
    content = json.loads(path.read_text())
    content["arrays"] = {"../secret": content["arrays"]["a"]}
    del content["sha256"]
    with open(path, "wb") as file:
        HashingWriter(file).finish(seal_text(content))
    with pytest.raises(CheckpointError, match="is no name of an array"):
        read_arrays(tmp_path / "r")


def test_large_arrays_stream(tmp_path: Path) -> None:
    """A memory map of 200 MB passes through a process whose address space could not hold a copy."""
    source = np.memmap(tmp_path / "map", np.uint8, "w+", shape=(200_000_000,))
    source[::1000] = 7
    source.flush()
    target = np.memmap(tmp_path / "copy", np.uint8, "w+", shape=source.shape)

    def there_and_back() -> None:
        limit_memory(64 * 2**20)
        write_arrays(tmp_path / "replay-1", {"obs": source}, {})
        read_arrays(tmp_path / "replay-1", {"obs": target})

    assert exit_code(fork(there_and_back)) == 0
    assert np.array_equal(source[::1000], target[::1000]) and target[0] == 7
