"""Learning on a GPU: what every algorithm keeps there. All of it is skipped where there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything

import lit_rl
from tests.test_contract import (
    SaveAt,
    act,
    as_users_run,
    batch_of_observations,
    check_resume,
    each_agent,
    each_pair,
    fitted,
)
from tests.tiny import tiny, trainer

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning"),
]
ON_GPU = {"accelerator": "gpu", "devices": 1, "deterministic": "warn", "limit_val_batches": 1}


class Where(Callback):
    """The kinds of device that hold the weights while it learns."""

    kinds: set[str]

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.kinds = {p.device.type for p in pl_module.parameters()}


@each_pair
def test_learns(name: str, space: str, tmp_path: Path) -> None:
    agent, where = tiny(name, space), Where()
    before = {key: value.detach().clone() for key, value in agent.named_parameters()}
    fitted(agent, tmp_path, callbacks=[where], **ON_GPU)
    assert where.kinds <= {"cuda"} and agent.updates > 0
    after = {key: value.detach().cpu() for key, value in agent.named_parameters()}
    assert not [key for key, p in agent.named_parameters() if p.requires_grad and torch.equal(before[key], after[key])]
    assert all(value.isfinite().all() for value in after.values())


@as_users_run
@each_agent
def test_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    check_resume(name, tmp_path, trained=ON_GPU)


@as_users_run
@each_agent
def test_a_checkpoint_goes_on_without_the_gpu(name: str, tmp_path: Path) -> None:
    save, agent = SaveAt(tmp_path, (0, 0)), tiny(name)
    fitted(agent, tmp_path, callbacks=[save], **ON_GPU)
    loaded, obs = lit_rl.load(save.paths[-1]), batch_of_observations(agent, 5)
    assert {p.device.type for p in loaded.parameters()} <= {"cpu"}
    assert np.isfinite(act(loaded, obs, 5).action).all()
    other = tiny(name)
    with pytest.warns(UserWarning, match="learner on CUDA, this one is on CPU"):
        trainer(tmp_path, 2).fit(other, ckpt_path=str(save.paths[-1]))
    assert other.env_steps > agent.env_steps


@as_users_run
@each_agent
def test_acts_with_a_copy_on_the_cpu(name: str, tmp_path: Path) -> None:
    agent = tiny(name)
    if not hasattr(agent.data, "act_device"):
        pytest.skip("its data has no act_device")
    agent, where = tiny(name, data={"act_device": "cpu"}), Where()
    fitted(agent, tmp_path, callbacks=[where], **ON_GPU)
    assert where.kinds <= {"cuda"} and agent.updates > 0


@as_users_run
@each_agent
def test_mixed_precision(name: str, tmp_path: Path) -> None:
    agent, where = tiny(name), Where()
    fitted(agent, tmp_path, callbacks=[where], precision="bf16-mixed", **ON_GPU)
    assert where.kinds <= {"cuda"} and all(p.isfinite().all() for p in agent.parameters())


@as_users_run
@pytest.mark.parametrize("name", ["PPO", "DQN"])  # not SAC: a compiled loss draws other noise than an eager one
def test_compiled_losses_are_the_losses(name: str, tmp_path: Path) -> None:
    weights = []
    for compiled in (False, True):
        seed_everything(3, verbose=False)
        agent = tiny(name, optimizer=replace(tiny(name).optimizer, compile=compiled))
        fitted(agent, tmp_path, **ON_GPU)
        weights.append({key: value.cpu() for key, value in agent.state_dict().items()})
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-3, atol=1e-4)
