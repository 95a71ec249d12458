"""Recurrent DQN: the memory that learns is the one that acts, targets look n steps on, and it must remember to win."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_rl import MLP, Env, EpsilonGreedy, Linear, QNetwork, Recurrent, RecurrentDQN, SequenceReplay, TargetUpdate
from lit_rl.algorithms.q_learning.recurrent_dqn import first_steps, last_steps, masked_huber, sequence_error
from lit_rl.batch import Transition, map_tensors, unstack
from lit_rl.data.episodes import EpisodeResults
from lit_rl.data.priority import Prioritized
from lit_rl.data.sequences import Sequence
from lit_rl.optimizer import Optimizer
from tests.algorithms.stand_in import detached, learn, moved, parameters, with_gradient
from tests.tiny import tiny, trainer

H, L, B = 3, 4, 6
cells = pytest.mark.parametrize("cell", ["gru", "lstm"])


def agent(cell: str = "gru", burn_in: int = H, memory: bool = True, after=(), **changes) -> RecurrentDQN:
    torch.manual_seed(0)
    body = Recurrent(MLP((8,)), 8, cell, after) if memory else MLP((8,))
    data = SequenceReplay(200, batch_size=B, warmup=20, length=L, burn_in=burn_in)
    return detached(RecurrentDQN("CartPole-v1", data, QNetwork(body), Optimizer(lr=0.01), **changes))


def batch(seed: int = 0) -> Sequence:
    """Episodes begin up to H steps before the L and end at any of them, some for good and some cut."""
    rng = torch.Generator().manual_seed(seed)
    shape = (B, H + L)
    place = torch.arange(H + L)
    begin = torch.randint(0, H + 1, (B, 1), generator=rng)
    end = torch.randint(H, H + L, (B, 1), generator=rng)
    terminated = (place == end) & (torch.arange(B)[:, None] % 2 == 0)
    steps = Transition(
        obs=torch.randn(*shape, 4, generator=rng),
        action=torch.randint(2, shape, generator=rng),
        reward=torch.randn(shape, generator=rng),
        discount=0.9 * (~terminated).float(),
        next_obs=torch.randn(*shape, 4, generator=rng),
        log_prob=torch.zeros(shape),
        weight=torch.ones(shape),
        index=torch.arange(B * (H + L)).view(shape),
    )
    return Sequence(steps, (place >= begin) & (place <= end))


def by_hand(dqn: RecurrentDQN, data: Sequence, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """q(o_t, h_{t−1}, a_t; θ) and y_t of the valid steps among the L, row by row, step by step, reward by reward."""
    body, head = dqn.q
    slow, slow_head = dqn.q_target.slow
    q, y = [], []
    for b in range(B):
        state, slow_state = torch.zeros(1, body.state_size), torch.zeros(1, body.state_size)
        learnt = []
        for k in range(H + L):
            if not data.valid[b, k]:
                continue
            steps = map_tensors(lambda tensor, b=b, k=k: tensor[b, k], data.steps)
            features, state = body.step(steps.obs[None], state)
            slow_state = slow.step(steps.obs[None], slow_state)[1]
            following = slow_head(slow.step(steps.next_obs[None], slow_state)[0])[0]
            selecting = head(body.step(steps.next_obs[None], state)[0])[0] if dqn.double_q else following
            if k >= H:
                q.append(head(features)[0, steps.action])
                learnt.append((steps.reward, steps.discount, following[selecting.argmax()]))
        for t in range(len(learnt)):
            target, weight = torch.zeros(()), torch.ones(())
            for reward, discount, value in learnt[t : t + n]:
                target, weight, last = target + weight * reward, weight * discount, value
            y.append(target + weight * last)
    return torch.stack(q), torch.stack(y).detach()


def test_the_masked_loss_by_hand() -> None:
    """δ = 1: ½ · 0.5² = 0.125 and 2 − ½ = 1.5; the third does not count."""
    error, valid = torch.tensor([[0.5], [-2.0], [9.0]]), torch.tensor([[True], [True], [False]])
    once, weight = torch.ones(3, 1), torch.tensor([[1.0], [0.5], [7.0]])
    assert masked_huber(error, valid, once).item() == pytest.approx((0.125 + 1.5) / 2)
    assert masked_huber(error, valid, weight).item() == pytest.approx((0.125 + 0.75) / 2)


def test_the_priority_of_a_sequence_by_hand() -> None:
    """0.9 · 2 + 0.1 · (0.5 + 2) / 2, the third left out; nothing valid, no priority."""
    error = torch.tensor([[0.5, 1.0], [-2.0, 1.0], [9.0, 1.0]])
    valid = torch.tensor([[True, False], [True, False], [False, False]])
    assert sequence_error(error, valid).tolist() == pytest.approx([1.8 + 0.125, 0.0])


def test_surprising_sequences_come_up_more_often() -> None:
    """Each draw is of the sequence that begins at its row: its priority is (5), and its weight undoes the bias."""
    dqn = agent()
    recipe = replace(dqn.data, prioritized=Prioritized(), steps_per_epoch=80, steps_per_batch=80)
    dqn._experience = experience = recipe.open(dqn.env, dqn.policy, 0.9, 0)
    (sequences,) = [unstack(round_.data) for round_ in experience.rounds(0)][-1]
    index, weight = sequences.steps.index[:, H].numpy(), sequences.steps.weight
    assert torch.equal(weight, weight[:, :1].expand(B, H + L)) and len(weight.unique()) == 1, "all are new"
    dqn.loss(sequences)
    q, y = by_hand(dqn, sequences, 1)
    error = torch.zeros(B, L).masked_scatter(sequences.valid[:, H:], q.detach() - y)
    expected = (sequence_error(error.T, sequences.valid[:, H:].T) + 1e-6) ** 0.6
    assert experience.priorities.tree[index] == pytest.approx(expected.numpy(), rel=1e-4)
    again = experience.sample(1).steps
    priority = torch.from_numpy(experience.priorities.tree[again.index[0, :, H].numpy()])
    assert torch.allclose(again.weight[0, :, 0], (priority.min() / priority) ** 0.4)


def test_where_a_memory_begins() -> None:
    valid = torch.tensor([[False, True], [True, True], [True, True], [False, True]])
    assert first_steps(valid).tolist() == [[False, True], [True, False], [False, False], [False, False]]


def test_where_a_sum_of_rewards_ends() -> None:
    valid = torch.tensor([[True, True], [True, True], [False, True]])
    assert last_steps(valid).tolist() == [[False, False], [True, False], [False, False]]


@cells
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_values_and_targets_step_by_step(cell: str, n: int, double: bool) -> None:
    """Terminated and truncated rows, at true successors: the value after a cut is read with the memory of the cut."""
    dqn, data = agent(cell, n_step=n, double_q=double, after=(7, 5) if n == 2 else ()), batch()
    with torch.no_grad():  # θ⁻ is another network
        for parameter in dqn.q_target.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    q, y = by_hand(dqn, data, n)
    expected = torch.nn.functional.huber_loss(q, y)
    assert dqn.loss(data)["td_loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    dqn.double_q = not double
    assert dqn.loss(data)["td_loss"].item() != pytest.approx(expected.item(), rel=1e-4), "the other choice is another"


@cells
def test_burn_in_is_without_gradient(cell: str) -> None:
    """No observation of the first H steps receives any; the memory that they leave is used."""
    dqn, data = agent(cell), batch()
    obs = data.steps.obs.clone().requires_grad_()
    data = Sequence(data.steps._replace(obs=obs), torch.ones_like(data.valid))
    dqn.loss(data)["td_loss"].backward()
    assert not obs.grad[:, :H].any() and obs.grad[:, H:].any()
    changed = data.steps._replace(obs=torch.cat([obs[:, :H] + 1.0, obs[:, H:]], 1))
    assert dqn.loss(Sequence(changed, data.valid))["td_loss"].item() != dqn.loss(data)["td_loss"].item()


def test_rows_beyond_an_episode_change_nothing() -> None:
    dqn, data = agent(), batch()
    other = map_tensors(
        lambda t: torch.where(data.valid.view(B, H + L, *[1] * (t.dim() - 2)), t, t.flip(0)), data.steps
    )
    one, two = (dqn.loss(Sequence(steps, data.valid))["td_loss"].item() for steps in (data.steps, other))
    assert one == pytest.approx(two, rel=1e-6)


def test_one_update_moves_q_alone_and_its_copy_follows() -> None:
    dqn = agent(target=TargetUpdate(tau=0.25))
    before = parameters(dqn)
    dqn.update(batch())
    of_q = {name for name in before if name.startswith("policy.")}
    assert with_gradient(dqn) == of_q and moved(dqn, before) == set(before)


@cells
def test_what_it_learns_is_what_it_acts_by(cell: str) -> None:
    """Acting step by step from the episode's beginning gives the argmax of the values that the loss unrolls."""
    dqn, steps = agent(cell, burn_in=0, after=(6,), exploration=EpsilonGreedy(0.0)), 7
    obs = torch.randn(steps, 5, 4)
    start = torch.zeros(steps, 5, dtype=torch.bool)
    start[0] = True
    best = dqn.values(obs, dqn.memories(dqn.policy.body, obs, start)).argmax(-1)
    dqn.policy.refresh()
    state, rng = np.zeros((5, dqn.policy.state_size), np.float32), np.random.default_rng(0)
    for t in range(steps):
        act = dqn.policy.act(obs[t].numpy(), state, rng, explore=False)
        state = act.state
        assert np.array_equal(act.action, best[t])


