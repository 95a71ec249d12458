"""Whatever is wrong with a command line: exit status 2, one line that helps, nothing on disk."""

from pathlib import Path

import pytest

from lit_rl.cli import main

CARTPOLE = ["--model.env", "CartPole-v1"]
PPO = ["--model", "PPO", *CARTPOLE]
DQN = ["--model", "DQN", *CARTPOLE]
SAC = ["--model", "SAC", "--model.env", "Pendulum-v1"]

WORDS = {  # name: (words after fit, what the line must say)
    "nothing": ([], ["model"]),
    "no env": (["--model", "PPO"], ["model.env", "missing"]),
    "no model": (CARTPOLE, ["model"]),
    "algorithm": (["--model", "POP", *CARTPOLE], ["'POP'", "did you mean PPO"]),
    "algorithm in lower case": (["--model", "dqn", *CARTPOLE], ["did you mean DQN"]),
    "env id": (["--model", "PPO", "--model.env", "CartPol-v1"], ["CartPol-v1", "CartPole-v1"]),
    "env version": (["--model", "PPO", "--model.env", "CartPole-v7"], ["CartPole-v7", "CartPole-v1"]),
    "env module": (["--model", "PPO", "--model.env", "os:Foo-v0"], ["'os'"]),
    "num_envs": ([*PPO, "--model.env.num_envs", "0"], ["num_envs", "at least 1"]),
    "env kwargs": ([*PPO, "--model.env.kwargs", "{gravitty: 3}"], ["CartPole-v1", "gravitty"]),
    "wrapper": ([*PPO, "--model.env.wrappers", "[FlatenObservation]"], ["FlattenObservation"]),
    "vectorization": ([*PPO, "--model.env.vectorization", "parallel"], ["vectorization", "parallel", "async"]),
    "unknown argument of the model": ([*PPO, "--model.gama", "0.9"], ["'gama'", "did you mean gamma"]),
    "shortened argument": ([*PPO, "--model.gamm", "0.9"], ["gamm", "gamma"]),
    "unknown argument of the data": ([*PPO, "--model.data.stepps", "9"], ["stepps", "steps"]),
    "unknown argument of the trainer": ([*PPO, "--trainer.max_epoch", "3"], ["trainer.max_epochs"]),
    "unknown argument": ([*PPO, "--directory", "x"], ["--directory", "trainer.directory"]),
    "stray word": ([*PPO, "5"], ["5"]),
    "type of steps": ([*PPO, "--model.data.steps", "abc"], ["data.steps", "abc", "int"]),
    "type of lr": ([*PPO, "--model.optimizer.lr", "abc"], ["optimizer.lr", "abc"]),
    "type of gamma": ([*PPO, "--model.gamma", "high"], ["gamma", "high", "float"]),
    "type of max_epochs": ([*PPO, "--trainer.max_epochs", "1.5"], ["max_epochs", "1.5"]),
    "steps -5": ([*PPO, "--model.data.steps", "-5"], ["steps", "-5", "at least 1"]),
    "steps_per_epoch 0": ([*PPO, "--model.data.steps_per_epoch", "0"], ["steps_per_epoch", "at least 1"]),
    "lr -1": ([*PPO, "--model.optimizer.lr", "-1"], ["lr", "-1"]),
    "lr nan": ([*PPO, "--model.optimizer.lr", "nan"], ["lr", "nan"]),
    "gamma 1.5": ([*PPO, "--model.gamma", "1.5"], ["gamma", "1.5", "[0, 1]"]),
    "gamma nan": ([*PPO, "--model.gamma", "nan"], ["gamma", "nan"]),
    "lam -1": ([*PPO, "--model.lam", "-1"], ["lam", "-1"]),
    "epochs 0": ([*PPO, "--model.epochs", "0"], ["epochs", "0"]),
    "minibatch 0": ([*PPO, "--model.minibatch_size", "0"], ["minibatch_size", "0"]),
    "tau 0": ([*SAC, "--model.tau", "0"], ["tau", "(0, 1]"]),
    "batch 0": ([*DQN, "--model.data.batch_size", "0"], ["batch_size", "at least 1"]),
    "capacity 0": ([*DQN, "--model.data.capacity", "0"], ["capacity", "at least 1"]),
    "replay_ratio 0": ([*DQN, "--model.data.replay_ratio", "0"], ["replay_ratio", "positive"]),
    "schedule": ([*DQN, "--model.epsilon", "{class_path: Linear, init_args: {start: 1, end: 0, steps: 0}}"], ["steps"]),
    "unknown schedule": ([*DQN, "--model.epsilon", "Linnear"], ["Linnear", "did you mean Linear"]),
    "hidden -1": ([*DQN, "--model.net.hidden", "[64, -1]"], ["hidden", "-1"]),
    "max_grad_norm 0": ([*DQN, "--model.optimizer.max_grad_norm", "0"], ["max_grad_norm", "positive"]),
    "capacity beyond memory": ([*DQN, "--model.data.capacity", "1000000000000"], ["capacity"]),
    "episodes 0": ([*DQN, "--model.evaluation.count", "0"], ["count"]),
    "seed -1": ([*PPO, "--seed_everything", "-1"], ["seed_everything", "-1"]),
    "max_epochs -5": ([*PPO, "--trainer.max_epochs", "-5"], ["max_epochs"]),
    "accelerator": ([*PPO, "--trainer.accelerator", "abacus"], ["abacus"]),
    "PPO with a replay": ([*PPO, "--model.data", "Replay"], ["data", "Replay", "PPO wants Rollouts"]),
    "DQN with rollouts": ([*DQN, "--model.data", "Rollouts"], ["data", "Rollouts", "DQN wants Transitions"]),
    "SAC on discrete actions": (["--model", "SAC", *CARTPOLE], ["SAC", "Box", "Discrete(2)"]),
    "DQN on continuous actions": (["--model", "DQN", "--model.env", "Pendulum-v1"], ["DQN", "Discrete", "Box"]),
    "no such config": (["--config", "none.yaml"], ["none.yaml"]),
    "--config without a file": ([*PPO, "--config"], ["--config"]),
    "nothing to resume": ([*PPO, "--ckpt_path", "last"], ["nothing to resume", "runs/ppo-cartpole-v1"]),
    "last of what": (["--ckpt_path", "last"], ["which run"]),
    "no such checkpoint": ([*PPO, "--ckpt_path", "none.ckpt"], ["none.ckpt"]),
    "remote checkpoint": ([*PPO, "--ckpt_path", "http://127.0.0.1/x.ckpt"], ["download it first"]),
    "--allow nothing": (["--allow"], ["--allow"]),
    "--allow of a missing package": (["--allow", "no_such_package", *PPO], ["no_such_package"]),
}

