"""Worlds that a search can take place in, and the environments that they are the worlds of. Formula sheet: 9.0.3a."""

from collections.abc import Callable

from gymnasium import spaces

from lit_rl.envs.recipe import Env
from lit_rl.planning.search import World
from lit_rl.planning.worlds.cart_pole import CartPoleWorld
from lit_rl.planning.worlds.pendulum import PendulumWorld
from lit_rl.planning.worlds.table import TableWorld
from lit_rl.planning.worlds.tic_tac_toe import TicTacToeWorld

WORLDS: dict[str, Callable[[], World]] = {
    "CartPole-v0": CartPoleWorld,
    "CartPole-v1": CartPoleWorld,
    "Pendulum-v1": PendulumWorld,
    "lit_rl/TicTacToe-v0": TicTacToeWorld,
}
"""By the environment's id; a world of one's own is entered here."""


def world_of(env: Env) -> World:
    """The world behind an environment; nothing is opened.

    Args:
        env: with its spaces. One that shows the number of its state is taken to have tables.

    Raises:
        ValueError: none is known, or the environment was changed into another one.
    """
    name = env.id.rpartition(":")[2]
    changed = [wrapper.name for wrapper in env.wrappers if wrapper.name != "TimeLimit"]  # type: ignore[union-attr]
    if changed:
        raise ValueError(f"a search knows {env.id} as it is, not behind the wrapper {changed[0]}")
    if name in WORLDS:
        for other, usual in (("sutton_barto_reward", False), ("g", 10.0)):
            if env.kwargs.get(other, usual) != usual:
                raise ValueError(f"a search knows {name} as it is registered: leave {other} out")
        return WORLDS[name]()
    shown = env.observation_space
    if isinstance(shown, spaces.Dict) and "observation" in shown.spaces:
        shown = shown["observation"]
    if isinstance(shown, spaces.Discrete):
        return TableWorld(env)
    raise ValueError(
        f"no search can take place in {env.id}: there are worlds of {', '.join(sorted(WORLDS))} and of all "
        "environments with tables; lit_rl.planning.worlds.WORLDS takes more"
    )
