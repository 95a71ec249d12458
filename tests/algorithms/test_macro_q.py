"""Q over sequences of actions: how they are numbered, what is learnt, and that it solves a deterministic chain."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl import MLP, Constant, Env, EpsilonGreedy, Linear, MacroQ, QNetwork, TargetUpdate, WindowReplay
from lit_rl.algorithms.q_learning.macro_q import any_actions, macro_target, sequence_index
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, with_gradient
from tests.algorithms.test_dqn import q_star
from tests.algorithms.test_n_step_dqn import window


def test_sequences_are_numbered_with_the_first_action_in_front() -> None:
    sequences = torch.tensor(list(product(range(3), repeat=2)))
    assert sequence_index(sequences, 3).tolist() == list(range(9))


def agent(**changes) -> MacroQ:
    torch.manual_seed(0)
    arguments = {"net": QNetwork(MLP((8,))), "optimizer": Optimizer(lr=0.01), "data": WindowReplay(1000, window=3)}
    return detached(MacroQ("CartPole-v1", **arguments | changes))


@pytest.mark.parametrize("double", [True, False])
def test_the_loss_by_hand(double: bool) -> None:
    """Row 0 is whole, row 1 ends by termination after one step, row 2 is cut by a time limit and left out."""
    macro, data = agent(huber_delta=100.0, double=double), window(3)
    with torch.no_grad():
        for parameter in macro.policy.head.parameters():
            parameter.neg_()  # what the copy likes best is now what the learner likes least
    discount = torch.full((3, 3), 0.9)
    discount[1, 0] = 0.0
    valid = torch.tensor([[True] * 3, [True, False, False], [True, True, False]])
    data = data._replace(steps=data.steps._replace(discount=discount), valid=valid)
    reward, action = data.steps.reward.numpy(), data.steps.action.numpy()
    slow, fast = macro.q_target(data.steps.next_obs[:, 2])[0], macro.q(data.steps.next_obs[:, 2])[0]
    assert slow.argmax() != fast.argmax()
    best = slow[(fast if double else slow).argmax()].item()
    y = [reward[0, 0] + 0.9 * reward[0, 1] + 0.81 * reward[0, 2] + 0.729 * best, reward[1, 0]]
    q = macro.q(data.steps.obs[:, 0]).detach().numpy()
    first = q[0, action[0] @ np.array([4, 2, 1])]
    possible = [
        0.5 * ((first - y[0]) ** 2 / 2 + (q[1, 4 * action[1, 0] + tail] - y[1]) ** 2 / 2) for tail in range(4)
    ]  # what follows a terminal state is drawn at random
    found = [macro.loss(data)["td_loss"].item() for _ in range(30)]
    assert all(np.isclose(value, possible, rtol=1e-4).any() for value in found) and len(set(found)) > 1


@pytest.mark.parametrize("double", [True, False])
def test_the_best_sequence_after_a_window_begins_with_a_legal_action(double: bool) -> None:
    """A = 3, n = 2: sequences 2·, which are illegal, are worth 100, the best of the others 7: y = 0 + 0 + 0.81 · 7."""
    env = Env("lit_rl.envs.toy:lit_rl/MaskedIdentity-v0", kwargs={"n": 3})
    data = WindowReplay(1000, window=2)
    macro = detached(MacroQ(env, data, QNetwork(MLP(())), gamma=0.9, huber_delta=100.0, double=double))
    with torch.no_grad():
        for parameter in macro.policy.parameters():
            parameter.zero_()
        macro.policy.head.bias.copy_(torch.tensor([1.0, 2, 3, 7, 5, 6, 100, 100, 100]))
    macro.q_target.follow()
    rows = window(4, 2)
    obs = {"observation": torch.zeros(4, 2).long(), "action_mask": torch.tensor([True, True, False]).expand(4, 2, 3)}
    steps = rows.steps._replace(obs=obs, next_obs=obs, reward=torch.zeros(4, 2), action=torch.zeros(4, 2).long())
    loss = macro.loss(rows._replace(steps=steps, valid=torch.ones(4, 2, dtype=torch.bool)))["td_loss"]
    assert loss.item() == pytest.approx(0.5 * (1 - 0.81 * 7) ** 2)


def test_what_follows_a_terminal_state_is_drawn_from_the_legal_actions() -> None:
    mask = torch.tensor([[True, False, True], [False, True, False]])
    drawn = any_actions(torch.zeros(2, 500, dtype=torch.int64), 3, mask)
    assert sorted(set(drawn[0].tolist())) == [0, 2] and set(drawn[1].tolist()) == {1}


def test_targets_are_as_precise_as_the_values() -> None:
    """y = 0 + 1 · (0 + 1 · 0.1), in float64."""
    zero, one = torch.zeros(1, 2), torch.ones(1, 2)
    y, counts = macro_target(zero, one, one.bool(), torch.tensor([0.1], dtype=torch.float64))
    assert y.tolist() == [0.1] and counts.all()


def test_one_update_moves_q_alone() -> None:
    macro = agent()
    before = parameters(macro)
    macro.update(window(40))
    assert moved(macro, before) == with_gradient(macro) == {name for name in before if name.startswith("policy.")}


def test_too_many_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MacroQ\.data\.window is 20: 2 actions give 1048576 sequences"):
        agent(data=WindowReplay(1000, window=20))


@pytest.mark.medium
def test_first_actions_of_a_deterministic_chain_are_worth_q_star(tmp_path: Path) -> None:
    data = WindowReplay(2400, 256, 0.25, warmup=400, steps_per_epoch=2400, steps_per_batch=1000, window=2)
    macro = MacroQ(
        Env("Chain-v9", num_envs=4),
        data,
        QNetwork(MLP(())),
        Optimizer(Linear(0.05, 0.002, 2400)),
        0.8,
        EpsilonGreedy(Constant(1.0)),
        TargetUpdate(10),
        huber_delta=10.0,
    )
    learn(macro, tmp_path, 1)
    values = macro.policy.values(macro.q(torch.eye(5))).detach().numpy()
    assert np.abs((values - q_star(0.8))[:4]).max() < 0.05
