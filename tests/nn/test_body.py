import pickle

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_rl.nn.body import CNN, MLP, Body, Recurrent
from lit_rl.nn.flatten import Flatten
from lit_rl.nn.mlp import init_orthogonal_, linear_head, mlp

PIXELS = spaces.Box(0, 255, (3, 40, 36), np.uint8)
PLANES = spaces.Box(0, 1, (4, 10, 10), np.bool_)
VECTOR = spaces.Box(-2.0, 2.0, (3,), np.float32)

# each space, and the width of its flat observation
SPACES: dict[str, tuple[gymnasium.Space, int]] = {
    "vector": (VECTOR, 3),
    "float64": (spaces.Box(-1.0, 1.0, (2,), np.float64), 2),
    "matrix": (spaces.Box(-1.0, 1.0, (2, 5), np.float32), 10),
    "scalar": (spaces.Box(-1.0, 1.0, (), np.float32), 1),
    "discrete": (spaces.Discrete(5, start=-2), 5),
    "multi_discrete": (spaces.MultiDiscrete([3, 2], start=[0, 7]), 5),
    "multi_discrete_2d": (spaces.MultiDiscrete([[2, 3], [4, 2]]), 11),
    "multi_binary": (spaces.MultiBinary(4), 4),
    "pixels": (PIXELS, 3 * 40 * 36),
    "planes": (PLANES, 400),
    "dict": (
        spaces.Dict(
            {
                "goal": spaces.Dict({"place": spaces.Discrete(4), "speed": VECTOR}),
                "arm": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
                "action_mask": spaces.MultiBinary(6),
            }
        ),
        4 + 3 + 4,
    ),
}
MIXED = spaces.Dict({"camera": PIXELS, "map": PLANES, "speed": VECTOR, "action_mask": spaces.MultiBinary(2)})


def sample(space: gymnasium.Space, n: int, seed: int = 0):
    if isinstance(space, spaces.Dict):
        return {key: sample(inner, n, seed) for key, inner in space.spaces.items()}
    space.seed(seed)
    return np.stack([np.asarray(space.sample()) for _ in range(n)])


def tensors(obs):
    if isinstance(obs, dict):
        return {key: tensors(value) for key, value in obs.items()}
    return torch.from_numpy(obs)


@pytest.mark.parametrize("name", SPACES)
def test_flatten_agrees_with_gymnasium_and_with_its_numpy_twin(name):
    space, width = SPACES[name]
    flatten = Flatten(space)
    obs = sample(space, 6)
    flat = flatten(tensors(obs))
    assert flatten.out_features == width
    assert flat.shape == (6, width) and flat.dtype == torch.float32
    twin = flatten.numpy(obs)
    assert twin.dtype == np.float32
    np.testing.assert_array_equal(twin, flat.numpy())
    if name == "dict":  # goal.place | goal.speed side by side, after arm; no mask
        np.testing.assert_array_equal(twin[:, :4], obs["arm"].reshape(6, 4))
        np.testing.assert_array_equal(twin[:, 4:8].argmax(-1), obs["goal"]["place"])
        np.testing.assert_array_equal(twin[:, 8:], obs["goal"]["speed"])
    else:
        high = 255 if name == "pixels" else 1
        expected = np.stack([spaces.flatten(space, row) for row in obs]).astype(np.float32) / np.float32(high)
        np.testing.assert_array_equal(twin, expected)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("leading", [(6,), (2, 3), (1, 3, 2)])
def test_mlp_maps_every_space_and_any_leading_axes(name, leading):
    space, _ = SPACES[name]
    module = MLP((8, 5)).build(space)
    obs = tensors(sample(space, 6))
    flat = module(obs)
    assert module.out_features == 5 and module.state_size == 0 and module.normalizer is None

    def shaped(x):
        return {k: shaped(v) for k, v in x.items()} if isinstance(x, dict) else x.reshape(*leading, *x.shape[1:])

    torch.testing.assert_close(module(shaped(obs)), flat.reshape(*leading, 5))


@pytest.mark.parametrize("body", [MLP((8,)), CNN("nature", 7), CNN("small"), CNN("small", orthogonal=False)])
def test_pictures_and_vectors_meet(body):
    space = (
        MIXED
        if not (isinstance(body, CNN) and body.kind == "nature")
        else spaces.Dict({"camera": PIXELS, "speed": VECTOR})
    )
    module = body.build(space)
    obs = tensors(sample(space, 4))
    features = module(obs)
    assert features.shape == (4, module.out_features)
    module.update_statistics(obs)  # nothing to update, and no error
    for key in set(space.spaces) - {"action_mask"}:  # every entry is read
        changed = dict(obs)
        changed[key] = obs[key].flip(0)
        assert not torch.equal(module(changed), features), key
    assert torch.equal(module({**obs, "action_mask": torch.zeros(4, 2)}), features)


