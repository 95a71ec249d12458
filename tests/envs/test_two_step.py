"""The two-step task pays what its docstring says."""

import gymnasium
import pytest

import lit_rl.envs.two_step  # noqa: F401  (registers it)


@pytest.mark.parametrize(
    ("actions", "total"), [((0,), 0.6), ((1, 0), 1.0), ((1, 1), 0.0)], ids=["left", "right and good", "right and bad"]
)
def test_every_episode(actions: tuple[int, ...], total: float) -> None:
    env = gymnasium.make("lit_rl/TwoStep-v0")
    obs, _ = env.reset(seed=0)
    assert obs.tolist() == [1.0, 0.0]
    earned = 0.0
    for number, action in enumerate(actions, 1):
        obs, reward, terminated, truncated, _ = env.step(action)
        earned += float(reward)
        assert terminated == (number == len(actions)) and not truncated
    assert earned == total and obs.tolist() == ([1.0, 0.0] if len(actions) == 1 else [0.0, 1.0])
