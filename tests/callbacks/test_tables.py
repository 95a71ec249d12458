from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lit_rl
from lit_rl.algorithms.tabular.dyna_q import DynaQ
from lit_rl.callbacks import TablePictures
from lit_rl.callbacks.tables import CELL, heat_map, policy_picture, tables_of
from lit_rl.data.episodes import Episodes
from lit_rl.data.rollouts import Rollouts
from lit_rl.envs.recipe import Env
from tests.tiny import tiny


def test_bright_is_more_and_cells_are_where_the_layout_says():
    picture = heat_map(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), (2, 3))
    cells = picture[CELL // 2 :: CELL, CELL // 2 :: CELL]
    assert cells.shape == (2, 3, 3) and cells[0, 0].tolist() == [68, 1, 84] and cells[1, 1].tolist() == [253, 231, 37]
    assert cells[1, 2].tolist() == [128, 128, 128]  # no state there
    brightness = cells.reshape(-1, 3)[:5].astype(int).sum(-1)
    assert (np.diff(brightness) > 0).all()
    assert (heat_map(np.ones(4), (2, 2))[1:, 1:] != 255).any()


def test_bars_point_where_the_policy_goes():
    blue = (40, 90, 170)
    picture = policy_picture(np.eye(4), (1, 4))  # up, right, down, left
    middle = CELL // 2
    for cell, (down, right) in enumerate(((-7, 0), (0, 7), (7, 0), (0, -7))):
        assert tuple(picture[middle + down, cell * CELL + middle + right]) == blue
        assert tuple(picture[middle - down, cell * CELL + middle - right]) != blue


def test_pictures_arrive_in_tensorboard(tmp_path: Path):
    env = Env("lit_rl.envs.finite_mdp:lit_rl/Grid-v0", kwargs={"size": 3})
    agent = DynaQ(env, Rollouts(steps=1, steps_per_epoch=50), planning_steps=2, evaluation=Episodes(1, max_steps=10))
    trainer = lit_rl.Trainer(
        str(tmp_path), 2, callbacks=[TablePictures()], enable_progress_bar=False, enable_checkpointing=False
    )
    trainer.fit(agent)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["images"]) == {"tables/value", "tables/policy", "tables/visits"}
    image = events.Images("tables/value")[-1]
    assert (image.step, image.width, image.height) == (100, 3 * CELL, 3 * CELL)


def test_networks_are_no_tables():
    assert set(tables_of(tiny("FittedValueIteration"))) == {"value", "policy"}  # of its actions alone
    assert tables_of(tiny("QTOpt")) == {}


def test_an_agent_without_a_table_is_told_so_and_trains_on(tmp_path: Path):
    agent = lit_rl.PPO("CartPole-v1", Rollouts(steps=8, steps_per_epoch=8), evaluation=Episodes(1, max_steps=10))
    trainer = lit_rl.Trainer(
        str(tmp_path), 1, callbacks=[TablePictures()], enable_progress_bar=False, enable_checkpointing=False
    )
    with pytest.warns(UserWarning, match="PPO keeps no table: no pictures"):
        trainer.fit(agent)
    assert agent.env_steps == 8
    with pytest.raises(ValueError, match=r"TablePictures\.every_n_epochs is 0"):
        TablePictures(every_n_epochs=0)
