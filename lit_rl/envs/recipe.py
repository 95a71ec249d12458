"""The description of an environment: frozen, plain data, opens nothing until asked."""

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal, Union

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from lit_rl.envs import allow, wrappers
from lit_rl.envs.spaces import space_from_plain, space_to_plain
from lit_rl.envs.vector import VectorEnv

EXTRAS = {
    "gymnasium.envs.mujoco": "mujoco",
    "gymnasium.envs.box2d": "box2d",
    "ale_py": "atari",
    "lit_rl.envs.minatar": "minatar",
}
"""Where an environment's code lives: the extra of this package that brings what it needs."""


@dataclass(frozen=True)
class Wrapper:
    """A wrapper by class name: one of :mod:`lit_rl.envs.wrappers`, or of gymnasium's.

    Args:
        name: class name, such as ``"FlattenObservation"``.
        kwargs: its arguments.
    """

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.find()

    def find(self) -> type[gymnasium.Wrapper]:
        """The class.

        Raises:
            ValueError: no wrapper has that name.
        """
        for home in (wrappers, gymnasium.wrappers):
            found = getattr(home, self.name, None)
            if isinstance(found, type) and issubclass(found, gymnasium.Wrapper):
                return found
        known = [*vars(wrappers), *gymnasium.wrappers.__all__]
        raise ValueError(f"no wrapper is called {self.name!r}{_did_you_mean(self.name, known)}")


