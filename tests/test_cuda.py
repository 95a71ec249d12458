"""Learning on a GPU: what every algorithm keeps there. All of it is skipped where there is none."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything

import lit_rl
from lit_rl.agent import Agent
from lit_rl.resume import random_state
from tests.test_contract import SaveAt, act, as_users_run, batch_of_observations, each_agent, each_pair
from tests.tiny import AtEnd, differences, tiny, trainer

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
    pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning"),
]
VALIDATED = {"limit_val_batches": 1, "check_val_every_n_epoch": 1}


@pytest.fixture(autouse=True)
def _one_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS adds in one order; read when the first product is made."""
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Where(AtEnd):
    """The run at its end, and where its weights were."""

    devices: set[str]
    drawn: torch.Tensor

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_end(trainer, pl_module)
        self.devices = {p.device.type for p in pl_module.parameters()}
        self.drawn = random_state(pl_module.device)["cuda"]


def learn(agent: Agent, folder: Path, epochs: int = 1, load: Path | None = None, **arguments: Any) -> Where:
    end = Where()
    callbacks: list[Callback] = [*arguments.pop("callbacks", []), end]
    on_gpu = {"accelerator": "gpu", "devices": 1, "deterministic": "warn"} | VALIDATED
    trainer(folder, epochs, callbacks=callbacks, **on_gpu | arguments).fit(agent, ckpt_path=load and str(load))
    return end


@each_pair
def test_learns(name: str, space: str, tmp_path: Path) -> None:
    agent = tiny(name, space)
    before = {key: value.detach().clone() for key, value in agent.named_parameters()}
    end = learn(agent, tmp_path)
    assert end.devices <= {"cuda"} and agent.updates > 0
    after = {key: value.detach().cpu() for key, value in agent.named_parameters()}
    assert not [key for key, p in agent.named_parameters() if p.requires_grad and torch.equal(before[key], after[key])]
    assert all(value.isfinite().all() for value in after.values())


@as_users_run
@each_agent
def test_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    seed_everything(11, verbose=False)
    save = SaveAt(tmp_path, (0, 0), (1, 3))
    straight = learn(tiny(name), tmp_path, 2, callbacks=[save])
    for path in save.paths[:-1]:
        seed_everything(99, verbose=False)
        torch.rand(7, device="cuda")
        again = learn(tiny(name), tmp_path, 2, path)
        assert differences(straight.state, again.state) == [], path.parent.name
        assert torch.equal(straight.drawn, again.drawn)


@as_users_run
@each_agent
def test_a_checkpoint_goes_on_without_the_gpu(name: str, tmp_path: Path) -> None:
    save, agent = SaveAt(tmp_path, (0, 0)), tiny(name)
    learn(agent, tmp_path, callbacks=[save])
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
    agent = tiny(name, data={"act_device": "cpu"})
    assert learn(agent, tmp_path).devices <= {"cuda"} and agent.updates > 0


@as_users_run
@each_agent
def test_mixed_precision(name: str, tmp_path: Path) -> None:
    agent = tiny(name)
    end = learn(agent, tmp_path, precision="bf16-mixed")
    assert end.devices <= {"cuda"} and all(p.isfinite().all() for p in agent.parameters())


@as_users_run
@pytest.mark.parametrize("name", ["PPO", "DQN"])  # not SAC: a compiled loss draws other noise than an eager one
def test_compiled_losses_are_the_losses(name: str, tmp_path: Path) -> None:
    weights = []
    for compiled in (False, True):
        seed_everything(3, verbose=False)
        agent = tiny(name, optimizer=replace(tiny(name).optimizer, compile=compiled))
        learn(agent, tmp_path)
        weights.append({key: value.cpu() for key, value in agent.state_dict().items()})
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-3, atol=1e-4)
