import gymnasium
import numpy as np
import pytest
import torch

from lit_rl.planning.pendulum import pendulum_optimum, pendulum_policy, pendulum_regret, pendulum_values


@pytest.fixture(scope="module")
def env():
    return gymnasium.make("Pendulum-v1")


def starts(env, seeds) -> torch.Tensor:
    """First states of the env: the seed of each, or None to go on without one."""
    rows = []
    for seed in seeds:
        env.reset(seed=seed)
        rows.append(env.unwrapped.state)
    return torch.tensor(np.array(rows))


def test_the_model_is_the_environment(env):
    # The greedy policy earns in the real environment what the simulation says.
    expected = pendulum_optimum(starts(env, range(3)))
    for seed in range(3):
        env.reset(seed=seed)
        total, truncated, t = 0.0, False, 0
        while not truncated:
            angle, speed = torch.tensor(env.unwrapped.state).float()
            action = pendulum_policy(angle[None], speed[None], t)
            _, reward, _, truncated, _ = env.step(action.numpy())
            total, t = total + float(reward), t + 1
        assert t == 200 and total == pytest.approx(expected[seed].item(), abs=0.05)


def test_means_over_known_starts(env):
    # Independent dynamic programming gave −141.8, −108 (a greedy rollout each).
    assert pendulum_optimum(starts(env, range(200))).mean().item() == pytest.approx(-141.8, abs=0.5)
    seeds = [seed for i in range(10) for seed in (10000 + i, None, None, None, None)]
    assert pendulum_optimum(starts(env, seeds)).mean().item() == pytest.approx(-108.0, abs=1.0)


def test_values_and_simulation_agree():
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(300, 2, generator=generator) * 2 - 1
    rows[:, 0] *= torch.pi
    values = pendulum_values()
    nearest = values[0, ((rows[:, 0] / torch.pi + 1) * 90).round().long(), ((rows[:, 1] / 8 + 1) * 80).round().long()]
    optimum = pendulum_optimum(rows)
    assert (optimum - nearest).mean().abs() < 4
    assert (optimum - nearest).abs().median() < 3


def test_what_is_certain():
    values = pendulum_values()
    assert (values[200] == 0).all() and (values <= 0).all()
    assert torch.allclose(values[:, 0], values[:, -1], atol=1e-3)  # −π is π
    assert torch.allclose(values, values.flip(1, 2), atol=0.05)  # mirror symmetry
    upright = torch.zeros(1, 2)
    assert pendulum_optimum(upright).item() == pytest.approx(0.0, abs=1e-3)
    assert pendulum_regret(upright, torch.tensor([-7.0])).item() == pytest.approx(7.0, abs=1e-3)


def test_full_turns_do_not_matter():
    row = torch.tensor([[1.0, 0.5]])
    turned = row + torch.tensor([[4 * torch.pi, 0.0]])
    assert pendulum_optimum(turned).item() == pytest.approx(pendulum_optimum(row).item(), abs=0.2)
