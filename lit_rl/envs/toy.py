"""Environments with known answers, seconds to solve. Importing this module registers them with Gymnasium.

=================================  ====================================================  ====================
id                                 task                                                  best return
=================================  ====================================================  ====================
lit_rl/Identity-v0                 name the observed number                              horizon
lit_rl/IdentityBox-v0              repeat the observed vector; reward −(a − obs)²        0
lit_rl/Bandit-v0                   one step, Bernoulli arms                              max of means
lit_rl/Constant-v0                 one state, reward 1, truncated, never terminated      V = 1/(1 − γ)
lit_rl/TMaze-v0                    the first observation says where to turn at the end   1
lit_rl/MultiDiscreteIdentity-v0    repeat several numbers; reward: share that is right   horizon
lit_rl/MultiBinaryIdentity-v0      repeat bits; reward: share that is right              horizon
lit_rl/DictIdentity-v0             half of the answer in an image, half in a vector      horizon
lit_rl/ImageIdentity-v0            which half of the image is bright                     horizon
lit_rl/MaskedIdentity-v0           as Identity; one wrong action is illegal and raises   horizon
=================================  ====================================================  ====================

From a recipe: ``Env("lit_rl.envs.toy:lit_rl/Identity-v0")``, as in Gymnasium.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Array = np.ndarray
Info = dict[str, Any]


class _Repeat(gymnasium.Env[Any, Any]):
    """Each step shows a fresh target; the action should repeat it. Terminates after ``horizon`` steps."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.steps = 0
        self.target: Any = None

    def _draw(self) -> Any:
        """A target, from ``np_random``."""
        raise NotImplementedError

    def _score(self, action: Any) -> float:
        """Reward of ``action`` for the target of this step."""
        return float(np.mean(np.asarray(action) == self.target))

    def _observe(self) -> Any:
        return self.target

    def _info(self) -> Info:
        return {}

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Draw the first target."""
        super().reset(seed=seed)
        self.steps, self.target = 0, self._draw()
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Score the action, draw the next target."""
        reward = self._score(action)
        self.steps, self.target = self.steps + 1, self._draw()
        return self._observe(), reward, self.steps >= self.horizon, False, self._info()


class Identity(_Repeat):
    """Name the observed number of ``n``."""

    def __init__(self, n: int = 4, horizon: int = 1) -> None:
        super().__init__(horizon)
        self.n = n
        self.observation_space, self.action_space = spaces.Discrete(n), spaces.Discrete(n)

    def _draw(self) -> int:
        return int(self.np_random.integers(self.n))


class IdentityBox(_Repeat):
    """Repeat a vector of [−1, 1]ⁿ; reward −Σ (a − obs)²."""

    def __init__(self, size: int = 1, horizon: int = 1) -> None:
        super().__init__(horizon)
        self.observation_space = self.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)

    def _draw(self) -> Array:
        return self.np_random.uniform(-1.0, 1.0, self.action_space.shape).astype(np.float32)

    def _score(self, action: Array) -> float:
        return -float(np.sum((np.asarray(action) - self.target) ** 2))


class MultiDiscreteIdentity(_Repeat):
    """Repeat numbers below ``nvec``; observed as a one-hot vector per number."""

    def __init__(self, nvec: Sequence[int] = (2, 3), horizon: int = 1) -> None:
        super().__init__(horizon)
        self.nvec = list(nvec)
        self.observation_space = spaces.Box(0.0, 1.0, (sum(nvec),), np.float32)
        self.action_space = spaces.MultiDiscrete(self.nvec)

    def _draw(self) -> Array:
        return self.np_random.integers(np.array(self.nvec))

    def _observe(self) -> Array:
        blocks = zip(self.nvec, self.target, strict=True)
        return np.concatenate([np.eye(n, dtype=np.float32)[k] for n, k in blocks])


class MultiBinaryIdentity(_Repeat):
    """Repeat ``n`` bits."""

    def __init__(self, n: int = 3, horizon: int = 1) -> None:
        super().__init__(horizon)
        self.observation_space = self.action_space = spaces.MultiBinary(n)

    def _draw(self) -> Array:
        return self.np_random.integers(2, size=self.action_space.shape, dtype=np.int8)


class ImageIdentity(_Repeat):
    """Noise that is dark in one half of the image and bright in the other: 0 is left, 1 right."""

    def __init__(self, size: int = 12, horizon: int = 1) -> None:
        super().__init__(horizon)
        self.size = size
        self.observation_space = spaces.Box(0, 255, (1, size, size), np.uint8)
        self.action_space = spaces.Discrete(2)

    def _draw(self) -> int:
        return int(self.np_random.integers(2))

    def _observe(self) -> Array:
        return _half_bright(self.np_random, self.size, self.target)


