"""Every learner of action values says by how much it believes too much."""

from pathlib import Path

import pytest

import lit_rl
from tests.tiny import tiny

LEARNERS = [
    "AsyncQ",
    "DDPG",
    "DQN",
    "DoubleDQN",
    "DoubleQ",
    "FittedQ",
    "MacroQ",
    "NAF",
    "NStepDQN",
    "QLearning",
    "QTOpt",
    "RecurrentDQN",
    "ResidualQ",
    "SAC",
    "SACDiscrete",
    "Sarsa",
    "SoftQ",
    "SoftQContinuous",
    "TD3",
]


@pytest.mark.parametrize("name", LEARNERS)
def test_overestimation_is_logged(name: str, tmp_path: Path) -> None:
    agent = tiny(name)
    trainer = lit_rl.Trainer(str(tmp_path), 1, enable_progress_bar=False, logger=False, enable_checkpointing=False)
    (found,) = trainer.validate(agent, verbose=False)
    assert abs(found["val/overestimation"]) < 1e4 and abs(found["val/start_value"]) < 1e4
