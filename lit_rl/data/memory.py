"""A ring of transitions: one packed row each, sampled by one gather."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from lit_rl.batch import Rollout, Transition
from lit_rl.data import frames as stacks
from lit_rl.data.arrays import part, parts
from lit_rl.data.layout import field_name, row_layout
from lit_rl.data.n_step import fold
from lit_rl.data.room import refuse_what_does_not_fit

STORE_NEXT_UP_TO = 512  # bytes of an observation; larger ones are read from the row that follows


class ReplayMemory:
    """The last ``capacity`` transitions of N parallel environments, [L, N] in time order, L ≥ capacity // N.

    A row holds (s, a, log-prob, r, γ(1 − terminated), done) and s' where s' is small; a large s' is the
    observation of the row that follows, and the true last observation of an episode is kept apart. n-step
    windows and sequences never cross an episode's end or the write position: they are shortened there.
    Of observations that are stacks of ``frames`` images each image is kept once; the oldest frames − 1 steps of a
    full ring then serve as the past of the others alone.
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
        frames: int = 1,
    ) -> None:
        self.served = capacity // num_envs  # steps, at most, of which each environment's transitions are read
        if self.served < n_step:
            raise ValueError(
                f"a replay of {capacity} transitions holds {self.served} steps of each of {num_envs} envs; "
                f"n_step = {n_step} needs at least {n_step}: raise data.capacity"
            )
        self.length = self.served + frames - 1
        self.num_envs, self.gamma, self.n_step, self.frames = num_envs, gamma, n_step, frames
        self.observation_space = observation_space = stacks.single(observation_space, frames)
        bytes_of_obs = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in parts(observation_space).values())
        self.store_next = bytes_of_obs <= STORE_NEXT_UP_TO
        self.layout = row_layout(observation_space, action_space, self.store_next)
        shape = (self.length, num_envs)
        if file is None:
            refuse_what_does_not_fit(self.layout.itemsize * self.length * num_envs)
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
        return min(self.filled, self.served) * self.num_envs

    def add(self, rollout: Rollout) -> np.ndarray:
        """Store a rollout [T, N] of arrays that continues the last one. Returns the flat rows [T·N] written."""
        steps = len(rollout.reward)
        if steps > self.length:
            raise ValueError(
                f"a rollout of {steps} steps does not fit a replay of {self.length} steps per env: raise data.capacity"
            )
        if self.frames > 1:
            rollout = stacks.newest(rollout, self.frames)
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

    def cut(self, which: np.ndarray) -> None:
        """The streams of environments ``which`` [N] break off here, as by a time limit: new episodes come next."""
        if self.filled == 0:
            return
        newest = (self.cursor - 1) % self.length
        going = np.flatnonzero(which & ~self.rows["done"][newest])
        self.rows["done"][newest, going] = True
        if not self.store_next:
            slots = self._slots(len(going))
            self._finals[slots] = self._head[going]
            self.rows["final"][newest, going] = slots

    def uniform(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Flat indices of stored rows in that shape, uniform with replacement."""
        index = (rng.random(shape) * len(self)).astype(np.int64)  # half the cost of rng.integers
        return index if self.frames == 1 else self._served(index)

    def stored(self) -> np.ndarray:
        """Flat indices of all rows that can be read."""
        return self._served(np.arange(len(self)))

    def unserved(self) -> np.ndarray:
        """Flat indices of the rows whose images are the past of others, and no transition any more."""
        number = np.arange(self.filled * self.num_envs - len(self))
        return (number + self._oldest() * self.num_envs) % self.rows.size

    def _served(self, number: np.ndarray) -> np.ndarray:
        """The flat row of each ``number``, counted from the oldest row to be read; any order serves without stacks."""
        if self.frames == 1 or self.filled <= self.served:
            return number
        return (number + (self._oldest() + self.filled - self.served) * self.num_envs) % self.rows.size

    def _oldest(self) -> int:
        """Time index of the oldest stored step."""
        return self.cursor if self.filled == self.length else 0

    def read(self, index: np.ndarray, weight: Tensor | None = None, n_step: int | None = None) -> Transition:
        """The n-step transitions that begin at flat rows ``index``, in its shape, as [B] or [K, B]."""
        n_step = n_step or self.n_step
        rows = self._gather(index)
        reward, discount = _column(rows, "reward"), _column(rows, "discount")
        last, rows_of_last = index, rows
        if n_step > 1:
            flat = self.rows.reshape(-1)
            *folded, last = fold(flat, index, n_step, self._newer(index), self.num_envs)
            reward, discount = map(torch.from_numpy, folded)
            rows_of_last = self._gather(last)
        return Transition(
            obs=self._observation(rows, "obs") if self.frames == 1 else self._stack(index),
            action=_column(rows, "action"),
            reward=reward,
            discount=discount,
            next_obs=self._successor(rows_of_last, last) if self.frames == 1 else self._next_stack(rows_of_last, last),
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
        older = (time - self._oldest()) % self.length - (self.filled - len(self) // self.num_envs)  # steps before it
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

    def _stack(self, index: np.ndarray) -> Tensor:
        """The stacks [..., frames · C, H, W] that rows ``index`` [...] were acted on."""
        older = (index // self.num_envs - self._oldest()) % self.length
        rows = self.rows.reshape(-1)
        images = rows["obs"][stacks.history(index, self.frames, rows["done"], older, self.num_envs)]
        return torch.from_numpy(images).flatten(-4, -3)

    def _next_stack(self, rows: np.ndarray, index: np.ndarray) -> Tensor:
        """The stacks after rows ``index`` [...]: without their oldest image, with the one that followed."""
        following = self._successor(rows, index)
        channels = following.shape[-3]
        return torch.cat([self._stack(index)[..., channels:, :, :], following], -3)

    def _newer(self, index: np.ndarray) -> np.ndarray:
        """How many steps of the same environment lie between each row and the newest one."""
        return (self.cursor - 1 - index // self.num_envs) % self.length

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
