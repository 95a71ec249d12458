import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from lit_rl.nn.body import MLP
from lit_rl.nn.fast import numpy_forward
from lit_rl.nn.mlp import linear_head
from tests.nn.test_body import MIXED, SPACES, VECTOR, sample, tensors


def torch_forward(body, head, obs):
    with torch.no_grad():
        return head(body(tensors(obs))).numpy()


@pytest.mark.parametrize("name", sorted(SPACES.keys() - {"pixels"}))
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
def test_equals_torch(name, activation):
    torch.manual_seed(0)
    space, _ = SPACES[name]
    body, head = MLP((64, 64), activation).build(space), linear_head(64, 3)
    obs = sample(space, 8)
    before = copy.deepcopy(obs)
    result = numpy_forward(body, head)(obs)
    assert result.shape == (8, 3) and result.dtype == np.float32
    summands = (body(tensors(obs)).abs() @ head.weight.abs().T).max().item()  # outputs may nearly cancel
    np.testing.assert_allclose(result, torch_forward(body, head, obs), rtol=0, atol=1e-6 * summands)
    assert pickle.dumps(obs) == pickle.dumps(before)  # the observation is not written to


@pytest.mark.parametrize("activation", ["elu", "silu", "tanh"])
def test_large_inputs_raise_no_warning_and_agree(activation):
    body, head = MLP((16,), activation, orthogonal=False).build(VECTOR), linear_head(16, 2)
    x = np.array([[1e4, -1e4, 0.0], [-1e3, 1e3, 1e3]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        result = numpy_forward(body, head)(x)
    np.testing.assert_allclose(result, torch_forward(body, head, x), rtol=1e-5)


def test_sees_optimiser_steps_and_new_statistics_without_rebuilding():
    torch.manual_seed(0)
    body, head = MLP((8,), normalize=True).build(VECTOR), linear_head(8, 2)
    forward = numpy_forward(body, head)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.1)
    x = sample(VECTOR, 4)
    old = forward(x)
    for _ in range(3):
        head(body(torch.from_numpy(x))).square().sum().backward()
        optimizer.step()
        body.update_statistics(torch.from_numpy(x) * 3 + 1)
    assert np.abs(forward(x) - old).max() > 0.01
    np.testing.assert_allclose(forward(x), torch_forward(body, head, x), rtol=1e-5, atol=1e-6)
    assert not forward.stale()


def test_knows_when_it_reads_old_memory():
    body, head = MLP((8,), normalize=True).build(VECTOR), linear_head(8, 2)
    forward = numpy_forward(body, head)
    body.load_state_dict(copy.deepcopy(body.state_dict()))  # copies in place
    assert not forward.stale()
    head.bias = nn.Parameter(head.bias.detach() + 1)
    assert forward.stale()
    forward = numpy_forward(body, head)
    body.share_memory()
    assert forward.stale()
    assert not numpy_forward(body, head).stale()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_reads_the_copied_parameters(duplicate):
    body, head = MLP((8,)).build(VECTOR), linear_head(8, 2)
    holder = {"head": head, "forward": numpy_forward(body, head)}
    twin = duplicate(holder)
    with torch.no_grad():
        twin["head"].bias.add_(5.0)
    x = sample(VECTOR, 2)
    np.testing.assert_allclose(twin["forward"](x), holder["forward"](x) + 5, rtol=1e-6)


def test_is_reentrant():
    body, head = MLP((32, 32)).build(VECTOR), linear_head(32, 2)
    forward = numpy_forward(body, head)
    inputs = [sample(VECTOR, 8, seed) for seed in range(50)]
    expected = [forward(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for result, right in zip(pool.map(forward, inputs), expected, strict=True):
            np.testing.assert_array_equal(result, right)


def test_a_plain_sequence_of_layers():
    layers = nn.Sequential(nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh()), nn.Linear(4, 1))
    x = np.ones((2, 3))  # float64 is taken too
    expected = layers(torch.ones(2, 3)).detach().numpy()
    np.testing.assert_allclose(numpy_forward(layers)(x), expected, rtol=1e-6)


def hooked() -> nn.Module:
    layer = nn.Linear(3, 3)
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    return layer


class Doubling(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "modules",
    [
        (MLP(layer_norm=True).build(VECTOR),),
        (MLP().build(MIXED),),
        (MLP().build(VECTOR).double(),),
        (MLP(()).build(VECTOR),),
        (nn.Tanh(), nn.Linear(3, 3)),  # would write into the observation
        (nn.Linear(3, 3), nn.ELU(0.5)),
        (nn.Linear(3, 3), nn.Dropout(0.5)),
        (nn.Linear(3, 3), MLP().build(spaces.Box(-1.0, 1.0, (3,)))),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),),
        (nn.Linear(3, 3, device="meta"),),
        (hooked(),),
        (Doubling(nn.Linear(3, 3)),),
        (),
    ],
)
def test_what_it_does_not_understand_it_leaves_to_torch(modules):
    assert numpy_forward(*modules) is None
