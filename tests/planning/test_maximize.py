"""The searches over a box, on quadratics whose argmax is known: inside, at a side, at a corner."""

import numpy as np
import pytest
import torch

from lit_rl.planning.maximize import CEMMaximizer, CMAESMaximizer, GradientMaximizer, Maximizer, SamplingMaximizer

LOW, HIGH = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])
PEAK = torch.tensor([[0.3, -1.0], [2.0, 0.5], [-0.7, 0.7], [-3.0, 5.0]])
ARGMAX = torch.tensor([[0.3, -1.0], [1.0, 0.5], [-0.7, 0.7], [-1.0, 2.0]])  # the nearest point of the box

SEARCHES = {
    "sampling": (SamplingMaximizer(4096), 0.15),
    "cem": (CEMMaximizer(6), 0.02),
    "gradient": (GradientMaximizer(4, 40), 0.05),
    "cma_es": (CMAESMaximizer(25), 0.02),
}


def quadratic(action: torch.Tensor) -> torch.Tensor:
    return -((action - PEAK[:, None]) ** 2).sum(-1)


def search(maximizer: Maximizer, seed: int = 0, shared: bool = False):
    rows = len(PEAK)
    draws = maximizer.draws(1 if shared else rows, 2, torch.Generator().manual_seed(seed))
    return maximizer.maximize(quadratic, LOW, HIGH, rows, draws)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", SEARCHES)
def test_the_argmax_of_a_quadratic(name: str, shared: bool) -> None:
    """Formula sheet 7.5.1a; what is returned lies in the box, and its value is that of the action."""
    maximizer, tolerance = SEARCHES[name]
    found = search(maximizer, shared=shared)
    torch.testing.assert_close(found.action, ARGMAX, atol=tolerance, rtol=0)
    torch.testing.assert_close(found.value, quadratic(found.action[:, None])[:, 0])
    assert (found.action >= LOW).all() and (found.action <= HIGH).all()
    assert not found.action.requires_grad and not found.value.requires_grad


@pytest.mark.parametrize("name", SEARCHES)
def test_equal_draws_give_equal_answers_and_others_do_not(name: str) -> None:
    maximizer, _ = SEARCHES[name]
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    one, same, other = search(maximizer, 1), search(maximizer, 1), search(maximizer, 2)
    assert torch.equal(one.action, same.action) and not torch.equal(one.action, other.action)
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("name", SEARCHES)
def test_one_dimension(name: str) -> None:
    maximizer, tolerance = SEARCHES[name]
    draws = maximizer.draws(2, 1, torch.Generator().manual_seed(0))
    found = maximizer.maximize(lambda a: -((a[..., 0] - 0.25) ** 2), LOW[:1], HIGH[:1], 2, draws)
    torch.testing.assert_close(found.action, torch.full((2, 1), 0.25), atol=tolerance, rtol=0)


def test_random_shooting_misses_by_the_root_of_its_samples() -> None:
    """Distance to the argmax ~ N^(−1/A): in two dimensions sixteen times the samples halve it twice."""
    miss = []
    for samples in (64, 1024):
        maximizer = SamplingMaximizer(samples)
        draws = maximizer.draws(2_000, 2, torch.Generator().manual_seed(0))
        found = maximizer.maximize(lambda a: -((a - PEAK[0]) ** 2).sum(-1), LOW, HIGH, 2_000, draws)
        miss.append((found.action - PEAK[0]).norm(dim=-1).mean().item())
    assert miss[0] / miss[1] == pytest.approx(4.0, rel=0.1)


def test_cem_by_hand() -> None:
    """One iteration keeps its best sample; a second one is centred on the elites' mean, with their deviation.

    value −(a − 0.5)², normals (0, 1, −1) · half width 1: candidates 0, 1, −1; elites 0 and 1 have mean ½ and
    deviation ½, so that the normal 0 finds ½ exactly.
    """
    draws = torch.tensor([[[[0.0], [1.0], [-1.0]]], [[[0.0], [2.0], [-2.0]]]])
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])

    def value(a: torch.Tensor) -> torch.Tensor:
        return -((a[..., 0] - 0.5) ** 2)

    first = CEMMaximizer(1, 3, 2).maximize(value, low, high, 1, draws[:1])
    assert first.value.item() == -0.25
    both = CEMMaximizer(2, 3, 2).maximize(value, low, high, 1, draws)
    assert both.action.item() == 0.5 and both.value.item() == 0.0


def test_gradients_do_not_depend_on_the_scale_and_leave_the_values_alone() -> None:
    weight = torch.tensor(1.0, requires_grad=True)
    found = []
    for scale in (1.0, 1e-6):
        maximizer = GradientMaximizer(2, 30)
        draws = maximizer.draws(4, 2, torch.Generator().manual_seed(0))
        with torch.no_grad():
            found.append(maximizer.maximize(lambda a, s=scale: s * weight * quadratic(a), LOW, HIGH, 4, draws).action)
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
    assert weight.grad is None


def test_without_pycma_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_rl.planning.cma_es.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'lit_rl\[cma\]'"):
        CMAESMaximizer()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SamplingMaximizer\.samples is 0"):
        SamplingMaximizer(0)
    with pytest.raises(ValueError, match="elites is 9 of 8 samples"):
        CEMMaximizer(2, 8, 9)
    with pytest.raises(ValueError, match=r"GradientMaximizer\.step_size is 0"):
        GradientMaximizer(step_size=0.0)
    with pytest.raises(ValueError, match=r"CMAESMaximizer\.population is 3"):
        CMAESMaximizer(population=3)
