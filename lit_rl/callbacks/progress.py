"""One line that says how far the run is, counted in environment steps."""

import math
import time
from collections import deque
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

WINDOW = 30.0  # seconds over which the speed is measured


class EnvStepProgress(ProgressBar):
    """Env steps of the total, returns, steps per second, elapsed and remaining time.

    On a terminal one live line; elsewhere one plain line per epoch. Silent on every process but the first.

    Args:
        refreshes_per_second: at most, so that the line costs nothing.
    """

    def __init__(self, refreshes_per_second: float = 4.0) -> None:
        super().__init__()
        self.console = Console()
        self._interval = 1.0 / refreshes_per_second
        self._enabled = True
        self._progress: Progress | None = None
        self._next = 0.0

    def enable(self) -> None:
        """Show it."""
        self._enabled = True

    def disable(self) -> None:
        """Hide it."""
        self._enabled = False
        self._close()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin where a checkpoint left the counter."""
        now = time.monotonic()
        self._start, self._next = now, now
        self._past = deque([(now, pl_module.env_steps)])
        if self._enabled and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[text]}"))
            self._progress = Progress(*columns, console=self.console, auto_refresh=False)
            self._task = self._progress.add_task(type(pl_module).__name__, total=pl_module.total_env_steps, text="")
            self._progress.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Refresh, if it is time."""
        if self._progress is not None and time.monotonic() >= self._next:
            self._refresh(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """The validation's return is new now; a plain line where there is no terminal."""
        if self._progress is not None:
            self._refresh(trainer, pl_module)
        elif self._enabled:
            line = f"epoch {trainer.current_epoch + 1}  {self._text(trainer, pl_module)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Leave the last line standing."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the line."""
        self.console.print(*args, **kwargs)

    def _refresh(self, trainer: Trainer, agent: Any) -> None:
        assert self._progress is not None
        text = self._text(trainer, agent)
        self._progress.update(self._task, completed=agent.env_steps, text=text, refresh=True)
        self._next = time.monotonic() + self._interval

    def _text(self, trainer: Trainer, agent: Any) -> str:
        now, steps, total = time.monotonic(), agent.env_steps, agent.total_env_steps
        self._past.append((now, steps))
        while len(self._past) > 2 and self._past[1][0] < now - WINDOW:
            self._past.popleft()
        then, steps_then = self._past[0]
        speed = (steps - steps_then) / max(now - then, 1e-9)
        parts = [f"{steps:,} of {total:,} env steps" if total else f"{steps:,} env steps"]
        for name, value in (
            ("val/return", trainer.callback_metrics.get("val/return")),
            ("train/episode_return", agent.metrics.latest.get("episode_return")),
        ):
            if value is not None and not math.isnan(value):
                parts.append(f"{name} {float(value):,.1f}")
        parts.append(f"{speed:,.0f} steps/s")
        parts.append(f"elapsed {clock(now - self._start)}")
        if total and speed > 0:
            parts.append(f"eta {clock((total - steps) / speed)}")
        return "  ".join(parts)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def clock(seconds: float) -> str:
    """Hours, minutes, seconds."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
