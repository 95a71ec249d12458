"""What a loss needs around it when no trainer is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from lightning.pytorch import seed_everything
from lightning.pytorch.core.optimizer import LightningOptimizer

import lit_rl
from lit_rl.agent import Agent
from lit_rl.batch import Transition
from lit_rl.data.experience import Experience, Round
from lit_rl.descent import Descent
from tests.checks import without_checks


class Learnt(Experience):
    """Takes what a memory would: the rows learnt from and their TD errors."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def next_round(self) -> Round:
        raise NotImplementedError

    def learnt(self, index: torch.Tensor, td_error: torch.Tensor) -> None:
        self.index, self.td_error = index, td_error.detach()


class Direct(LightningOptimizer):
    """Steps without asking a strategy."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return self._optimizer.step()


def detached(agent: Agent) -> Agent:
    """Let ``loss`` and ``update`` run without a trainer, with a real optimiser."""
    optimizer = Direct(agent.configure_optimizers())
    agent.optimizers = lambda: optimizer  # type: ignore[method-assign]
    agent.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment]
    agent.descent = Descent(agent, direct=False)
    agent._experience = Learnt()  # type: ignore[assignment]
    return agent


def transitions(obs: Any, action: Any, reward: Any, discount: Any, next_obs: Any, weight: Any = None) -> Transition:
    reward = torch.as_tensor(reward, dtype=torch.float32)
    return Transition(
        obs=obs,
        action=torch.as_tensor(action),
        reward=reward,
        discount=torch.as_tensor(discount, dtype=torch.float32),
        next_obs=next_obs,
        log_prob=torch.zeros_like(reward),
        weight=torch.ones_like(reward) if weight is None else torch.as_tensor(weight),
        index=torch.arange(len(reward)),
    )


def moved(agent: Agent, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of the parameters that differ from ``before``."""
    return {name for name, p in agent.named_parameters() if not torch.equal(p, before[name])}


def parameters(agent: Agent) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in agent.named_parameters()}


def with_gradient(agent: Agent) -> set[str]:
    """Names of the parameters that a backward reached."""
    return {name for name, p in agent.named_parameters() if p.grad is not None and bool(p.grad.any())}


def learn(agent: Agent, folder: Any, epochs: int, seed: int = 1, precision: Any = "32-true") -> Agent:
    """Train quietly for some epochs."""
    seed_everything(seed, verbose=False)
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False, "limit_val_batches": 0}
    with without_checks():
        lit_rl.Trainer(str(folder), epochs, precision=precision, **quiet).fit(agent)
    return agent


def precision_survives_autocast(agent: Callable[[], Agent], folder: Path) -> None:
    """An epoch of 20 updates under bf16-mixed leaves the same weights as under 32-true."""
    plain, mixed = (
        learn(agent(), folder / precision, 1, precision=precision) for precision in ("32-true", "bf16-mixed")
    )
    assert mixed.updates == 20
    for name, p in plain.named_parameters():
        torch.testing.assert_close(dict(mixed.named_parameters())[name], p)


class Chain(gymnasium.Env):
    """States 0 … 4, left and right, as a one-hot vector; reaching 4 pays 1 and terminates, a step left pays 0.1."""

    observation_space = spaces.Box(0, 1, (5,), "float32")
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place, self.steps = int(self.np_random.integers(4)), 0
        return self._obs(), {}

    def _obs(self) -> Any:
        return np.eye(5, dtype=np.float32)[self.place]

    def step(self, action: int) -> Any:
        self.steps += 1
        self.place = self.place + 1 if action == 1 else max(0, self.place - 1)
        reward = float(self.place == 4) if action == 1 else 0.1
        return self._obs(), reward, self.place == 4, self.steps >= 6, {}


class Level(gymnasium.Env):
    """Constant reward 1 with a box of actions; truncated after 5 steps, never terminated: V = 1/(1 − γ)."""

    observation_space = spaces.Box(-1, 1, (1,), "float32")
    action_space = spaces.Box(-1, 1, (1,), "float32")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.low * 0, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observation_space.low * 0, 1.0, False, self.steps >= 5, {}


class Quadratic(gymnasium.Env):
    """One step, reward −(a − m)² / 2c with m = 0.3 and c = 0.5: the entropy-regularised optimum is N(m, αc)."""

    m, c = 0.3, 0.5
    observation_space = spaces.Box(-1, 1, (1,), "float32")
    action_space = spaces.Box(-2, 2, (1,), "float32")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.low * 0, {}

    def step(self, action: Any) -> Any:
        reward = -((float(action[0]) - self.m) ** 2) / (2 * self.c)
        return self.observation_space.low * 0, reward, True, False, {}


for cls in (Chain, Level, Quadratic):
    if f"{cls.__name__}-v9" not in gymnasium.registry:
        gymnasium.register(f"{cls.__name__}-v9", cls)