def test_the_diagnostic_remembers() -> None:
    """The value where an episode was cut is read with the memory of the cut, that of its start without any."""
    dqn, (first, final), state = agent(), torch.randn(2, 3, 4), torch.randn(3, 8)
    logged: dict[str, torch.Tensor] = {}
    dqn.log_dict = lambda values, **_: logged.update(values)
    nothing = torch.zeros(3)
    dqn.validation_step(EpisodeResults(nothing, nothing, first, nothing, final, nothing + 0.5, state), 0)
    body, head = dqn.q
    values = [head(body.step(*at)[0]).max(-1).values for at in ((first, torch.zeros(3, 8)), (final, state))]
    assert logged["val/start_value"].item() == pytest.approx(values[0].mean().item())
    assert logged["val/overestimation"].item() == pytest.approx((values[0] - 0.5 * values[1]).mean().item())


def t_maze(folder: Path, body) -> float:
    data = SequenceReplay(2_000, 32, 0.25, warmup=200, steps_per_epoch=2_400, steps_per_batch=800, length=4, burn_in=2)
    env = Env("lit_rl.envs.toy:lit_rl/TMaze-v0", num_envs=4, kwargs={"corridor": 2})
    exploration = EpsilonGreedy(Linear(1.0, 0.1, 1_500))
    dqn = RecurrentDQN(env, data, QNetwork(body), Optimizer(3e-3), 0.9, exploration, TargetUpdate(tau=0.05))
    learn(dqn, folder, 1)
    return float(dqn.val_dataloader().play().returns.mean())


