"""One environment that lives in numbered episodes, each fixed by its seed and its actions."""

from collections.abc import Iterable
from typing import Any

from gymnasium.spaces import Discrete
from numpy import ndarray

from lit_rl.envs.guards import Guard, Violation
from lit_rl.envs.recipe import Env
from lit_rl.envs.vector import EnvError, episode_seed


class EpisodeEnv:
    """One guarded environment. Its episode number ``k`` is the same wherever and whenever it is begun.

    Args:
        recipe: what to open, with spaces.
        guard: checks of what it returns.
        seed: of the whole run.
        index: of this environment in the run.
    """

    def __init__(self, recipe: Env, guard: Guard, seed: int, index: int) -> None:
        self.recipe, self.guard, self.seed, self.index = recipe, guard, seed, index
        self.dtype, self.shape = guard.dtype, guard.shape
        self.episode, self.steps = 0, 0
        self.build()

    def build(self) -> None:
        """Open a fresh environment in place of this one, after it broke."""
        try:
            self.env = self.recipe.make_one()
        except Exception as error:
            raise EnvError(f"env {self.index} ({self.recipe.id}) could not be opened: {error}") from error
        actions = self.env.unwrapped.action_space
        if isinstance(
            actions, Discrete
        ):  # many environments ask contains() at each step: 2 µs in gymnasium's own words
            actions.contains = range(int(actions.start), int(actions.start + actions.n)).__contains__  # type: ignore

    def begin(self, episode: int) -> Any:
        """Start that episode. Returns its first observation."""
        self.episode, self.steps = episode, 0
        try:
            result = self.env.reset(seed=episode_seed(self.seed, self.index, episode))
        except Exception as error:
            raise self.error(f"raised {type(error).__name__} in reset: {_line(error)}") from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.error("returned no pair (observation, info) from reset")
        try:
            return self.guard.observation(result[0])
        except Violation as violation:
            raise self.error(str(violation)) from None

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Take one step. Whether the numbers are finite and in range is asked by the caller, for all at once.

        Returns:
            observation, reward, terminated, truncated

        Raises:
            EnvError: it raised, or returned something that is no step.
        """
        self.steps += 1
        try:
            result = self.env.step(action)
        except Exception as error:
            raise self.error(f"raised {type(error).__name__}: {_line(error)}") from error
        try:
            obs, reward, terminated, truncated, info = result
        except (TypeError, ValueError):
            raise self.error(f"returned {_shape(result)} from step, not the 5 values of gymnasium") from None
        if (  # all is as it should be: the only line of this that is paid for at every step but an episode's last
            terminated is False
            and truncated is False
            and type(reward) is float
            and type(obs) is ndarray
            and obs.dtype is self.dtype
            and obs.shape == self.shape
            and type(info) is dict
        ):
            return obs, reward, False, False
        guard = self.guard
        try:
            if not isinstance(info, dict):
                raise Violation(f"returned {type(info).__name__} as info, not a dict")
            flags = guard.flag("terminated", terminated), guard.flag("truncated", truncated)
            return guard.observation(obs), guard.reward(reward), *flags
        except Violation as violation:
            raise self.error(str(violation)) from None

    def replay(self, episode: int, actions: Iterable[Any]) -> Any | None:
        """Begin that episode and take those actions. Returns the observation there, None where it ended before."""
        obs = self.begin(episode)
        for action in actions:
            obs, _, terminated, truncated = self.step(action)
            if terminated or truncated:
                return None
        return obs

    def error(self, text: str) -> EnvError:
        """What happened, with its place."""
        return EnvError(
            f"env {self.index} ({self.recipe.id}) {text} at step {self.steps:,} of its episode {self.episode}"
        )

    def close(self) -> None:
        """Close the environment; what it raises then is of no consequence any more."""
        try:
            self.env.close()
        except Exception:  # a broken environment may not even close
            return


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or "no message"


def _shape(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
