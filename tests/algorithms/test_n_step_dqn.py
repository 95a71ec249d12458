"""n-step DQN: the update reads what the correction says; each correction but none finds Q* off-policy."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from lit_rl import MLP, Constant, Env, EpsilonGreedy, Linear, NStepDQN, QNetwork, TargetUpdate, WindowReplay
from lit_rl.algorithms.q_learning.n_step_dqn import Correction, corrected_target
from lit_rl.batch import Transition, map_tensors
from lit_rl.data.windows import Window
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, with_gradient
from tests.algorithms.test_dqn import q_star


def window(rows: int = 6, length: int = 3, seed: int = 0) -> Window:
    rng = torch.Generator().manual_seed(seed)
    shape = (rows, length)
    valid = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=rng)
    steps = Transition(
        obs=torch.randn(*shape, 4, generator=rng),
        action=torch.randint(2, shape, generator=rng),
        reward=torch.randn(shape, generator=rng),
        discount=torch.full(shape, 0.9),
        next_obs=torch.randn(*shape, 4, generator=rng),
        log_prob=torch.rand(shape, generator=rng).log(),
        weight=torch.ones(shape),
        index=torch.arange(rows * length).view(shape),
    )
    return Window(steps, valid)


def agent(**changes) -> NStepDQN:
    torch.manual_seed(0)
    return detached(NStepDQN("CartPole-v1", **{"net": QNetwork(MLP((8,))), "optimizer": Optimizer(lr=0.01)} | changes))


@pytest.mark.parametrize("correction", get_args(Correction))
def test_the_loss_is_the_huber_of_the_corrected_target(correction: Correction) -> None:
    dqn, data = agent(correction=correction, lam=0.9, target_epsilon=0.1, huber_delta=0.5), window()
    slow = dqn.q_target
    y = corrected_target(correction, data, slow(data.steps.obs), slow(data.steps.next_obs), 0.9, 0.1)
    q = dqn.q(data.steps.obs[:, 0])[torch.arange(6), data.steps.action[:, 0]]
    x = (q - y).abs().detach().numpy()
    expected = np.where(x <= 0.5, x**2 / 2, 0.5 * x - 0.125).mean()
    assert dqn.loss(data)["td_loss"].item() == pytest.approx(expected, rel=1e-5)
    before = parameters(dqn)
    dqn.update(data)
    assert moved(dqn, before) == with_gradient(dqn) == {name for name in before if name.startswith("policy.")}


def test_rows_beyond_the_end_of_a_window_change_nothing() -> None:
    """Whatever stands in masked rows."""
    data = window(20)
    other = map_tensors(lambda t: torch.where(data.valid.view(20, 3, *[1] * (t.dim() - 2)), t, t.flip(0)), data.steps)
    for correction in get_args(Correction):
        dqn = agent(correction=correction)
        one, two = (dqn.loss(Window(steps, data.valid))["td_loss"].item() for steps in (data.steps, other))
        assert one == pytest.approx(two, rel=1e-6)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"NStepDQN\.lam is 2"):
        agent(lam=2.0)
    with pytest.raises(ValueError, match=r"WindowReplay\.window is 0"):
        WindowReplay(window=0)
    with pytest.raises(ValueError, match="leave n_step and prioritized alone"):
        WindowReplay(n_step=3)


def error_of(correction: Correction, folder: Path) -> float:
    """max |q − q*| on the chain after uniformly random behaviour, 3-step windows."""
    data = WindowReplay(2400, 256, 0.25, warmup=400, steps_per_epoch=2400, steps_per_batch=1000, window=3)
    dqn = NStepDQN(
        Env("Chain-v9", num_envs=4),
        data,
        QNetwork(MLP(())),
        Optimizer(Linear(0.05, 0.002, 2400)),
        0.8,
        EpsilonGreedy(Constant(1.0)),
        TargetUpdate(10),
        correction,
        huber_delta=10.0,
    )
    learn(dqn, folder, 1)
    return float(np.abs((dqn.q(torch.eye(5)).detach().numpy() - q_star(0.8))[:4]).max())


@pytest.mark.medium
@pytest.mark.parametrize("correction", ["cut", "retrace", "tree_backup"])
def test_corrected_targets_find_q_star(correction: Correction, tmp_path: Path) -> None:
    assert error_of(correction, tmp_path) < 0.05


@pytest.mark.medium
def test_uncorrected_targets_do_not(tmp_path: Path) -> None:
    assert error_of("ignore", tmp_path) > 0.1
