"""The report: scores from event files, verdicts, runs that skip, resume and fail, and a page from whatever is there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl.planning.pendulum import pendulum_optimum
from scripts import report
from scripts.reporting import outcomes, page, regret
from scripts.reporting.curves import Crossing, Curve, crossing, read_curve, scores
from scripts.reporting.plots import band
from scripts.reporting.runs import ROOT, Run, Runner
from scripts.reporting.tasks import Requirement, Task, choose, environment, read_tasks, verdict
from tests.event_files import write_events

NAN = float("nan")


def curve(*values: float) -> Curve:
    """Evaluations every 100 steps and 10 seconds."""
    count = np.arange(1, len(values) + 1)
    return Curve(100 * count, np.array(values), 10.0 * count)


def test_a_resumed_run_is_one_curve_without_what_was_done_twice(tmp_path: Path):
    # 60 s, then a pause of 900 s; the second attempt goes on from step 200 and redoes 300.
    write_events(tmp_path, 1000.0, [(100, 1.0, 1020.0), (200, 2.0, 1040.0), (300, 99.0, 1060.0)])
    write_events(tmp_path, 1960.0, [(300, 3.0, 1985.0), (400, 4.0, 2000.0)])
    found = read_curve(tmp_path)
    assert found.steps.tolist() == [100, 200, 300, 400]
    assert found.values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert found.seconds.tolist() == [20.0, 40.0, 60.0 + 25.0, 60.0 + 40.0]


def test_a_folder_without_events_is_an_empty_curve(tmp_path: Path):
    assert len(read_curve(tmp_path / "nothing").steps) == 0


def test_scores_of_the_protocol():
    assert scores(curve(500.0, 9.0, 300.0, 200.0, 250.0)) == {
        "best": 500.0,
        "final": 250.0,
        "best_of_last_3": 300.0,
        "worst_of_last_3": 200.0,
    }
    assert scores(curve(7.0))["best_of_last_3"] == 7.0  # fewer than three evaluations


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 5.0, 2.0, 6.0, 5.0), Crossing(200, 20.0, 400)),  # touched at 200, held from 400
        ((5.0, 6.0), Crossing(100, 10.0, 100)),
        ((5.0, 6.0, 1.0), Crossing(100, 10.0, None)),  # reached, lost at the end
        ((1.0, NAN), Crossing(None, None, None)),
    ],
)
def test_threshold_reached_and_held(values: tuple[float, ...], expected: Crossing):
    assert crossing(curve(*values), 5.0) == expected


def test_band_counts_a_curve_only_as_far_as_it_reaches():
    short = Curve(np.array([100, 300]), np.array([2.0, 4.0]), np.zeros(2))
    steps, mean, least, greatest = band([curve(0.0, 1.0, 2.0, 10.0), short])
    assert steps.tolist() == [100, 200, 300, 400]
    # The short one is 2, 3 (between), 4, and absent at 400.
    assert mean.tolist() == [1.0, 2.0, 3.0, 10.0]
    assert (least.tolist(), greatest.tolist()) == ([0.0, 1.0, 2.0, 10.0], [2.0, 3.0, 4.0, 10.0])


@pytest.mark.parametrize(
    ("seeds", "values", "holds", "found"),
    [
        ("mean", [400.0, 500.0, 530.0], True, "476.7"),
        ("mean", [400.0, 500.0, 500.0], False, "466.7"),
        ("all", [400.0, 500.0, 500.0], False, "2 of 3 seeds"),
        (2, [400.0, 500.0, 500.0], True, "2 of 3 seeds"),
        (2, [NAN, 500.0, 400.0], False, "1 of 3 seeds"),
    ],
)
def test_a_requirement_is_checked_over_seeds(seeds: object, values: list[float], holds: bool, found: str):
    assert Requirement("final", at_least=475, seeds=seeds).check(values) == (holds, found)


def test_a_bound_from_above():
    assert Requirement("regret", at_most=40).check([39.0, 41.0]) == (True, "40.0")
    assert Requirement("regret", at_most=40).check([NAN, 1.0])[0] is False
    with pytest.raises(ValueError, match="one of them"):
        Requirement("final", at_least=1, at_most=2)


def test_verdicts():
    task = Task("a", "a.yaml", require=(Requirement("best", at_least=5), Requirement("final", at_least=5)))
    good, lost = {"best": 6.0, "final": 6.0}, {"best": 6.0, "final": 1.0}
    assert verdict(task, [good] * 3, asked=3)[0] == "PASS"
    assert verdict(task, [good, lost, lost], asked=3)[0] == "FAIL"
    assert verdict(task, [good] * 2, asked=2)[0] == "INCOMPLETE"  # two seeds prove nothing
    assert verdict(task, [good] * 3, asked=5)[0] == "INCOMPLETE"
    assert verdict(task, [], asked=3) == ("INCOMPLETE", [])
    assert verdict(Task("b", "b.yaml"), [good] * 3, asked=3)[0] == "–"


def test_the_table_of_targets_reads(tmp_path: Path):
    tasks = {task.name: task for task in read_tasks()}
    assert {"ppo-cartpole", "ppo-pendulum", "dqn-cartpole", "sac-pendulum"} <= set(tasks)
    assert tasks["dqn-cartpole"].require[0] == Requirement("best", at_least=475, seeds="all")
    for task in tasks.values():
        assert task.require and (task.threshold is not None or task.regret) and task.source
    wrong = tmp_path / "targets.yaml"
    wrong.write_text("- {name: a, config: a.yaml, require: [{score: luck, at_least: 1}]}")
    with pytest.raises(ValueError, match=r"targets\.yaml, entry 1: 'luck' is no score"):
        read_tasks(wrong)


def test_tasks_are_chosen_by_name_or_config(tmp_path: Path):
    known = read_tasks()
    own = tmp_path / "mine.yaml"
    own.write_text("model: {}")
    chosen = choose(["dqn-cartpole", "configs/sac/pendulum.yaml", str(own)], known)
    assert [task.name for task in chosen] == ["dqn-cartpole", "sac-pendulum", f"{tmp_path.name}-mine"]
    assert chosen[2].path == own and chosen[2].require == ()
    with pytest.raises(ValueError, match="did you mean ppo-cartpole"):
        choose(["ppo-cartpool"], known)


def test_environment_of_a_config():
    assert environment({"model": {"class_path": "PPO", "init_args": {"env": "A-v1"}}}) == "A-v1"
    assert environment({"model": {"env": {"class_path": "Env", "init_args": {"id": "B-v1"}}}}) == "B-v1"
    assert environment({}) == "–"


# Plays `lit-rl fit`: notes its arguments, trains as the config says, and leaves a checkpoint.
FAKE_FIT = """
import json, pathlib, sys, time, yaml
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
seed, folder = int(options["--seed_everything"]), pathlib.Path(options["--trainer.directory"])
config = yaml.safe_load(open(options["--config"]))
(folder / "checkpoints").mkdir(parents=True, exist_ok=True)
with open(folder / "calls", "a") as calls:
    calls.write(json.dumps(options) + chr(10))
