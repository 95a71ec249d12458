"""The searches behind the planners, on functions: evaluations needed, memory, coloured noise."""

import math

import gymnasium
import numpy as np
import pytest
import torch

from lit_rl.planning.cem import cross_entropy
from lit_rl.planning.cma_es import cma_es, population_size
from lit_rl.planning.planner import colour
from lit_rl.planning.systems.cart_pole import CartPole


def cem(value, dimensions, iterations, samples=500, seed=0, **more):
    draws = torch.Generator().manual_seed(seed)
    normals = torch.randn(iterations, 1, samples, dimensions, generator=draws, dtype=torch.float64)
    edge = torch.ones(dimensions, dtype=torch.float64)
    mean = torch.zeros(1, dimensions, dtype=torch.float64)
    return cross_entropy(value, -edge, edge, normals, mean, edge[None], **{"elites": samples // 10, **more})


@pytest.mark.parametrize(("dimensions", "iterations"), [(1, 5), (5, 20), (15, 20), (30, 60)])
def test_cem_within_its_evaluations_of_a_quadratic(dimensions, iterations):
    """Formula sheet 9.0.2a: error below 1e-3 after so many iterations of 500 samples, 50 elites, β = 0.1."""
    peak = torch.linspace(-0.6, 0.7, dimensions, dtype=torch.float64)
    found = cem(lambda a: -(a - peak).square().sum(-1), dimensions, iterations, momentum=0.1)
    assert (found.mean - peak).norm() < 1e-3


def test_cem_where_everything_is_elite_stays():
    """M = N: the mean of all samples is the old mean, up to sampling noise, and so is the deviation."""
    found = cem(lambda a: a.sum(-1), 2, 1, samples=100_000, elites=100_000)
    assert found.mean.abs().max() < 0.01
    narrow = torch.full((1, 2), 0.2, dtype=torch.float64)  # where nothing is clipped
    normals = torch.randn(1, 1, 100_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edge = torch.ones(2, dtype=torch.float64)
    found = cross_entropy(lambda a: a.sum(-1), -edge, edge, normals, torch.zeros_like(narrow), narrow, 100_000)
    assert found.deviation == pytest.approx(narrow.numpy(), rel=0.01)


def test_the_elites_of_a_linear_value_are_a_truncated_normal():
    """E[a | a > z_ρ] = φ(z_ρ)/ρ and its variance, for the best share ρ = 0.1 of N(0, s²)."""
    normals = torch.randn(1, 1, 400_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edge, s = torch.full((1,), torch.inf, dtype=torch.float64), torch.full((1, 1), 0.3, dtype=torch.float64)
    found = cross_entropy(lambda a: a[..., 0], -edge, edge, normals, 0 * s, s, 40_000)
    z, density = 1.2815515655, 0.1754983319
    assert found.mean.item() == pytest.approx(0.3 * density / 0.1, rel=7e-3)  # 4 standard errors
    variance = 1 + z * density / 0.1 - (density / 0.1) ** 2
    assert found.deviation.item() == pytest.approx(0.3 * variance**0.5, rel=1e-2)


def test_momentum_floor_and_returning_by_hand():
    """Candidates 0, 1, −1 of value −(a − ½)²; elites 0 and 1: mean ½, variance ¼. Old mean 0, variance 1, β = ½."""
    edge = torch.ones(1)
    normals = [torch.tensor([[[0.0], [1.0], [-1.0]]])]

    def value(a):
        return -((a[..., 0] - 0.5) ** 2)

    start = torch.zeros(1, 1), torch.ones(1, 1)
    found = cross_entropy(value, -edge, edge, normals, *start, elites=2, momentum=0.5)
    assert found.mean.item() == 0.25 and found.deviation.item() == pytest.approx(0.625**0.5)
    floored = cross_entropy(value, -edge, edge, normals, *start, elites=2, floor=0.9)
    assert floored.deviation.item() == pytest.approx(0.9)
    known = torch.tensor([[[0.4], [0.9]]])
    back = cross_entropy(value, -edge, edge, normals, *start, elites=2, returning=known, keep=1)
    assert back.kept.flatten().tolist() == pytest.approx([0.4]) and back.best.action.item() == pytest.approx(0.4)
    assert back.mean.item() == pytest.approx((0.4 + 0.9) / 2)  # 0.4 and 0.9 at a distance of 0.1 and 0.4; 0, 1: 0.5


def test_kept_elites_never_lose_the_best():
    """With a value that no new sample improves, what was kept is still the best at the end."""
    peak = torch.full((8,), 0.5, dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    normals = [torch.randn(1, n, 8, generator=draws, dtype=torch.float64) for n in (20, 10, 10)]
    edge = torch.ones(8, dtype=torch.float64)
    start = torch.zeros(1, 8, dtype=torch.float64)
    found = cross_entropy(
        lambda a: -(a - peak).norm(dim=-1),
        -edge,
        edge,
        normals,
        start,
        edge[None],
        5,
        returning=peak[None, None],
        keep=2,
    )
    assert torch.equal(found.kept[0, 0], peak) and found.best.value.item() == 0.0


@pytest.mark.parametrize("horizon", [2, 7, 12])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_coloured_noise_has_its_spectrum_and_unit_variance(horizon, exponent):
    """The colouring is linear, x = M w: diag(M Mᵀ) = 1 and M's spectrum is f^(−β/2) exactly."""
    matrix = colour(torch.eye(horizon, dtype=torch.float64).unsqueeze(-1), exponent)[..., 0].T
    assert torch.allclose((matrix @ matrix.T).diagonal(), torch.ones(horizon, dtype=torch.float64))
    gain = np.abs(np.fft.rfft(matrix[:, 0].numpy()))
    frequency = np.maximum(np.fft.rfftfreq(horizon), 1 / horizon)
    assert gain * frequency ** (exponent / 2) == pytest.approx(gain[0] * frequency[0] ** (exponent / 2))


def test_colour_keeps_a_direction():
    white = torch.randn(2000, 20, 1, generator=torch.Generator().manual_seed(0))
    red = colour(white, 2.0)
    assert (white[:, 1:] * white[:, :-1]).mean().abs() < 0.02 and (red[:, 1:] * red[:, :-1]).mean() > 0.7


FUNCTIONS = {  # value, where to begin, evaluations of pycma itself (median of 5 seeds)
    "sphere": (lambda x: x.square().sum(-1), 0.5, 1410),
    "ellipsoid": (lambda x: (x.square() * 1e6 ** torch.linspace(0, 1, 10, dtype=x.dtype)).sum(-1), 0.5, 4080),
    "rosenbrock": (
        lambda x: (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1),
        0.0,
        4970,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_cma_es_within_its_evaluations(name):
    """10 dimensions to 1e-9 in at most 1.5 times the evaluations that pycma takes on its own."""
    function, start, usual = FUNCTIONS[name]
    size = population_size(10)
    generations = int(1.5 * usual / size)
    normals = torch.randn(generations, 1, size, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    edge = torch.full((10,), torch.inf, dtype=torch.float64)
    seen = []

    def enough(best):
        seen.append(best.value)
        return bool(best.value > -1e-9)

    mean = torch.full((1, 10), start, dtype=torch.float64)
    best = cma_es(lambda x: -function(x), -edge, edge, normals, mean, 0.5, enough)
    assert best.value.item() > -1e-9 and 0.5 * usual < len(seen) * size <= 1.5 * usual


def balanced(weights: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Steps that u = sign(w · s) keeps the pole of CartPole-v1 up, of at most 500, for each of [N, 4] × [E, 4]."""
    system, state = CartPole(), starts.expand(len(weights), -1, -1)
    up, steps = torch.ones(state.shape[:-1], dtype=torch.bool), torch.zeros(state.shape[:-1], dtype=torch.float64)
    for _ in range(500):
        push = torch.where((state * weights[:, None]).sum(-1, keepdim=True) > 0, system.max_force, -system.max_force)
        state, steps = system(state, push), steps + up
        up = up & (state[..., 0].abs() <= 2.4) & (state[..., 2].abs() <= math.radians(12))
    return steps


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_the_weights_of_a_linear_policy(seed, unchecked):
    """CartPole: 12 generations of 50 policies, two episodes each (Szita & Lőrincz 2006); then 500 from 100 starts."""
    draws = torch.Generator().manual_seed(seed)
    begin = lambda count: 0.1 * torch.rand(count, 4, generator=draws, dtype=torch.float64) - 0.05  # noqa: E731
    normals = torch.randn(12, 1, 50, 4, generator=draws, dtype=torch.float64)
    anything = torch.full((4,), torch.inf, dtype=torch.float64)
    value = lambda weights: balanced(weights[0], begin(2)).mean(-1)[None]  # noqa: E731
    first = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    found = cross_entropy(value, -anything, anything, normals, *first, elites=10, floor=0.05)
    env = gymnasium.make("CartPole-v1")
    starts = torch.tensor(np.stack([env.reset(seed=start)[0] for start in range(100)]), dtype=torch.float64)
    assert (balanced(found.mean, starts) == 500).all()
