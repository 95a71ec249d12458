"""The optimum of Gymnasium's Pendulum-v1 by dynamic programming, so that scores can be read as regret.

Random starts differ by hundreds of points in what can be had from them; the regret does not.

    V_H = 0,  V_t(s) = max_u [−(θ² + 0.1 θ̇² + 0.001 u²) + V_{t+1}(s')],  θ wrapped to [−π, π]         (1)
    θ̇' = clip(θ̇ + (15 sin θ + 3u) 0.05, ±8),  θ' = θ + 0.05 θ̇'                                        (2)

V is interpolated linearly on 181 × 161 points and u is one of 17 torques; halving the grid's spacing moves
the mean over random starts by about 1. Formula sheet: 3.4a, 6.1.3a.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from lit_rl.planning.systems.pendulum import Pendulum
from lit_rl.planning.systems.system import wrap

HORIZON = 200  # the time limit of Pendulum-v1
PENDULUM = Pendulum()
MAX_SPEED, MAX_TORQUE = PENDULUM.max_speed, PENDULUM.max_torque


def _torques() -> Float[Tensor, " U"]:
    """Finer around 0, where the pendulum is balanced; ends at ± the limit."""
    unit = torch.linspace(-1.0, 1.0, 17)
    return MAX_TORQUE * unit * unit.abs()


def _step(
    angle: Float[Tensor, "*B"], speed: Float[Tensor, "*B"], torque: Float[Tensor, "*B"]
) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """(2): the next angle, in [−π, π], the next speed, and the reward of the step."""
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    angle, speed = PENDULUM.advance(angle, speed, torque)
    return wrap(angle), speed, reward


def _interpolate(
    values: Float[Tensor, "angles speeds"], angle: Float[Tensor, "X Y"], speed: Float[Tensor, "X Y"]
) -> Float[Tensor, "X Y"]:
    points = torch.stack([speed / MAX_SPEED, angle / torch.pi], dim=-1)
    return grid_sample(values[None, None], points[None], align_corners=True, padding_mode="border")[0, 0]


@lru_cache(maxsize=2)
@torch.no_grad()
def pendulum_values(angles: int = 181, speeds: int = 161) -> Float[Tensor, "H1 angles speeds"]:
    """V_t on the grid for t = 0 … 200; axes are angles in [−π, π] and speeds in [−8, 8]. Takes seconds once."""
    angle, speed, torque = torch.meshgrid(
        torch.linspace(-torch.pi, torch.pi, angles),
        torch.linspace(-MAX_SPEED, MAX_SPEED, speeds),
        _torques(),
        indexing="ij",
    )
    next_angle, next_speed, reward = (part.reshape(angles * speeds, -1) for part in _step(angle, speed, torque))
    values = torch.zeros(HORIZON + 1, angles, speeds)
    for t in range(HORIZON - 1, -1, -1):
        q = reward + _interpolate(values[t + 1], next_angle, next_speed)
        values[t] = q.amax(-1).view(angles, speeds)
    return values


def pendulum_policy(angle: Float[Tensor, " B"], speed: Float[Tensor, " B"], t: int) -> Float[Tensor, " B"]:
    """The greedy torque at step ``t`` of an episode: the maximiser in (1)."""
    torque = _torques().expand(len(angle), -1)
    angle = wrap(angle)
    next_angle, next_speed, reward = _step(angle[:, None].expand_as(torque), speed[:, None].expand_as(torque), torque)
    q = reward + _interpolate(pendulum_values()[t + 1], next_angle, next_speed)
    return torque.gather(-1, q.argmax(-1, keepdim=True))[:, 0]


@torch.no_grad()
def pendulum_optimum(starts: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
    """What the greedy policy of (1) earns in a whole episode from each (θ, θ̇), by simulating (2).

    θ = 0 is upright, θ = atan2(obs[1], obs[0]). These returns are achieved, so they bound the optimum from
    below; V_0 itself errs by tens on the few starts between two numbers of swings.
    """
    angle, speed = starts.float().unbind(-1)
    total = torch.zeros_like(angle)
    for t in range(HORIZON):
        angle, speed, reward = _step(wrap(angle), speed, pendulum_policy(angle, speed, t))
        total += reward
    return total


def pendulum_regret(starts: Float[Tensor, "B 2"], returns: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """What was left on the table: optimum(start) − return, undiscounted, for whole episodes of 200 steps.

    Single starts may come out below 0, by tens for the chaotic ones; the mean over many is right to about 1.
    """
    return pendulum_optimum(starts) - returns