print("training")
if seed in config.get("breaks", []) and "--ckpt_path" not in options:
    (folder / "checkpoints" / "last.ckpt").write_text("half")
    sys.exit("seed %d: the gradient is not finite" % seed)
if config.get("sleeps"):
    import signal
    def stop(number, frame):
        (folder / "checkpoints" / "last.ckpt").write_text("half")
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    (folder / "ready").touch()
    time.sleep(60)
sys.path.insert(0, str(pathlib.Path.cwd()))
from tests.event_files import write_events
now = time.time()
write_events(folder, now, [(100 * (i + 1), value + seed, now + i + 1) for i, value in enumerate(config["returns"])])
(folder / "checkpoints" / "last.ckpt").write_text("whole")
"""


@pytest.fixture
def fit(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "fit.py"
    script.write_text(FAKE_FIT)
    return (sys.executable, str(script))


def task_of(folder: Path, text: str, **arguments: object) -> Task:
    (folder / "config.yaml").write_text(text)
    return Task("fake", str(folder / "config.yaml"), **arguments)


def calls(run: Run) -> list[dict[str, str]]:
    return [json.loads(line) for line in (run.folder / "calls").read_text().splitlines()]


def test_runs_fail_alone_resume_and_are_not_repeated(tmp_path: Path, fit: tuple[str, ...]):
    task = task_of(
        tmp_path,
        "{model: {env: Fake-v0}, returns: [1, 5, 8], breaks: [1]}",
        threshold=5.0,
        require=(Requirement("final", at_least=5),),
    )
    runs = [Run(task, seed, tmp_path / "runs") for seed in (0, 1, 2)]
    said: list[str] = []
    runner = Runner(2, fit, said.append)

    runner.run_all(runs)
    assert sorted(said) == [
        "fake seed 0: finished",
        "fake seed 1: failed: seed 1: the gradient is not finite",
        "fake seed 2: finished",
    ]
    result = outcomes.result_of(task, [0, 1, 2], tmp_path / "runs", tmp_path / "docs")
    assert (result.verdict, len(result.finished)) == ("INCOMPLETE", 2)
    text = page.write_page([result], tmp_path / "docs").read_text()
    assert "failed: seed 1: the gradient is not finite" in text

    said.clear()
    runner.run_all(runs)
    assert sorted(said) == ["fake seed 0: finished before", "fake seed 1: finished", "fake seed 2: finished before"]
    first, second = calls(runs[1])
    assert "--ckpt_path" not in first and second["--ckpt_path"] == "last"
    assert (first["--seed_everything"], len(calls(runs[0]))) == ("1", 1)
    result = outcomes.result_of(task, [0, 1, 2], tmp_path / "runs", tmp_path / "docs")
    assert result.verdict == "PASS"  # finals 8, 9, 10
    text = page.write_page([result], tmp_path / "docs").read_text()
    assert "| [fake](#fake) | Fake-v0 | 300 | 5 | 9.0 [8.0, 10.0] | 9.0 [8.0, 10.0] | 3 of 3 | **PASS** |" in text
    assert "- final evaluation ≥ 5 in the mean over seeds: 9.0 ✓" in text
    assert (tmp_path / "docs" / "results" / "fake.png").read_bytes()[:4] == b"\x89PNG"
    (row,) = [line for line in text.splitlines() if line.startswith("| 0 |")]
    assert row.startswith("| 0 | 8.0 | 8.0 | 8.0 | 200 (") and "s) | 200 |" in row

    (tmp_path / "runs").rename(tmp_path / "elsewhere")  # the page can be written again from the figures kept beside it
    kept = outcomes.result_of(task, [0, 1, 2], tmp_path / "runs", tmp_path / "docs")
    assert page.write_page([kept], tmp_path / "docs").read_text() == text
    assert outcomes.kept_seeds(task, tmp_path / "docs") == [0, 1, 2]
    (tmp_path / "elsewhere").rename(tmp_path / "runs")

    (tmp_path / "config.yaml").write_text("{model: {env: Fake-v0}, returns: [0]}")
    said.clear()
    runner.run_all(runs[:1])
    assert said[0].startswith("fake seed 0: skipped: made with another")
    stale = outcomes.result_of(task, [0, 1, 2], tmp_path / "runs", tmp_path / "docs")
    assert stale.verdict == "INCOMPLETE" and {outcome.status for outcome in stale.outcomes} == {"stale"}


def test_stopping_lets_the_runs_save_and_the_next_call_goes_on(tmp_path: Path, fit: tuple[str, ...]):
    task = task_of(tmp_path, "{returns: [1], sleeps: true}")
    runs = [Run(task, seed, tmp_path / "runs") for seed in (0, 1)]

    def stop() -> None:
        while not (runs[0].folder / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        Runner(1, fit, lambda line: None).run_all(runs)
    assert runs[0].record["status"] == "interrupted"
    assert runs[0].checkpoint.exists() and not runs[1].folder.exists()
    outcome = outcomes.outcome_of(runs[0])
    assert (outcome.status, outcome.message, outcome.scores) == ("interrupted", "stopped by signal 15", {})


def test_only_render_from_partial_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    task = task_of(tmp_path, "model: {init_args: {env: {id: CartPole-v1}}}", require=(Requirement("best", at_least=3),))
    monkeypatch.setattr(report, "read_tasks", lambda: [task, Task("other", "configs/other.yaml")])
    run = Run(task, 0, tmp_path / "runs")
    write_events(run.folder, 1000.0, [(100, 1.0, 1020.0)])
    run.write({"status": "started", "message": "killed", "digest": run.digest()})
    options = ["--only-render", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "docs")]
    assert report.main(["fake", *options]) == 0
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "| 0 | 1.0 | 1.0 | 1.0 | – | – | – | – | started: killed |" in text
    assert text.count("| missing |") == 2 and "**INCOMPLETE**" in text and "no finished run" in text
    assert "configs/other.yaml" not in text  # no run of it, and nobody asked
    assert "INCOMPLETE  fake  (0 of 3 seeds)" in capsys.readouterr().out
    assert report.main([*options, "nobody"]) == 2


def test_the_regret_of_exact_control_is_none():
    from lit_rl import LQR

    agent = LQR("lit_rl.envs.double_integrator:lit_rl/DoubleIntegrator-v0")
    assert abs(regret.regret_of_agent(agent)) < 1e-4
    agent.policy.gain *= 0.8
    assert regret.regret_of_agent(agent) > 0.01


def test_regret_is_optimum_minus_return_on_the_same_starts(tmp_path: Path):
    from lit_rl import SAC
    from lit_rl.data.episodes import Episodes

    agent = SAC(env="Pendulum-v1", evaluation=Episodes(count=4))
    played = Episodes(count=regret.EPISODES).open(agent.env, agent.policy).play()
    cos, sin, speed = played.first_obs.T
    expected = (pendulum_optimum(torch.stack([torch.atan2(sin, cos), speed], 1)) - played.returns).mean()
    assert len(played.returns) >= 20
    assert regret.regret_of_agent(agent) == pytest.approx(float(expected))
    with pytest.raises(ValueError, match="plain Pendulum-v1 and"):
        regret.regret_of_agent(SAC(env="MountainCarContinuous-v0"))


def test_a_regret_is_worked_out_once_and_stays_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task = task_of(tmp_path, "model: {init_args: {env: {id: CartPole-v1}}}", regret=True)
    run = Run(task, 0, tmp_path / "runs")
    write_events(run.folder, 1000.0, [(100, 1.0, 1020.0)])
    run.write({"status": "finished", "message": "", "digest": run.digest()})
    worked_out = []
    monkeypatch.setattr(outcomes, "regret_of", lambda checkpoint: worked_out.append(checkpoint) or 12.5)
    assert [outcomes.outcome_of(run).scores["regret"] for _ in range(2)] == [12.5, 12.5]
    assert worked_out == [run.checkpoint]


def test_of_a_task_that_never_began_nothing_is_kept(tmp_path: Path):
    task = task_of(tmp_path, "model: {}")
    outcomes.keep(outcomes.result_of(task, [0], tmp_path / "runs", tmp_path / "docs"), tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


TINY = """
trainer: {max_epochs: 2}
model:
  class_path: SAC
  init_args:
    env: Pendulum-v1
    data: {class_path: Replay, init_args: {capacity: 500, batch_size: 8, warmup: 50, steps_per_epoch: 60}}
    evaluation: {count: 2, max_steps: 20}
"""


@pytest.mark.medium
def test_the_whole_way_with_the_real_command_line(tmp_path: Path):
    config = tmp_path / "tiny" / "sac.yaml"
    config.parent.mkdir()
    config.write_text(TINY)
    command = [sys.executable, "scripts/report.py", str(config), "--seeds", "4", "--runs", str(tmp_path / "runs")]
    result = subprocess.run([*command, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "tiny-sac seed 4: finished" in result.stdout and "tiny-sac  (1 of 1 seeds)" in result.stdout
    text = (tmp_path / "results.md").read_text()
    assert "| [tiny-sac](#tiny-sac) | Pendulum-v1 | 120 |" in text
    assert (tmp_path / "results" / "tiny-sac.png").exists()