@pytest.mark.medium
def test_a_sign_is_remembered_and_without_a_memory_it_is_not(tmp_path: Path) -> None:
    """Formula sheet 3.3a: the best of the T-maze is 1; whoever forgets has 0, give or take chance."""
    assert t_maze(tmp_path, Recurrent(MLP((16,)), 16, "gru")) == 1.0
    assert t_maze(tmp_path, MLP((16,))) < 0.9


def test_other_agents_refuse_a_memory() -> None:
    from lit_rl import DoubleDQN

    with pytest.raises(ValueError, match="use a body without one"):
        DoubleDQN("CartPole-v1", net=QNetwork(Recurrent()))
    with pytest.raises(ValueError, match=r"RecurrentDQN\.huber_delta is 0"):
        agent(huber_delta=0.0)
    with pytest.raises(ValueError, match=r"RecurrentDQN\.n_step is 0"):
        agent(n_step=0)


@cells
def test_it_learns_and_is_validated_in_double_precision(cell: str, tmp_path: Path) -> None:
    """The memory of acting is in float32, the cell is not."""
    dqn = tiny("RecurrentDQN", net=QNetwork(Recurrent(MLP((8,)), 8, cell)))
    trainer(tmp_path, precision="64-true", limit_val_batches=1).fit(dqn)
    assert dqn.updates > 0 and dqn.policy.body.cell.weight_hh.dtype == torch.float64
