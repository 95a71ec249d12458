"""A ring of transitions: one packed row each, sampled by one gather."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from lit_rl.batch import Rollout, Transition
from lit_rl.data.arrays import part, parts
from lit_rl.data.layout import field_name, row_layout

STORE_NEXT_UP_TO = 512  # bytes of an observation; larger ones are read from the row that follows


class ReplayMemory:
    """The last ``capacity`` transitions of N parallel environments, [L, N] in time order, L = capacity // N.

    A row holds (s, a, log-prob, r, γ(1 − terminated), done) and s' where s' is small; a large s' is the
    observation of the row that follows, and the true last observation of an episode is kept apart. n-step
    windows and sequences never cross an episode's end or the write position: they are shortened there.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        gamma: float,
        n_step: int = 1,
        file: Path | None = None,
    ) -> None:
        self.length = capacity // num_envs
        if self.length < n_step:
            raise ValueError(
                f"a replay of {capacity} transitions holds {self.length} steps of each of {num_envs} envs; "
                f"n_step = {n_step} needs at least {n_step}: raise data.capacity"
            )
        self.num_envs, self.gamma, self.n_step = num_envs, gamma, n_step
        self.observation_space = observation_space
        bytes_of_obs = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in parts(observation_space).values())
        self.store_next = bytes_of_obs <= STORE_NEXT_UP_TO
        self.layout = row_layout(observation_space, action_space, self.store_next)
        shape = (self.length, num_envs)
        _refuse_what_does_not_fit(self.layout.itemsize * self.length * num_envs, in_memory=file is None)
        if file is None:
            self.rows = np.zeros(shape, self.layout)  # pages cost nothing before they are written
        else:
            self.rows = np.memmap(file, self.layout, mode="w+", shape=shape)
        self.cursor = 0  # time index that is written next
        self.filled = 0  # time indices that hold data
        self._finals = np.zeros(0, self._final_dtype())
        self._free: list[int] = []
        self._head = np.zeros(num_envs, self._final_dtype())  # observations after the newest rows
        self._gamma = np.float32(gamma)
        self._names = [(key, field_name("obs", key), field_name("next_obs", key)) for key in parts(observation_space)]
        self._columns = {name: self.rows[name] for name in self.layout.names}  # type: ignore[union-attr]
        self._opaque = self.rows.view(np.ndarray).view(f"V{self.layout.itemsize}").reshape(-1)

    def __len__(self) -> int:
        return self.filled * self.num_envs

    def add(self, rollout: Rollout) -> np.ndarray:
        """Store a rollout [T, N] of arrays that continues the last one. Returns the flat rows [T·N] written."""
        steps = len(rollout.reward)
        if steps > self.length:
            raise ValueError(
                f"a rollout of {steps} steps does not fit a replay of {self.length} steps per env: raise data.capacity"
            )
        columns, start, end = self._columns, self.cursor, self.cursor + steps
        when: Any = slice(start, end) if end <= self.length else np.arange(start, end) % self.length
        if not self.store_next:
            self._forget_finals(steps)
            columns["final"][when] = -1
        for key, name, next_name in self._names:
            obs = part(rollout.obs, key)
            columns[name][when] = obs[:-1]
            if self.store_next:
                columns[next_name][when] = obs[1:]
            else:
                self._head[name] = obs[-1]
        columns["action"][when] = rollout.action
        columns["log_prob"][when] = rollout.log_prob
        columns["reward"][when] = rollout.reward
        columns["discount"][when] = self._gamma
        columns["done"][when] = False
        if len(rollout.final_index):
            self._end_episodes(rollout, when)
        self.cursor = end % self.length
        self.filled = min(self.filled + steps, self.length)
        first = start * self.num_envs
        written = np.arange(first, first + steps * self.num_envs)
        return written if end <= self.length else written % (self.length * self.num_envs)

    def _end_episodes(self, rollout: Rollout, when: Any) -> None:
        """Mark the rows where an episode ended: no bootstrap after a termination, the true last observations."""
        step, env = np.divmod(np.asarray(rollout.final_index), self.num_envs)
        rows = (self.cursor + step) % self.length, env
        columns = self._columns
        columns["done"][rows] = True
        columns["discount"][rows] = self._gamma * ~np.asarray(rollout.terminated)[step, env]
        if self.store_next:
            for key, _, next_name in self._names:
                columns[next_name][rows] = part(rollout.final_obs, key)
        else:
            slots = self._slots(len(step))
            for key, name, _ in self._names:
                self._finals[name][slots] = part(rollout.final_obs, key)
            columns["final"][rows] = slots

    def _forget_finals(self, steps: int) -> None:
        """Free what belongs to the next rows, which are written over; what lies ahead of the newest holds nothing."""
        times = np.arange(self.cursor, self.cursor + steps) % self.length
        times = times[times < self.filled]
        slots = self._columns["final"][times]
        self._free.extend(slots[slots >= 0].tolist())

    def cut(self) -> None:
        """The streams break off here, as by a time limit: what is added next opens new episodes."""
        if self.filled == 0:
            return
        newest = (self.cursor - 1) % self.length
        going = np.flatnonzero(~self.rows["done"][newest])
        self.rows["done"][newest] = True
        if not self.store_next:
            slots = self._slots(len(going))
            self._finals[slots] = self._head[going]
            self.rows["final"][newest, going] = slots

    def uniform(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Flat indices of stored rows in that shape, uniform with replacement."""
        return (rng.random(shape) * len(self)).astype(np.int64)  # half the cost of rng.integers

    def read(self, index: np.ndarray, weight: Tensor | None = None, n_step: int | None = None) -> Transition:
        """The n-step transitions that begin at flat rows ``index``, in its shape, as [B] or [K, B]."""
        n_step = n_step or self.n_step
        rows = self._gather(index)
        reward, discount = _column(rows, "reward"), _column(rows, "discount")
        last, rows_of_last = index, rows
        if n_step > 1:
            reward, discount, last = self._fold(index, n_step)
            rows_of_last = self._gather(last)
        return Transition(
            obs=self._observation(rows, "obs"),
            action=_column(rows, "action"),
            reward=reward,
            discount=discount,
            next_obs=self._successor(rows_of_last, last),
            log_prob=_column(rows, "log_prob"),
            weight=weight,
            index=torch.from_numpy(index),
        )

    def windows(self, index: np.ndarray, steps: int, before: int = 0) -> tuple[Transition, Tensor]:
        """One-step transitions [..., H + L] around flat rows ``index`` [...], and which of them count.

        H = ``before`` steps lead to the row, L = ``steps`` begin with it. A window stays in its episode and among the
        stored rows; what lies beyond is masked, and the nearest stored row is repeated there.
        """
        time = index // self.num_envs
        older = (time - (self.cursor if self.filled == self.length else 0)) % self.length  # stored steps before it
        offsets = np.arange(-before, steps)
        reached = np.clip(offsets, -older[..., None], self._newer(index)[..., None])
        flat = (index[..., None] + reached * self.num_envs) % (self.length * self.num_envs)
        done = self.rows.reshape(-1)["done"][flat]
        past, rest = done[..., :before], done[..., before:]
        valid = offsets == reached
        valid[..., :before] &= np.cumsum(past[..., ::-1], axis=-1)[..., ::-1] == 0  # no end between it and the row
        valid[..., before:] &= np.cumsum(rest, axis=-1) - rest == 0
        return self.read(flat, n_step=1), torch.from_numpy(valid)

    def arrays(self) -> dict[str, np.ndarray]:
        """The stored rows, and what :meth:`restore` needs beside them, for writing to disk."""
        return {"rows": self.rows[: self.filled], "finals": self._finals, "head": self._head}

    def header(self) -> dict[str, Any]:
        """Positions, as plain Python."""
        return {
            "cursor": self.cursor,
            "filled": self.filled,
            "free": list(self._free),
            "length": self.length,
            "num_envs": self.num_envs,
        }

    def places(self, header: dict[str, Any]) -> np.ndarray:
        """Where the rows of that header belong.

        Raises:
            ValueError: the memory has another shape.
        """
        if (header["length"], header["num_envs"]) != (self.length, self.num_envs):
            raise ValueError(
                f"the saved replay has {header['length']} steps of {header['num_envs']} envs, this one "
                f"{self.length} of {self.num_envs}: resume with the capacity and num_envs of the checkpoint"
            )
        return self.rows[: header["filled"]]

    def restore(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Take over what :meth:`arrays` and :meth:`header` gave; the rows may be in their :meth:`places` already."""
        rows = self.places(header)
        if not np.may_share_memory(rows, arrays["rows"]):
            rows[...] = arrays["rows"]
        self.cursor, self.filled, self._free = header["cursor"], header["filled"], list(header["free"])
        self._finals, self._head = arrays["finals"].copy(), arrays["head"].copy()

    def _gather(self, index: np.ndarray) -> np.ndarray:
        """Copies of the flat rows ``index`` [B]: taken as opaque bytes, at a third of the cost of ``index_select``."""
        return self._opaque.take(index).view(self.layout)

    def _observation(self, rows: np.ndarray, name: str) -> Any:
        if isinstance(self.observation_space, gymnasium.spaces.Dict):
            return {key: _column(rows, field_name(name, key)) for key in self.observation_space.spaces}
        return _column(rows, name)

    def _newer(self, index: np.ndarray) -> np.ndarray:
        """How many steps of the same environment lie between each row and the newest one."""
        return (self.cursor - 1 - index // self.num_envs) % self.length

    def _fold(self, index: np.ndarray, n_step: int) -> tuple[Tensor, Tensor, np.ndarray]:
        """Σ_{k<m} γᵏ r_k, γᵐ(1 − terminated) and the last row of each window, m ≤ n (formula sheet 7.4.2a)."""
        rows = self.rows.reshape(-1)
        last = index
        reward, discount = rows["reward"][index], rows["discount"][index]
        going = ~rows["done"][index]
        newer = self._newer(index)
        for k in range(1, n_step):
            going &= newer >= k
            following = (last + self.num_envs) % len(rows)
            reward = reward + np.where(going, discount * rows["reward"][following], 0)
            discount = np.where(going, discount * rows["discount"][following], discount)
            last = np.where(going, following, last)
            going &= ~rows["done"][following]
        return torch.from_numpy(reward), torch.from_numpy(discount), last

    def _successor(self, rows: np.ndarray, index: np.ndarray) -> Any:
        if self.store_next:
            return self._observation(rows, "next_obs")
        flat = self.rows.reshape(-1)
        following = self._gather((index + self.num_envs) % len(flat))
        final, newest = flat["final"][index], self._newer(index) == 0
        found: dict[str, Tensor] = {}
        for key, name, _ in self._names:
            obs = _column(following, name)
            if newest.any():
                obs[torch.from_numpy(newest)] = torch.from_numpy(self._head[name][index[newest] % self.num_envs])
            ended = final >= 0
            if ended.any():
                obs[torch.from_numpy(ended)] = torch.from_numpy(self._finals[name][final[ended]])
            found[key] = obs
        return found if isinstance(self.observation_space, gymnasium.spaces.Dict) else found[""]

    def _final_dtype(self) -> np.dtype:
        return np.dtype([(field_name("obs", key), *part) for key, part in parts(self.observation_space).items()])

    def _slots(self, count: int) -> np.ndarray:
        """Free places [count] for final observations."""
        missing = count - len(self._free)
        if missing > 0:
            old = len(self._finals)
            grown = np.zeros(max(old + missing, 2 * old), self._final_dtype())
            grown[:old] = self._finals
            self._finals = grown
            self._free.extend(range(old, len(grown)))
        return np.array([self._free.pop() for _ in range(count)], np.int64)


def _column(rows: np.ndarray, name: str) -> Tensor:
    return torch.from_numpy(rows[name])


def _refuse_what_does_not_fit(needed: int, in_memory: bool) -> None:
    """Before allocating: pages are only claimed as they fill, hours later."""
    if not in_memory:
        return
    available = _available_memory()
    if available is not None and needed > available:
        raise ValueError(
            f"the replay needs {needed / 1e9:.1f} GB and {available / 1e9:.1f} GB of memory are free: "
            f"lower data.capacity or set data.storage to memmap"
        )


def _available_memory() -> int | None:
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