HEAD = "model:\n  class_path: PPO\n  init_args:\n    env: CartPole-v1\n"
FILES = {  # name: (contents, what the line must say)
    "empty": ("", ["empty"]),
    "comment": ("# later\n", ["empty"]),
    "list": ("- 1\n- 2\n", ["list"]),
    "word": ("hello\n", ["str"]),
    "syntax": ("model: {class_path: PPO\n", ["line"]),
    "tag": ("model: !!python/object/apply:os.system ['touch pwned']\n", ["tags"]),
    "tag of a name": ("model: !!python/name:os.system\n", ["tags"]),
    "aliases": (
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n",
        ["aliases"],
    ),
    "10 MB": ("# " + "x" * 10_000_000, ["bytes"]),
    "bytes": (b"\xff\xfe\x00\x01", ["no text"]),
    "unknown section": (HEAD + "trainr: {max_epochs: 1}\n", ["trainr", "trainer"]),
    "unknown key": (HEAD + "trainer: {max_epoch: 1}\n", ["max_epoch", "max_epochs"]),
    "unknown key of the model": (HEAD + "    gama: 0.9\n", ["'gama'", "gamma"]),
    "unknown key of the data": (HEAD + "    data: {stepss: 0}\n", ["stepss", "steps"]),
    "unknown key of the env": (
        "model: {class_path: PPO, init_args: {env: {id: CartPole-v1, number: 3}}}\n",
        ["number"],
    ),
    "type": (HEAD + "    gamma: high\n", ["gamma", "high"]),
    "range": (HEAD + "    gamma: 2\n", ["gamma", "2"]),
    "pairing": (HEAD + "    data: {class_path: Replay}\n", ["data", "Replay"]),
    "unknown recipe": (HEAD + "    net: {body: {class_path: MPL}}\n", ["MPL", "MLP"]),
}

