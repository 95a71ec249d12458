"""What reaches TensorBoard, read back from its event files."""

import io
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_rl.callbacks import ConfigText, EvaluationVideo
from lit_rl.envs.recipe import Env
from lit_rl.envs.recording import gif, record_episode, save_video
from lit_rl.policies.policy import Act, Policy

from .fake_agent import BATCHES, STEPS, FakeAgent, make_trainer


class PushRight(Policy):
    """CartPole falls after about ten steps. Draws from torch's global stream, as a careless planner might."""

    def act(self, obs: np.ndarray, state: np.ndarray, rng: np.random.Generator, explore: bool = True) -> Act:
        assert obs.shape == (1, 4) and not explore
        torch.rand(3)
        return Act(np.ones(1, np.int64), np.zeros(1, np.float32), state)


class Silent(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (4,)), gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, **_: object) -> tuple:
        return np.zeros(4, np.float32), {}

    def render(self) -> None:
        return None


gymnasium.register("Silent-v0", Silent)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_a_recorded_episode_is_the_one_that_was_played() -> None:
    env = Env("CartPole-v1")
    episode = record_episode(PushRight(), env, seed=3)
    assert episode.frames.shape == (episode.length + 1, 400, 600, 3) and episode.frames.dtype == np.uint8
    assert episode.total == episode.length and 7 < episode.length < 13
    again = record_episode(PushRight(), env, seed=3)
    assert np.array_equal(again.frames, episode.frames)
    assert record_episode(PushRight(), env, seed=3, max_steps=4).length == 4
    assert env.kwargs == {}


def test_an_environment_without_pictures_says_so() -> None:
    with pytest.raises(ValueError, match="Silent-v0 draws no pictures"):
        record_episode(PushRight(), Env("Silent-v0"))


def test_videos_as_files(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 48, 3), dtype=np.uint8)
    save_video(frames, tmp_path / "deep" / "a.gif", fps=25)
    with Image.open(tmp_path / "deep" / "a.gif") as picture:
        assert (picture.n_frames, picture.size, picture.info["duration"]) == (6, (48, 32), 40)
    with pytest.raises(ValueError, match=r"ends in .gif or .mp4"):
        save_video(frames, tmp_path / "a.avi")


def test_mp4_or_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    monkeypatch.setitem(__import__("sys").modules, "moviepy", None)
    with pytest.raises(ValueError, match=r"pip install 'lit_rl\[video\]'"):
        save_video(frames, tmp_path / "a.mp4")
    monkeypatch.undo()
    pytest.importorskip("moviepy")
    save_video(frames, tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").stat().st_size > 500


def test_video_and_config_in_tensorboard(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    (tmp_path / "config.yaml").write_text("model:\n  gamma: 0.99\n")
    agent = FakeAgent()
    agent.policy, agent.env = PushRight(), Env("CartPole-v1")
    video = EvaluationVideo(every_n_epochs=2, max_steps=5)
    make_trainer(tmp_path, video, ConfigText(), logger=logger, epochs=4, num_sanity_val_steps=1).fit(agent)
    written = events(tmp_path)
    images = written.Images("val/episode")
    assert [image.step for image in images] == [2 * BATCHES * STEPS, 4 * BATCHES * STEPS]
    with Image.open(io.BytesIO(images[0].encoded_image_string)) as picture:
        assert picture.format == "GIF" and picture.size == (300, 200)
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
        assert sum(durations) == 6 * 30  # equal neighbours become one longer picture
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["100.gif", "200.gif"]
    text = written.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == "    model:\n      gamma: 0.99"


def test_a_video_leaves_training_alone(tmp_path: Path) -> None:
    """Global random streams after a run are equal with and without."""
    draws = []
    for callbacks in ([], [EvaluationVideo(max_steps=3)]):
        torch.manual_seed(0)
        agent = FakeAgent()
        agent.policy, agent.env = PushRight(), Env("CartPole-v1")
        make_trainer(tmp_path, *callbacks, epochs=1, enable_checkpointing=False).fit(agent)
        draws.append(torch.rand(3))
    assert torch.equal(*draws)


def test_no_pictures_is_one_warning_and_no_more(tmp_path: Path) -> None:
    agent = FakeAgent()
    agent.policy, agent.env = PushRight(), Env("Silent-v0")
    with pytest.warns(UserWarning, match="no videos: Silent-v0 draws no pictures") as caught:
        make_trainer(tmp_path, EvaluationVideo(), epochs=3, enable_checkpointing=False).fit(agent)
    assert sum("no videos" in str(entry.message) for entry in caught) == 1


def test_gif_durations_are_ones_that_viewers_keep() -> None:
    """Hundredths of a second: 30 fps are 30 ms, and nothing is shorter than 20 ms."""
    frames = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), dtype=np.uint8)
    for fps, duration in ((30, 30), (50, 20), (1000, 20), (10, 100)):
        with Image.open(io.BytesIO(gif(frames, fps))) as picture:
            assert picture.info["duration"] == duration