class DictIdentity(_Repeat):
    """Four actions: the image's bright half is the high bit, the vector's larger entry the low one."""

    def __init__(self, horizon: int = 1) -> None:
        super().__init__(horizon)
        self.observation_space = spaces.Dict(
            {"image": spaces.Box(0, 255, (1, 8, 8), np.uint8), "vector": spaces.Box(0.0, 1.0, (2,), np.float32)}
        )
        self.action_space = spaces.Discrete(4)

    def _draw(self) -> int:
        return int(self.np_random.integers(4))

    def _observe(self) -> dict[str, Array]:
        image = _half_bright(self.np_random, 8, self.target // 2)
        return {"image": image, "vector": np.eye(2, dtype=np.float32)[self.target % 2]}


class MaskedIdentity(Identity):
    """Identity in which ``info["action_mask"]`` [n] hides one wrong action at each step; taking it raises."""

    def _info(self) -> Info:
        self.mask = np.ones(self.n, dtype=np.int8)
        self.mask[(self.target + self.np_random.integers(1, self.n)) % self.n] = 0
        return {"action_mask": self.mask.copy()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """As Identity.

        Raises:
            ValueError: the action is illegal.
        """
        if not self.mask[int(action)]:
            raise ValueError(f"MaskedIdentity: action {int(action)} is illegal, the mask is {self.mask.tolist()}")
        return super().step(action)


class Bandit(gymnasium.Env[Any, Any]):
    """One step: arm k pays 1 with probability ``means[k]``."""

    def __init__(self, means: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        self.means = tuple(means)
        self.observation_space, self.action_space = spaces.Discrete(1), spaces.Discrete(len(self.means))

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[int, Info]:
        """The only state."""
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, Info]:
        """Pull an arm; the episode is over."""
        return 0, float(self.np_random.random() < self.means[action]), True, False, {}


class Constant(gymnasium.Env[Any, Any]):
    """Reward 1 for ever, seen through a time limit: bootstrapped rightly, V = 1/(1 − γ)."""

    def __init__(self, horizon: int = 10, actions: int = 2) -> None:
        self.horizon = horizon
        self.steps = 0
        self.observation_space, self.action_space = spaces.Discrete(1), spaces.Discrete(actions)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[int, Info]:
        """The only state."""
        super().reset(seed=seed)
        self.steps = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, Info]:
        """Reward 1; truncated at the horizon, never terminated."""
        self.steps += 1
        return 0, 1.0, False, self.steps >= self.horizon, {}


class TMaze(gymnasium.Env[Any, Any]):
    """A corridor that moves by itself; ±1 is shown at its start only, and decides the turn at its end.

    Observation [sign at the start, else 0; 1 at the junction]; only the action there counts: 1 is
    right when the sign was 1, 0 when it was −1. Reward 1 or −1. Without memory the best return is 0.
    """

    def __init__(self, corridor: int = 4) -> None:
        if corridor < 1:
            raise ValueError(f"TMaze: corridor is {corridor}; at 0 the sign would stand at the junction")
        self.corridor = corridor
        self.position, self.sign = 0, 1
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def _observe(self) -> Array:
        sign = self.sign if self.position == 0 else 0
        return np.array([sign, self.position == self.corridor], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Array, Info]:
        """To the start, with a fresh sign."""
        super().reset(seed=seed)
        self.position, self.sign = 0, int(self.np_random.choice([-1, 1]))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, Info]:
        """Move on, or turn at the junction and terminate."""
        if self.position < self.corridor:
            self.position += 1
            return self._observe(), 0.0, False, False, {}
        return self._observe(), 1.0 if action == (self.sign > 0) else -1.0, True, False, {}


def _half_bright(rng: np.random.Generator, size: int, half: int) -> Array:
    image = rng.integers(0, 100, size=(1, size, size), dtype=np.uint8)
    middle = size // 2
    image[..., half * middle : (half + 1) * middle] += 156
    return image


ENVS = (
    Identity, IdentityBox, Bandit, Constant, TMaze, MultiDiscreteIdentity, MultiBinaryIdentity, DictIdentity,
    ImageIdentity, MaskedIdentity,
)  # fmt: skip


def register() -> None:
    """Make every class of this module known to Gymnasium as ``lit_rl/<class name>-v0``; harmless when repeated."""
    for env in ENVS:
        name = f"lit_rl/{env.__name__}-v0"
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=f"{__name__}:{env.__name__}")


register()