def test_widths_of_the_convolutions():
    # nature: 84 → (84 − 8)/4 + 1 = 20 → (20 − 4)/2 + 1 = 9 → 9 − 3 + 1 = 7, and 64 · 7 · 7 = 3136
    nature = CNN().build(spaces.Box(0, 255, (4, 84, 84), np.uint8))
    assert nature.encoder.out_features == 3136 and nature.out_features == 512
    # small: 10 − 3 + 1 = 8, and 16 · 8 · 8 = 1024
    small = CNN("small").build(PLANES)
    assert small.encoder.out_features == 1024 and small.out_features == 128
    assert CNN("small", hidden=32).build(PLANES)(torch.zeros(2, 4, 10, 10, dtype=torch.bool)).shape == (2, 32)


def test_pixels_are_scaled_by_the_upper_bound_of_the_space():
    torch.manual_seed(0)
    scaled = CNN("small").build(PIXELS).double()
    raw = CNN("small", scale=False).build(PIXELS).double()
    raw.load_state_dict(scaled.state_dict())
    image = tensors(sample(PIXELS, 2))
    # no biases at the start and rectifiers throughout: the network is homogeneous of degree one
    torch.testing.assert_close(raw(image), 255 * scaled(image))
    bits = CNN("small").build(spaces.Box(0, 1, PIXELS.shape, np.uint8)).double()
    bits.load_state_dict(scaled.state_dict())
    torch.testing.assert_close(bits(image), 255 * scaled(image))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((64, 0)), "MLP.hidden"),
        (lambda: MLP((64.0,)), "MLP.hidden"),
        (lambda: MLP(activation="gelu"), "MLP.activation"),
        (lambda: CNN(kind="impala"), "CNN.kind"),
        (lambda: CNN(hidden=-1), "CNN.hidden"),
        (lambda: Recurrent(hidden=0), "Recurrent.hidden"),
        (lambda: Recurrent(cell="rnn"), "Recurrent.cell"),
        (lambda: Recurrent(Recurrent()), "one memory"),
        (lambda: CNN().build(VECTOR), "use MLP"),
        (lambda: CNN().build(PLANES), "36 pixels"),
        (lambda: CNN().build(spaces.Box(0, 255, (84, 84, 3), np.uint8)), "ChannelFirst"),
        (lambda: MLP().build(spaces.Box(0, 255, (84, 84, 1), np.uint8)), "ChannelFirst"),
        (lambda: MLP(normalize=True).build(PIXELS), "MLP.normalize"),
        (lambda: MLP().build(spaces.Dict({"words": spaces.Text(3)})), "words is a Text space"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "recipe", [MLP((32, 16), "relu", False, True, True), CNN("small", 9), Recurrent(MLP((4,)), 8, "gru")]
)
def test_recipes_are_values(recipe: Body):
    again = pickle.loads(pickle.dumps(recipe))
    assert again == recipe and hash(again) == hash(recipe)
    assert recipe != MLP()
    with pytest.raises(AttributeError):
        recipe.hidden = (1,)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("unchecked")
def test_a_list_from_yaml_is_the_same_recipe():
    assert MLP([64, 64]) == MLP() and MLP([64, 64]).hidden == (64, 64)
    assert MLP(()).build(VECTOR).out_features == 3  # no layers: the observation itself


def test_orthogonal_gains():
    layers = mlp((16, 8, 8))
    for layer in (layers[0], layers[2]):  # rows are orthogonal, of squared length gain² = 2
        torch.testing.assert_close(layer.weight @ layer.weight.T, 2 * torch.eye(8))
        assert not layer.bias.any()
    head = linear_head(64, 2, 0.01)
    torch.testing.assert_close(head.weight @ head.weight.T, 1e-4 * torch.eye(2))
    convolution = init_orthogonal_(torch.nn.Conv2d(2, 5, 3), 1.0)
    rows = convolution.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5))
    for recipe, orthogonal in ((MLP(), True), (MLP(orthogonal=False), False)):
        assert recipe.head_is_orthogonal == orthogonal == Recurrent(recipe).head_is_orthogonal


def test_without_orthogonal_torch_initialises():
    torch.manual_seed(3)
    layer = mlp((7, 5), orthogonal=False)[0]
    torch.manual_seed(3)
    assert torch.equal(layer.weight, torch.nn.Linear(7, 5).weight)


def test_layer_norm_stands_before_the_activation():
    module = MLP((6,), "relu", layer_norm=True).build(VECTOR)
    linear, norm, activation = module.layers
    assert isinstance(norm, torch.nn.LayerNorm) and isinstance(activation, torch.nn.ReLU)
    x = torch.randn(4, 3)
    y = linear(x)
    expected = ((y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()).relu()
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("body", "space"), [(MLP((4,), normalize=True), VECTOR), (CNN("small", 3), PLANES), (MLP((4,)), MIXED)]
)
def test_features_come_in_the_dtype_of_the_parameters(body, space, dtype):
    assert body.build(space).to(dtype)(tensors(sample(space, 2))).dtype == dtype


@pytest.mark.parametrize(
    ("body", "space"),
    [(MLP((8, 8), "elu", layer_norm=True), VECTOR), (CNN(hidden=8), PIXELS), (MLP((8,), "silu"), MIXED)],
)
def test_gradient_reaches_every_parameter(body, space):
    torch.manual_seed(0)
    module = body.build(space)
    module(tensors(sample(space, 5))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
