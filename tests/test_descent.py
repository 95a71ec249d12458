"""The direct way down the loss: equal to Lightning's, and taken only where nobody would miss the hooks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything

from lit_rl.descent import Descent, nobody_listens
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import Direct
from tests.tiny import AtEnd, differences, tiny, trainer


class Listener(Callback):
    """Hears of every update."""

    def __init__(self) -> None:
        self.heard = 0

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.heard += 1


class Trail(AtEnd):
    """Also the trainer's own count of steps."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_end(trainer, pl_module)
        self.steps, self.direct = trainer.global_step, pl_module.descent.direct


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_both_ways_lead_to_the_same_place(name: str, tmp_path: Path) -> None:
    ends = []
    for callbacks in ([], [Listener()]):
        seed_everything(4, verbose=False)
        ends.append(Trail())
        agent = tiny(name)
        trainer(tmp_path, callbacks=[*callbacks, ends[-1]]).fit(agent)
    assert [end.direct for end in ends] == [True, False]
    assert differences(ends[0].state, ends[1].state) == []
    assert ends[0].steps == ends[1].steps == agent.updates == callbacks[0].heard > 0


@pytest.mark.parametrize("before", [False, True])
def test_averages_of_dead_units_become_zero_and_the_processor_is_left_as_it_was(before: bool, tmp_path: Path) -> None:
    """Adam's first average falls to 0.9 of itself at each step without a gradient: it would stay at 5e-45 for ever."""

    def tiny_is_zero() -> bool:
        return bool(torch.full((), 1e-40) * 1.0 == 0.0)

    torch.set_flush_denormal(before)
    try:
        trainer(tmp_path).fit(tiny("DQN"))
        assert tiny_is_zero() == before
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = Optimizer().build([parameter])
        stand_in = SimpleNamespace(optimizers=lambda: Direct(optimizer), optimizer=Optimizer())
        descent = Descent(stand_in, direct=True)  # type: ignore[arg-type]
        descent.step(parameter.sum())
        optimizer.state[parameter]["exp_avg"].fill_(1e-38)
        for _ in range(20):
            descent.step(0.0 * parameter.sum())
        assert optimizer.state[parameter]["exp_avg"].view(torch.int32).eq(0).all() and tiny_is_zero() == before
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("arguments", "direct"), [({}, True), ({"precision": "bf16-mixed"}, True), ({"profiler": "simple"}, False)]
)
def test_what_is_heard(arguments: dict[str, Any], direct: bool, tmp_path: Path) -> None:
    end = Trail()
    trainer(tmp_path, callbacks=[end], **arguments).fit(tiny("DQN"))
    assert end.direct is direct


def test_an_agent_s_own_hook_is_heard(tmp_path: Path) -> None:
    agent, seen = tiny("DQN"), []

    class Curious(type(agent)):  # type: ignore[misc]
        def on_after_backward(self) -> None:
            seen.append(self.updates)

    agent.__class__ = Curious
    agent._trainer = trainer(tmp_path)
    assert not nobody_listens(agent)
