"""CartPole-v1 as a search wants it: plain numbers, one step in less than a microsecond.

The physics are those of :class:`lit_rl.planning.systems.cart_pole.CartPole`, whose tensors are made for thousands of
states at a time; a search takes one step after the other.
"""

from collections.abc import Sequence
from math import cos, pi, sin
from random import Random
from typing import Any

from lit_rl.planning.search import World
from lit_rl.planning.search_model import Evaluate
from lit_rl.planning.systems.cart_pole import CartPole

X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * pi / 360
PHYSICS = CartPole()
DT, FORCE = PHYSICS.dt, PHYSICS.max_force
MASS, MOMENT = PHYSICS.cart_mass + PHYSICS.pole_mass, PHYSICS.pole_mass * PHYSICS.half_length
GRAVITY, HALF_LENGTH, POLE_MASS = PHYSICS.gravity, PHYSICS.half_length, PHYSICS.pole_mass
NEAR = 1e-4  # predictions begin from observations in float32, whose errors grow with the pole's own instability

State = tuple[float, float, float, float]


class CartPoleWorld(World):
    """States (x, ẋ, θ, θ̇); 1 for every step. Of the time limit it knows nothing."""

    actions_at_most = 2
    numbers_per_state = 4

    def actions(self, state: State) -> Sequence[int]:
        """Push to the left, or to the right."""
        return (0, 1)

    def step(self, state: State, action: int, rng: Random | None = None) -> tuple[State, float, bool]:
        """See :meth:`World.step`."""
        x, speed, angle, spin = state
        sine, cosine = sin(angle), cos(angle)
        pushed = ((FORCE if action else -FORCE) + MOMENT * (spin * spin) * sine) / MASS
        turned = (GRAVITY * sine - cosine * pushed) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / MASS))
        x += DT * speed
        speed += DT * (pushed - MOMENT * turned * cosine / MASS)
        angle += DT * spin
        spin += DT * turned
        fell = not (-X_LIMIT <= x <= X_LIMIT and -ANGLE_LIMIT <= angle <= ANGLE_LIMIT)
        return (x, speed, angle, spin), 1.0, fell

    def read(self, obs: Any) -> State:
        """The observation is the state."""
        x, speed, angle, spin = obs.tolist()
        return x, speed, angle, spin

    def write(self, state: State) -> Sequence[float]:
        """As it is."""
        return state

    def state(self, numbers: Sequence[float]) -> State:
        """As it was, to float32."""
        x, speed, angle, spin = numbers
        return x, speed, angle, spin

    def same(self, predicted: State, seen: State) -> bool:
        """To 10⁻⁴ of each number."""
        return all(abs(p - s) <= NEAR for p, s in zip(predicted, seen, strict=True))

    def rollout(self, depth: int, gamma: float) -> Evaluate:
        """The physics of :meth:`step` again, in the loop: half the cost of calling them."""

        def evaluate(state: State, rng: Random) -> float:
            (x, speed, angle, spin), draw = state, rng.random
            value, discount = 0.0, 1.0
            for _ in range(depth):
                sine, cosine = sin(angle), cos(angle)
                pushed = ((FORCE if draw() >= 0.5 else -FORCE) + MOMENT * (spin * spin) * sine) / MASS
                turned = (GRAVITY * sine - cosine * pushed) / (
                    HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / MASS)
                )
                x += DT * speed
                speed += DT * (pushed - MOMENT * turned * cosine / MASS)
                angle += DT * spin
                spin += DT * turned
                value += discount
                if not (-X_LIMIT <= x <= X_LIMIT and -ANGLE_LIMIT <= angle <= ANGLE_LIMIT):
                    break
                discount *= gamma
            return value

        return evaluate
