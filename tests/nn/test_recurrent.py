import pytest
import torch

from lit_rl.nn.body import CNN, MLP, Recurrent
from tests.nn.test_body import MIXED, PLANES, SPACES, VECTOR, sample, tensors

T, N = 7, 3


def segment(obs, t=None):
    """Rows [T * N, ...] as [T, N, ...], or the row of one step."""
    if isinstance(obs, dict):
        return {key: segment(value, t) for key, value in obs.items()}
    whole = obs.reshape(T, N, *obs.shape[1:])
    return whole if t is None else whole[t]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize(
    ("body", "space"),
    [
        (MLP(()), VECTOR),
        (MLP((64, 64)), VECTOR),
        (MLP((16,)), SPACES["dict"][0]),
        (CNN("small", 8), PLANES),
        (MLP((8,)), MIXED),
    ],
)
def test_unrolled_is_step_by_step(cell, body, space):
    torch.manual_seed(0)
    module = Recurrent(body, 16, cell).build(space).double()
    assert module.out_features == 16 and module.state_size == {"gru": 16, "lstm": 32}[cell]
    obs = tensors(sample(space, T * N))
    start = torch.rand(T, N) < 0.3
    start[0, 0], start[0, 1], start[3, 1] = True, False, True
    state = torch.randn(N, module.state_size, dtype=torch.float64)
    features, last = module(segment(obs), state, start)
    assert features.shape == (T, N, 16)
    for t in range(T):
        state = torch.where(start[t][:, None], 0.0, state)
        step, state = module.step(segment(obs, t), state)
        if body == MLP(()):
            assert torch.equal(step, features[t])  # the memory itself is bitwise the same
        else:  # matrix products of T·N and of N rows may differ in their last bit
            torch.testing.assert_close(step, features[t], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_layers_after_the_memory(cell):
    """Features are ReLU layers of the hidden state alone; the memory is that of a net without them."""
    module = Recurrent(MLP((8,)), 5, cell, after=[7, 4]).build(VECTOR)
    plain = Recurrent(MLP((8,)), 5, cell).build(VECTOR)
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("after")})
    obs, state, start = torch.randn(T, N, 3), torch.randn(N, module.state_size), torch.rand(T, N) < 0.3
    memory, last = plain(obs, state, start)
    features, same = module(obs, state, start)
    one, two = module.after[0], module.after[2]
    assert torch.equal(last, same) and features.shape == (T, N, 4) and module.out_features == 4
    torch.testing.assert_close(features, torch.relu(two(torch.relu(one(memory)))))
    with pytest.raises(ValueError, match=r"Recurrent\.after holds 0: a width"):
        Recurrent(after=[3, 0])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_nothing_passes_the_start_of_an_episode(cell):
    module = Recurrent(MLP((8,)), 8, cell).build(VECTOR)
    obs = torch.randn(T, N, 3, requires_grad=True)
    state = torch.randn(N, module.state_size, requires_grad=True)
    start = torch.zeros(T, N, dtype=torch.bool)
    start[4, 1] = True
    features, _ = module(obs, state, start)
    features[-1].sum(-1).sum().backward()
    assert not obs.grad[:4, 1].any() and obs.grad[4:, 1].abs().sum(-1).min() > 0
    assert not state.grad[1].any() and state.grad[0].any() and state.grad[2].any()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_agrees_with_torch_over_a_whole_sequence(cell):
    module = Recurrent(MLP(()), 5, cell).build(VECTOR)
    reference = (torch.nn.GRU if cell == "gru" else torch.nn.LSTM)(3, 5)
    reference.load_state_dict({f"{name}_l0": value for name, value in module.cell.state_dict().items()})
    obs = torch.randn(T, N, 3)
    features, _ = module(obs, torch.zeros(N, module.state_size), torch.zeros(T, N, dtype=torch.bool))
    torch.testing.assert_close(features, reference(obs)[0])


def test_initialisation_and_statistics():
    module = Recurrent(MLP((4,), normalize=True), 6).build(VECTOR)
    for gate in module.cell.weight_hh.split(6):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6))
    module.update_statistics(torch.randn(T, N, 3))
    assert module.body.normalizer is not None and module.body.normalizer.count == T * N
