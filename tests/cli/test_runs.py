"""Every command on runs of a few hundred steps, through the entry that the shell calls."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import yaml

from lit_rl.cli import main
from lit_rl.cli.configuration import expand
from lit_rl.cli.directory import RunDirectory
from lit_rl.cli.parsing import CommandLine
from lit_rl.cli.refusal import Refusal

ROOT = Path(__file__).parents[2]
TINY = [
    "--model=PPO", "--model.env=CartPole-v1", "--model.env.num_envs=2", "--model.data.steps=32",
    "--model.data.steps_per_epoch=128", "--model.evaluation.count=2", "--model.net.body.hidden=[8]",
    "--trainer.enable_progress_bar=false",
]  # fmt: skip


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def equal(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run("fit", *TINY, "--trainer.max_epochs=2", "--trainer.directory", folder) == 0
    return folder


def test_fit_leaves_a_complete_directory(trained: Path):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["class_path"].endswith("PPO")
    assert config["model"]["init_args"]["env"]["num_envs"] == 2
    assert config["trainer"]["directory"] == str(trained)
    assert (trained / "checkpoints" / "last.ckpt").is_file() and (trained / "checkpoints" / "best.ckpt").is_file()
    assert list(trained.glob("events.out.tfevents.*"))
    assert not list(trained.parent.glob("*.lock"))


def test_the_saved_config_repeats_the_run_and_takes_overrides(trained: Path, tmp_path: Path):
    config = trained / "config.yaml"
    assert run("fit", "--config", config, "--trainer.directory", tmp_path / "again") == 0
    assert equal(trained / "checkpoints/last.ckpt", tmp_path / "again/checkpoints/last.ckpt")
    other = tmp_path / "other"
    assert run("fit", "--config", config, "--trainer.directory", other, "--model.env.num_envs=4") == 0
    assert yaml.safe_load((other / "config.yaml").read_text())["model"]["init_args"]["env"]["num_envs"] == 4


def test_resume_equals_a_straight_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = ["--trainer.directory", tmp_path / "run"]
    assert run("fit", *TINY, "--trainer.max_epochs=1", *folder) == 0
    assert not equal(trained / "checkpoints/last.ckpt", tmp_path / "run/checkpoints/last.ckpt")
    assert run("fit", *TINY, "--trainer.max_epochs=2", *folder, "--ckpt_path", "last") == 0
    assert equal(trained / "checkpoints/last.ckpt", tmp_path / "run/checkpoints/last.ckpt")
    assert not (tmp_path / "run.1").exists()
    capsys.readouterr()
    assert run("fit", "--ckpt_path", "last", *folder) == 0
    assert "nothing to do: 256 of 256 env steps" in capsys.readouterr().err


def test_resume_needs_only_the_checkpoint(tmp_path: Path, trained: Path):
    folder = tmp_path / "run"
    assert run("fit", *TINY, "--trainer.max_epochs=1", "--trainer.directory", folder) == 0
    assert run("fit", "--ckpt_path", folder / "checkpoints/last.ckpt", "--trainer.max_epochs=2") == 0
    assert equal(trained / "checkpoints/last.ckpt", folder / "checkpoints/last.ckpt")


def test_the_checkpoints_arguments_win_and_are_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--trainer.directory", tmp_path / "fork", "--ckpt_path", trained / "checkpoints/last.ckpt"]
    assert run("fit", *TINY, "--model.gamma=0.5", "--model.data.steps=16", "--trainer.max_epochs=3", *words) == 0
    line = capsys.readouterr().err
    assert "gamma=0.99, not 0.5" in line and "data.steps=32, not 16" in line
    saved = yaml.safe_load((tmp_path / "fork/config.yaml").read_text())["model"]["init_args"]
    assert saved["gamma"] == 0.99
    assert (trained / "checkpoints/last.ckpt").is_file() and not (trained.parent / "run.1").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model=PPO", "--model.env=Acrobot-v1"], "this run is PPO on Acrobot-v1 (obs Box(6,), action Discrete(3))"),
        (["--model=DQN", "--model.env=CartPole-v1"], "this run is DQN on CartPole-v1"),
        (["--model=SAC", "--model.env=Pendulum-v1"], "this run is SAC on Pendulum-v1 (obs Box(3,), action Box(1,))"),
    ],
)
def test_another_algorithm_or_env_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
):
    checkpoint = trained / "checkpoints/last.ckpt"
    before = checkpoint.read_bytes()
    assert run("fit", *words, "--trainer.directory", tmp_path / "x", "--ckpt_path", checkpoint) == 2
    line = capsys.readouterr().err
    assert "checkpoint is PPO on CartPole-v1 (obs Box(4,), action Discrete(2))" in line and says in line
    assert checkpoint.read_bytes() == before and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: "-".join(path.parts[-2:])
)
def test_shipped_configs_are_complete(config: Path):
    line = CommandLine(expand(["--config", str(config)]), "fit", {})
    assert line.config.trainer.directory.startswith("runs/")
    assert line.agent().env.spaces is not None


@pytest.mark.parametrize("word", ["null", "None"])
def test_nothing_can_be_asked_for_on_the_command_line(word: str):
    """Also of an argument inside another, over a file that says otherwise."""
    config = ROOT / "configs/dqn/cartpole.yaml"
    words = [f"--config={config}", f"--model.optimizer.max_grad_norm={word}", f"--model.data.steps_per_round={word}"]
    agent = CommandLine(expand(words), "fit", {}).agent()
    assert agent.optimizer.max_grad_norm is None and agent.data.steps_per_round is None


def test_files_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    arguments = "env: CartPole-v1, data: {steps: 32, steps_per_epoch: 128}, evaluation: {count: 1}, gamma: 0.9"
    trainer = "trainer: {max_epochs: 1, directory: first, enable_progress_bar: false}"
    Path("a.yaml").write_text(f"model: {{class_path: PPO, init_args: {{{arguments}}}}}\n{trainer}\n")
    Path("b.yaml").write_text(
        "model: {init_args: {env: {num_envs: 3}, optimizer: {lr: {class_path: Linear,"
        " init_args: {start: 1e-3, end: 0.0, steps: 1000}}}, net: {body: {class_path: MLP, init_args: {hidden: [8]}}}"
        "}}\n"
        "trainer: {directory: second, callbacks: [{class_path: EvaluationVideo, init_args: {max_steps: 3}}]}\n"
    )
    words = ["--config", "a.yaml", "--config=b.yaml", "--model.data.steps", "16", "--model.clip", "0.1"]
    assert run("fit", *words) == 0
    assert not Path("first").exists()
    model = yaml.safe_load(Path("second/config.yaml").read_text())["model"]["init_args"]
    assert model["env"]["id"] == "CartPole-v1" and model["env"]["num_envs"] == 3
    assert (model["data"]["steps"], model["data"]["steps_per_epoch"], model["gamma"]) == (16, 128, 0.9)
    assert model["optimizer"]["lr"]["init_args"] == {"start": 0.001, "end": 0.0, "steps": 1000}
    assert list(Path("second/videos").glob("*.gif"))


def test_other_recipes_by_short_name(tmp_path: Path):
    words = ["--model.data", "Replay", "--model.data.warmup=50", "--model.data.steps_per_epoch=100"]
    words += ["--model.epsilon", "Exponential", "--model.epsilon.start=1", "--model.epsilon.end=0.1"]
    words += ["--model.epsilon.steps=100", "--model.evaluation.count=1", "--trainer.enable_progress_bar=false"]
    folder = tmp_path / "dqn"
    words += ["--trainer.max_epochs=1", "--trainer.directory", str(folder)]
    assert run("fit", "--model", "DQN", "--model.env", "CartPole-v1", *words) == 0
    saved = yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]
    assert saved["epsilon"]["init_args"]["end"] == 0.1 and saved["data"]["init_args"]["warmup"] == 50


def test_an_older_run_moves_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for expected in ([], ["run.1"], ["run.1", "run.2"]):
        assert run("fit", *TINY, "--trainer.max_epochs=1", "--trainer.directory", tmp_path / "run") == 0
        assert sorted(path.name for path in tmp_path.glob("run.*")) == expected
    assert "run.2" in capsys.readouterr().err
    assert (tmp_path / "run.1/checkpoints/last.ckpt").is_file()


def test_one_run_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    held = RunDirectory(tmp_path / "run", resume=False)
    (held.path / "mine").touch()
    assert run("fit", *TINY, "--trainer.directory", tmp_path / "run") == 2
    assert f"run is in use by pid {os.getpid()}" in capsys.readouterr().err
    held.release()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = tmp_path / ".run.lock"
    lock.write_text(f"{dead.pid} {os.uname().nodename}")
    RunDirectory(tmp_path / "run", resume=True).release()
    assert not lock.exists() and (tmp_path / "run/mine").exists()
    lock.write_text("1 another-host")
    with pytest.raises(Refusal, match="pid 1 on another-host"):
        RunDirectory(tmp_path / "run", resume=True)


def test_the_next_turn_of_a_job_takes_over_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lock = tmp_path / ".run.lock"
    lock.write_text("1 another-host 123")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    with pytest.raises(Refusal, match="pid 1 on another-host"):
        RunDirectory(tmp_path / "run", resume=True)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    held = RunDirectory(tmp_path / "run", resume=True)
    assert lock.read_text() == f"{os.getpid()} {os.uname().nodename} 123"
    held.release()
    lock.write_text("1 another-host 124")
    with pytest.raises(Refusal, match="pid 1 on another-host"):
        RunDirectory(tmp_path / "run", resume=True)


def test_a_refusal_at_the_last_moment_leaves_no_trace(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/older").touch()
    directory = RunDirectory(tmp_path / "run", resume=False)
    (directory.path / "config.yaml").touch()
    directory.abandon()
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "older"]


def test_validate_and_test(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    checkpoint = trained / "checkpoints/best.ckpt"
    assert run("validate", "--ckpt_path", checkpoint, "--episodes=3", "--env.num_envs=4") == 0
    assert "val/return" in capsys.readouterr().out
    assert run("test", "--config", trained / "config.yaml", "--ckpt_path", "best", "--episodes", "2", "--seed=7") == 0
    assert "test/return" in capsys.readouterr().out


def test_validation_repeats_what_training_saw(trained: Path, capsys: pytest.CaptureFixture[str]):
    returns = []
    for _ in range(2):
        assert run("validate", "--ckpt_path", "last", "--trainer.directory", trained) == 0
        returns.append(re.findall(r"val/return +│ +([\d.]+)", capsys.readouterr().out))
    assert returns[0] and returns[0] == returns[1]


def test_play_records(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    film = tmp_path / "films/episode.gif"
    checkpoint = trained / "checkpoints/last.ckpt"
    assert run("play", "--ckpt_path", checkpoint, "--record", film, "--episodes=2") == 0
    assert film.read_bytes().startswith(b"GIF89a")
    assert "mean" in capsys.readouterr().out
    assert run("play", "--ckpt_path", checkpoint, "--record", tmp_path / "film.avi") == 2


def test_play_without_a_screen(trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run("play", "--ckpt_path", trained / "checkpoints/last.ckpt", "--explore=true") == 0
    assert "--record" in capsys.readouterr().out


def test_predict_writes_a_data_set(trained: Path, tmp_path: Path):
    output = tmp_path / "data/set.npz"
    words = ["--ckpt_path", trained / "checkpoints/last.ckpt", "--output", output]
    assert run("predict", *words, "--episodes=3", "--seed=1") == 0
    data = np.load(output, allow_pickle=False)
    header = json.loads(str(data["header"]))
    assert (header["env"], header["algorithm"]) == ("CartPole-v1", "PPO")
    assert header["spaces"]["action"] == {"kind": "Discrete", "n": 2, "start": 0}
    rows = len(data["reward"])
    assert data["obs"].shape == data["next_obs"].shape == (rows, 4) and data["action"].shape == (rows,)
    within = data["episode"][1:] == data["episode"][:-1]
    np.testing.assert_array_equal(data["obs"][1:][within], data["next_obs"][:-1][within])
    over = data["terminated"] | data["truncated"]
    assert over.sum() == 3 and over[-1] and not over[:-1][within].any()
    first = np.flatnonzero(data["episode"] == 0)
    env = gymnasium.make("CartPole-v1").unwrapped
    env.reset()
    env.state = data["obs"][0].astype(np.float64)
    for row in first[:5]:  # the transitions are the environment's own
        np.testing.assert_allclose(env.step(int(data["action"][row]))[0], data["next_obs"][row], atol=1e-5)
    assert run("predict", *words[:2], "--output", tmp_path / "set.csv") == 2


def test_what_an_agent_predicts_is_a_demonstration(tmp_path: Path):
    """Value iteration plays, its trajectories become a file, and the reward behind them is found from that file."""
    grid = ["--model.env.id=lit_rl.envs.finite_mdp:lit_rl/Grid-v0", '--model.env.kwargs={"size": 3}']
    quiet = ["--trainer.enable_progress_bar=false", "--model.evaluation.count=20"]
    words = ["--model=ValueIteration", *grid, *quiet, "--model.data.steps_per_epoch=50"]
    assert run("fit", *words, "--trainer.max_epochs=1", f"--trainer.directory={tmp_path / 'expert'}") == 0
    file = tmp_path / "expert.npz"
    assert (
        run("predict", "--ckpt_path", tmp_path / "expert/checkpoints/last.ckpt", "--output", file, "--episodes=20") == 0
    )
    words = ["--model=MaxEntIRL", *grid, *quiet, f"--model.data.file={file}", "--model.data.horizon=8"]
    assert run("fit", *words, "--trainer.max_epochs=2", f"--trainer.directory={tmp_path / 'found'}") == 0
    found = torch.load(tmp_path / "found/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    reward = found["psi"].squeeze(-1)
    assert int(reward.argmax()) == 8, "the goal, in the last corner, is what the expert was after"
    other = ["--model.env.id=lit_rl.envs.finite_mdp:lit_rl/Chain-v0", f"--model.data.file={file}"]
    assert run("fit", "--model=MaxEntIRL", *other, f"--trainer.directory={tmp_path / 'other'}") != 0


def test_a_failing_run_names_its_last_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "brittle.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Brittle(CartPoleEnv):\n"
        "    left = 600\n"
        "    def step(self, action):\n"
        "        Brittle.left -= 1\n"
        "        if Brittle.left < 0:\n"
        "            raise OSError('the cable broke')\n"
        "        return super().step(action)\n"
        "gymnasium.register('Brittle-v0', Brittle, max_episode_steps=100)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("LIT_RL_TRACEBACK", raising=False)
    words = [*TINY, "--model.env=brittle:Brittle-v0", "--trainer.max_epochs=9", "--trainer.directory", tmp_path / "run"]
    assert run("fit", *words) == 2
    assert "'brittle'" in capsys.readouterr().err
    assert run("--allow", "brittle", "fit", *words) == 1
    line = capsys.readouterr().err
    assert "the cable broke" in line and "run/checkpoints/last.ckpt" in line and re.search(r"\(env step \d+\)", line)
    assert len(line.splitlines()) == 1


def test_list_is_quick_and_imports_no_torch():
    code = "import sys; from lit_rl.cli import main; main(['list']); main(['--help']); sys.exit('torch' in sys.modules)"
    begun = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert time.monotonic() - begun < 2.0
    assert result.returncode == 0, result.stderr
    for word in ("PPO", "DQN", "SAC", "configs/ppo/cartpole.yaml", "Discrete", "usage"):
        assert word in result.stdout


@pytest.mark.parametrize("command", ["fit", "play"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]):
    assert run(command, "--help") == 0
    assert "--ckpt_path" in capsys.readouterr().out


@pytest.mark.medium
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_and_say_how_to_go_on(tmp_path: Path, number: int, status: int):
    words = [*TINY[:-1], "--trainer.max_epochs=100000", "--trainer.directory", "run"]
    environment = {**os.environ, "JAXTYPING_DISABLE": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "lit_rl.cli", "fit", *words]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and "epoch 1" in process.stdout.readline()
        process.send_signal(number)
        out = process.communicate(timeout=60)[0]
    assert process.returncode == status
    assert re.search(r"^go on:   \S*lit-rl fit --ckpt_path run/checkpoints/last.ckpt$", out, re.MULTILINE)
    assert not (tmp_path / ".run.lock").exists()
