"""Double DQN: who selects and who evaluates; a chain whose Q* is known; its diagnostic."""

from pathlib import Path

import numpy as np
import torch

import lit_rl
from lit_rl import MLP, Constant, DoubleDQN, Env, EpsilonGreedy, Linear, QNetwork, Replay, TargetUpdate
from lit_rl.algorithms.q_learning.double_dqn import double_td_error
from lit_rl.algorithms.q_learning.dqn import td_error
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, transitions, with_gradient
from tests.algorithms.test_dqn import q_star

Q = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, -1.0]])
ONLINE = torch.tensor([[4.0, 6.0], [8.0, 7.0], [9.0, 1.0]])
SLOW = torch.tensor([[9.0, 1.0], [2.0, 9.0], [7.0, 7.0]])
ACTION, REWARD, DISCOUNT = torch.tensor([0, 1, 0]), torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.5, 0.5, 0.0])


def test_td_errors_by_hand() -> None:
    """ONLINE selects 1, 0, 0, SLOW says 1, 2, 7. 1 − (1 + ½) = −½; truncated: 5 − ½·2 = 4; terminated: 0 − 2 = −2."""
    assert double_td_error(Q, ACTION, REWARD, DISCOUNT, ONLINE, SLOW).tolist() == [-0.5, 4.0, -2.0]
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    assert double_td_error(Q, ACTION, REWARD, DISCOUNT, ONLINE, SLOW, mask).tolist() == [1 - 5.5, 4.0, -2.0]


def test_equal_networks_give_dqn() -> None:
    assert torch.equal(
        double_td_error(Q, ACTION, REWARD, DISCOUNT, SLOW, SLOW), td_error(Q, ACTION, REWARD, DISCOUNT, SLOW)
    )


def agent(**changes) -> DoubleDQN:
    torch.manual_seed(0)
    return detached(DoubleDQN("CartPole-v1", **{"net": QNetwork(MLP((8,))), "optimizer": Optimizer(lr=0.01)} | changes))


def batch(rows: int = 5, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    obs, next_obs = (torch.randn(rows, 4, generator=rng) for _ in range(2))
    action = torch.randint(2, (rows,), generator=rng)
    return transitions(obs, action, torch.randn(rows, generator=rng), torch.full((rows,), 0.9), next_obs)


def test_one_update_moves_q_alone() -> None:
    dqn = agent(net=QNetwork(MLP((8,)), duelling=True))
    before = parameters(dqn)
    dqn.update(batch())
    names = {name for name in before if name.startswith("policy.")}
    assert moved(dqn, before) == with_gradient(dqn) == names


def test_the_slow_copy_follows_as_told() -> None:
    dqn, copies = agent(target=TargetUpdate(every=3)), []
    for _ in range(7):
        dqn.update(batch())
        pairs = zip(dqn.q.parameters(), dqn.q_target.slow.parameters(), strict=True)
        copies.append(all(torch.equal(a, b) for a, b in pairs))
    assert copies == [False, False, True, False, False, True, False]
    dqn = agent(target=TargetUpdate(tau=0.25))
    before = [p.clone() for p in dqn.q_target.parameters()]
    dqn.update(batch())
    for old, new, slow in zip(before, dqn.q.parameters(), dqn.q_target.slow.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * new)


def test_the_chain_is_solved_to_q_star(tmp_path: Path) -> None:
    """One-hot features, max |q − q*| < 0.05."""
    data = Replay(2400, 256, 0.25, warmup=400, steps_per_epoch=2400, steps_per_batch=1000)
    dqn = DoubleDQN(
        Env("Chain-v9", num_envs=4),
        data,
        QNetwork(MLP(())),
        Optimizer(Linear(0.05, 0.002, 2400)),
        0.8,
        EpsilonGreedy(Constant(1.0)),
        TargetUpdate(10),
    )
    learn(dqn, tmp_path, 1)
    error = (dqn.q(torch.eye(5)).detach().numpy() - q_star(0.8))[:4]
    assert np.abs(error).max() < 0.05, error


def test_the_diagnostic_is_what_it_says(tmp_path: Path) -> None:
    """Reward 1 for ever, cut after 10 steps: V = 10 at γ = 0.9. The tail counts: nothing is overestimated."""
    data = Replay(1000, 32, 0.25, warmup=100, steps_per_epoch=1500, steps_per_batch=1000)
    env = "lit_rl.envs.toy:lit_rl/Constant-v0"
    dqn = DoubleDQN(env, data, QNetwork(MLP(())), Optimizer(0.1), 0.9, EpsilonGreedy(1.0), TargetUpdate(4))
    learn(dqn, tmp_path, 1)
    trainer = lit_rl.Trainer(str(tmp_path), 1, enable_progress_bar=False, logger=False, enable_checkpointing=False)
    (found,) = trainer.validate(dqn, verbose=False)
    assert abs(found["val/start_value"] - 10) < 0.3
    assert abs(found["val/overestimation"]) < 0.2
    assert found["val/return"] == 10
