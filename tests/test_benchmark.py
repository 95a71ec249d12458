"""The benchmark's arithmetic, and one tiny turn of everything in it."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("stable_baselines3")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import benchmark  # noqa: E402
from bench import minimal  # noqa: E402
from bench.measure import Row, Sample, Spread, compare  # noqa: E402
from bench.training import REFERENCE, TASKS  # noqa: E402


def turns(name: str, seconds: list[float], units: int, scores: list[float], called: list[tuple[str, int]]):  # type: ignore[no-untyped-def]
    def run(round_: int) -> Sample:
        called.append((name, round_))
        return Sample(seconds[round_], 2 * seconds[round_], units, scores[round_])

    return run


def test_ratios_pair_the_turns_of_a_round() -> None:
    called: list[tuple[str, int]] = []
    contestants = {
        "peer": turns("peer", [4.0, 8.0, 6.0], 100, [5, 6, 7], called),
        # half the time per unit in round 0 (2 s / 100), a quarter in round 1 (4 s / 200 to 8 s / 100), equal in round 2
        "own": turns("own", [4.0, 4.0, 12.0], 200, [9, 3, 8], called),
    }
    peer, own = compare("task", contestants, "peer", 3, {"own": 2.5}, bar=4.0)
    assert called == [(name, round_) for round_ in range(3) for name in ("peer", "own")]
    assert own.cpu_ratio == own.wall_ratio == Spread(2.0, 1.0, 4.0)
    assert own.cpu_us == pytest.approx(20_000) and own.wall_us == pytest.approx(40_000)
    assert peer.cpu_ratio == Spread(1.0, 1.0, 1.0) and peer.learnt
    assert own.score == Spread(8, 3, 9) and own.verdict == "did not learn"  # one round stayed below 4


@pytest.mark.parametrize(("goal", "verdict"), [(None, ""), (2.0, "met"), (2.5, "misses by 0.50")])
def test_verdict(goal: float | None, verdict: str) -> None:
    ratio = Spread(2.0, 1.0, 3.0)
    assert Row("task", "own", "call", 1.0, 1.0, ratio, ratio, Spread(9, 8, 10), bar=8.0, goal=goal).verdict == verdict


def test_results_of_several_calls_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.micro.IMPORTS", {"nothing": ["-c", ""]})
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    for task in ("gae", "import"):
        arguments = ["--task", task, "--rounds", "1", "--steps", "20000", "--json", str(results), "--page", str(page)]
        benchmark.main(arguments)
    kept = json.loads(results.read_text())
    assert list(kept) == ["gae", "import"]
    row = next(row for row in kept["gae"]["rows"] if row["name"] == "lit_rl")
    assert row["cpu_us"] > 0 and row["goal"] == 4.0 and row["verdict"]
    assert "GAE 2048 × 8" in page.read_text() and kept["gae"]["machine"]["torch"] in page.read_text()


@pytest.mark.medium
@pytest.mark.parametrize(("name", "steps"), [("ppo", 1024), ("dqn10", 1100), ("sac", 110)])
def test_contestants_take_the_same_steps(name: str, steps: int) -> None:
    task = TASKS[name]
    for train in task.contestants.values():
        returns = train(steps, 0)
        length = 200 if name == "sac" else 1
        assert len(returns) * length <= steps  # an episode of CartPole has a step at least
        if name != "sac":
            assert 10 <= sum(returns) / len(returns) <= 60 and sum(returns) <= steps
    assert REFERENCE in task.contestants


@pytest.mark.slow
def test_the_loops_written_by_hand_learn() -> None:
    assert sum(minimal.ppo(51_200, 0)[-100:]) / 100 > TASKS["ppo"].bar
    assert sum(minimal.dqn(20_000, 0, 10)[-100:]) / 100 > TASKS["dqn10"].bar
