"""The linear-quadratic world that is known by heart. Importing this module registers it with Gymnasium."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Info = dict[str, Any]


class DoubleIntegrator(gymnasium.Env[Any, Any]):
    """A mass on a line: p' = p + dt v, v' = v + dt u, plus noise; reward −(p² + v² + 0.1 u²).

    Observation (p, v), action u in ±10, which the optimal control of no start is near. Without noise the best return
    of a long episode is −xᵀPx, P = [[13.827049, 3.868012], [3.868012, 4.961518]]; each step with noise costs
    ``noise``² tr P more. Registered with a limit of 100 steps.
    Formula sheet 9.1.1a, 9.2a.

    Args:
        dt: seconds in a step.
        noise: standard deviation of what is added to p and v in every step.
    """

    def __init__(self, dt: float = 0.1, noise: float = 0.0) -> None:
        if not (dt > 0 and noise >= 0):
            raise ValueError(f"DoubleIntegrator: dt is {dt} and noise {noise}; one is positive, the other at least 0")
        self.dt, self.noise = dt, noise
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-10.0, 10.0, (1,), np.float32)
        self.state = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Anywhere in [−1, 1]²."""
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1.0, 1.0, 2)
        return self.state.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Push; it never ends by itself."""
        (force,) = np.clip(np.asarray(action, np.float64), -10.0, 10.0)
        position, speed = self.state
        reward = -float(position**2 + speed**2 + 0.1 * force**2)
        self.state = np.array([position + self.dt * speed, speed + self.dt * force])
        if self.noise:
            self.state += self.noise * self.np_random.standard_normal(2)
        return self.state.astype(np.float32), reward, False, False, {}


if "lit_rl/DoubleIntegrator-v0" not in gymnasium.registry:
    gymnasium.register("lit_rl/DoubleIntegrator-v0", entry_point=f"{__name__}:DoubleIntegrator", max_episode_steps=100)
