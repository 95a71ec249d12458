"""Pendulum-v1 as a search wants it: plain numbers, and torques that are proposed, since there are too many to try.

The physics are those of :class:`lit_rl.planning.systems.pendulum.Pendulum`, whose tensors are made for thousands of
states at a time; a search takes one step after the other.
"""

from collections.abc import Sequence
from math import atan2, pi, sin
from random import Random
from typing import Any, NoReturn

from lit_rl.planning.search import World
from lit_rl.planning.search_model import Evaluate
from lit_rl.planning.systems.pendulum import Pendulum

PHYSICS = Pendulum()
DT, TORQUE, SPEED = PHYSICS.dt, PHYSICS.max_torque, PHYSICS.max_speed
LIFT = DT * 3.0 * PHYSICS.gravity / (2.0 * PHYSICS.length)
PUSH = DT * 3.0 / (PHYSICS.mass * PHYSICS.length**2)

State = tuple[float, float]


class PendulumWorld(World):
    """States (θ, θ̇), θ = 0 upright; actions (torque,). Of the time limit it knows nothing."""

    continuous = True
    actions_at_most = 0
    numbers_per_state = 2

    def actions(self, state: State) -> NoReturn:
        """There is no list of them.

        Raises:
            ValueError: always.
        """
        raise ValueError("PendulumWorld.actions: there are too many torques to list; a search has to widen")

    def propose(self, state: State, rng: Random) -> tuple[float]:
        """A torque from all over the box, one in three at its ends: that is where most of a swing-up happens."""
        draw = rng.uniform(-1.5 * TORQUE, 1.5 * TORQUE)
        return (min(max(draw, -TORQUE), TORQUE),)

    def step(self, state: State, action: tuple[float], rng: Random | None = None) -> tuple[State, float, bool]:
        """See :meth:`World.step`."""
        (angle, speed), (torque,) = state, action
        off = (angle + pi) % (2 * pi) - pi
        reward = -(off * off + 0.1 * speed * speed + 0.001 * torque * torque)
        speed = min(max(speed + LIFT * sin(angle) + PUSH * torque, -SPEED), SPEED)
        return (angle + DT * speed, speed), reward, False

    def read(self, obs: Any) -> State:
        """From (cos θ, sin θ, θ̇)."""
        x, y, speed = obs.tolist()
        return atan2(y, x), speed

    def write(self, state: State) -> Sequence[float]:
        """As it is."""
        return state

    def state(self, numbers: Sequence[float]) -> State:
        """As it was, to float32."""
        angle, speed = numbers
        return angle, speed

    def rollout(self, depth: int, gamma: float) -> Evaluate:
        """A torque that changes every fifth step on average: drawn anew in every step, torques cancel each other."""

        def evaluate(state: State, rng: Random) -> float:
            (angle, speed), draw, limit = state, rng.random, TORQUE
            value, discount, torque = 0.0, 1.0, limit * (2.0 * draw() - 1.0)
            for _ in range(depth):
                off = (angle + pi) % (2 * pi) - pi
                value -= discount * (off * off + 0.1 * speed * speed + 0.001 * torque * torque)
                speed = min(max(speed + LIFT * sin(angle) + PUSH * torque, -SPEED), SPEED)
                angle += DT * speed
                discount *= gamma
                if draw() < 0.2:
                    torque = limit * (2.0 * draw() - 1.0)
            return value

        return evaluate