FOREIGN = {  # class paths outside the allowed packages, wherever they stand
    "model": ["--model", "subprocess.Popen"],
    "model.class_path": ["--model.class_path=subprocess.Popen", *CARTPOLE],
    "data": [*PPO, "--model.data", "{class_path: subprocess.Popen, init_args: {args: [touch, pwned]}}"],
    "data by name": [*DQN, "--model.data", "subprocess.Popen", "--model.data.args", "[touch, pwned]"],
    "net": [*DQN, "--model.net", "os.system"],
    "schedule": [*PPO, "--model.clip", "subprocess.Popen"],
    "logger": [*PPO, "--trainer.logger", "subprocess.Popen", "--trainer.logger.args", "[touch, pwned]"],
    "callback": [*PPO, "--trainer.callbacks+", "subprocess.Popen"],
    "callback as data": [*PPO, "--trainer.callbacks", "[{class_path: subprocess.Popen, init_args: {args: [ls]}}]"],
    "plugin": [*PPO, "--trainer.plugins", "{class_path: os.system, init_args: {command: touch pwned}}"],
    "strategy": [*PPO, "--trainer.strategy", "{class_path: subprocess.Popen, init_args: {args: [touch, pwned]}}"],
    "re-exported": [*PPO, "--trainer.callbacks+", "lit_rl.cli.os.system"],
    "callable": [
        *PPO,
        "--trainer.callbacks",
        "[{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {setup: os.system}}]",
    ],
}


def refused(words: list[str], capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    before = sorted(folder.rglob("*"))
    status = main(["fit", *words])
    out, err = capsys.readouterr()
    assert status == 2, err
    assert out == ""
    assert len(err.splitlines()) == 1 and err.startswith("lit-rl: ") and len(err) < 500, err
    assert "Traceback" not in err and "jsonargparse" not in err and "Namespace" not in err
    assert sorted(folder.rglob("*")) == before
    return err


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIT_RL_TRACEBACK", raising=False)


@pytest.mark.parametrize("name", WORDS)
def test_wrong_words(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    words, says = WORDS[name]
    line = refused(words, capsys, tmp_path)
    assert [part for part in says if part not in line] == [], line


@pytest.mark.parametrize("name", FILES)
def test_wrong_file(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    contents, says = FILES[name]
    file = tmp_path / "run.yaml"
    file.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    line = refused(["--config", str(file)], capsys, tmp_path)
    assert [part for part in says if part not in line] == [], line


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_class_paths(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    line = refused(FOREIGN[name], capsys, tmp_path)
    assert "--allow" in line, line


@pytest.mark.parametrize("name", ["logger", "callback as data", "callable"])
def test_foreign_class_paths_in_a_file(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    key, value = FOREIGN[name][4:6]
    value = f"{{class_path: {value}}}" if "class_path" not in value else value
    (tmp_path / "run.yaml").write_text(f"{HEAD}trainer:\n  {key.removeprefix('--trainer.')}: {value}\n")
    assert "--allow" in refused(["--config", "run.yaml"], capsys, tmp_path)


def test_unknown_command(capsys: pytest.CaptureFixture[str]):
    assert main(["fti"]) == 2
    assert "did you mean fit" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "test", "predict", "play", "export"])
def test_commands_that_need_a_checkpoint_say_so(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1 and "--ckpt_path" in err and out == ""