@dataclass(frozen=True)
class Env:
    """Which environments to step, how many, and how.

    Args:
        id: gymnasium's name, such as ``"CartPole-v1"``; ``"module:Name-v0"`` imports an allowed module first.
        num_envs: how many run side by side, N.
        kwargs: arguments of the environment itself.
        wrappers: applied in order; a bare string is short for a wrapper without arguments.
        vectorization: ``sync`` one after the other in this process, ``async`` one process each, ``native`` the
            environment's own batched implementation, ``envpool`` that library's.
        step_timeout: seconds a step may take before its process counts as hung (async).
        on_error: ``raise``, or ``restart`` the environment that broke: its episode counts as truncated where it last
            was well, with a reward of 0 for the step that broke it.
        max_restarts: within 1,000 steps of all; one more ends the run, since then something else is wrong.
        spaces: observation and action space as plain data; :meth:`with_spaces` fills it.
    """

    id: str
    num_envs: int = 1
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: Sequence[Union[Wrapper, str]] = ()
    vectorization: Literal["sync", "async", "native", "envpool"] = "sync"
    step_timeout: float = 60.0
    on_error: Literal["raise", "restart"] = "raise"
    max_restarts: int = 10
    spaces: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.id or not isinstance(self.id, str):
            raise ValueError(f"env.id must be the name of an environment, not {self.id!r}")
        if isinstance(self.num_envs, bool) or not isinstance(self.num_envs, int) or self.num_envs < 1:
            raise ValueError(f"env.num_envs must be a whole number of at least 1, not {self.num_envs!r}")
        if not self.step_timeout > 0:
            raise ValueError(f"env.step_timeout must be more than 0 seconds, not {self.step_timeout!r}")
        if isinstance(self.max_restarts, bool) or not isinstance(self.max_restarts, int) or self.max_restarts < 0:
            raise ValueError(f"env.max_restarts must be a whole number of at least 0, not {self.max_restarts!r}")
        for name, known in (
            ("vectorization", ("sync", "async", "native", "envpool")),
            ("on_error", ("raise", "restart")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"env.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if isinstance(self.wrappers, str):
            raise ValueError(f"env.wrappers must be a list, not the string {self.wrappers!r}")
        as_wrappers = [Wrapper(entry) if isinstance(entry, str) else entry for entry in self.wrappers]
        object.__setattr__(self, "wrappers", as_wrappers)
        if self.wrappers and self.vectorization in ("native", "envpool"):
            raise ValueError(
                f"env.wrappers do not apply to vectorization {self.vectorization!r}; use 'sync' or 'async'"
            )
        if self.on_error == "restart" and self.vectorization in ("native", "envpool"):
            raise ValueError(
                f"env.on_error 'restart' does not apply to vectorization {self.vectorization!r}, whose environments "
                "cannot be started one by one; use 'sync' or 'async'"
            )

    @classmethod
    def of(cls, env: "Env | str") -> "Env":
        """A bare string is short for ``Env(id)``."""
        return cls(env) if isinstance(env, str) else env

    def replace(self, **changes: Any) -> "Env":
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def observation_space(self) -> gymnasium.Space:
        """Of one environment."""
        return space_from_plain(self._plain_spaces()["observation"])

    @property
    def action_space(self) -> gymnasium.Space:
        """Of one environment; a Discrete one starts at 0."""
        return space_from_plain(self._plain_spaces()["action"])

    @property
    def frames(self) -> int:
        """Images of an observation that a replay keeps once each: those of a FrameStack that is the last wrapper."""
        last = self.wrappers[-1] if self.wrappers else None
        alone = isinstance(self.observation_space, spaces.Box)  # and not beside a mask of actions
        stacked = isinstance(last, Wrapper) and last.name == "FrameStack" and alone
        return last.kwargs.get("frames", wrappers.FRAMES) if stacked else 1  # type: ignore[union-attr]

    def with_spaces(self) -> "Env":
        """This recipe with ``spaces`` filled, by opening one environment once if they are missing."""
        if self.spaces is not None:
            return self
        if self.vectorization == "envpool":
            from lit_rl.envs.envpool_ import envpool_spaces

            observation, action = envpool_spaces(self)
        else:
            env = self.make_one()
            observation, action = env.observation_space, env.action_space
            with suppress(Exception):  # what it raises in closing is of no consequence any more
                env.close()
        return replace(self, spaces={"observation": space_to_plain(observation), "action": space_to_plain(action)})

    def make_one(self) -> gymnasium.Env:
        """One environment with its wrappers, without gymnasium's own checks (the guards replace them).

        Raises:
            ValueError: the id or an argument is wrong, or something is not installed; the message says what to do.
        """
        spec = deepcopy(self.spec())
        spec.order_enforce = False
        try:
            env = gymnasium.make(spec, disable_env_checker=True, **deepcopy(self.kwargs))
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise ValueError(f"{self.id} needs something that is not installed: {_install(spec, error)}") from error
        except TypeError as error:
            raise ValueError(f"{self.id} cannot be made with kwargs {self.kwargs}: {_first_line(error)}") from error
        for wrapper in self.wrappers:
            assert isinstance(wrapper, Wrapper)
            try:
                env = wrapper.find()(env, **wrapper.kwargs)
            except (TypeError, ValueError, AssertionError) as error:
                raise ValueError(f"wrapper {wrapper.name} does not fit {self.id}: {_first_line(error)}") from error
        if isinstance(env.action_space, spaces.Discrete) and env.action_space.start != 0:
            env = wrappers.ZeroBased(env)
        return wrappers.ActionMask(env) if self._has_mask(env) else env

    def open(self, num_envs: int | None = None, seed: int = 0, first_index: int = 0) -> VectorEnv:
        """Open the environments.

        Args:
            num_envs: how many; None is the recipe's own number.
            seed: every episode's seed derives from it, the env's index and the episode's number.
            first_index: index of the first env; ranks and evaluation envs are told apart by it.
        """
        recipe = replace(self.with_spaces(), num_envs=self.num_envs if num_envs is None else num_envs)
        if self.vectorization == "async":
            from lit_rl.envs.async_ import AsyncEnv as Kind
        elif self.vectorization == "native":
            from lit_rl.envs.native import NativeEnv as Kind  # type: ignore[assignment]
        elif self.vectorization == "envpool":
            from lit_rl.envs.envpool_ import EnvPoolEnv as Kind  # type: ignore[assignment]
        else:
            from lit_rl.envs.sync import SyncEnv as Kind  # type: ignore[assignment]
        return Kind(recipe, seed, first_index)

    def spec(self) -> EnvSpec:
        """What gymnasium's registry holds under the id.

        Raises:
            ValueError: nothing, or the module it asks to import is not allowed.
        """
        module, _, name = self.id.rpartition(":")
        if module:
            allow.check(module)
            import_module(module)
        elif name.startswith("MinAtar/"):
            from lit_rl.envs.minatar import register

            register()
        elif name.startswith("ALE/"):
            try:
                gymnasium.register_envs(import_module("ale_py"))
            except ImportError as error:
                raise ValueError(f"{self.id} needs Atari: pip install 'lit_rl[atari]'") from error
        if name not in gymnasium.registry:
            raise ValueError(f"no environment is called {name!r}{_did_you_mean(name, list(gymnasium.registry))}")
        return gymnasium.registry[name]

    def _has_mask(self, env: gymnasium.Env) -> bool:
        """Whether the environment names its legal actions: known from the spaces, else asked by one reset."""
        if isinstance(env, wrappers.ActionMask) or not isinstance(
            env.action_space, (spaces.Discrete, spaces.MultiDiscrete)
        ):
            return False
        if isinstance(env.observation_space, spaces.Dict) and "action_mask" in env.observation_space.spaces:
            return True
        if self.spaces is not None:
            return "action_mask" in self.spaces["observation"].get("spaces", {})
        try:
            return "action_mask" in env.reset(seed=0)[1]
        except Exception:
            return False  # whatever is wrong here is named, with its place, by the first guarded reset

    def _plain_spaces(self) -> dict[str, Any]:
        if self.spaces is None:
            raise ValueError(f"the spaces of {self.id} are not known yet; call Env.with_spaces() first")
        return self.spaces


def _did_you_mean(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else ""


def _install(spec: EnvSpec, error: Exception) -> str:
    for home, extra in EXTRAS.items():
        if str(spec.entry_point).startswith(home):
            return f"pip install 'lit_rl[{extra}]'"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
