"""The one base class: a LightningModule whose batches are rounds of experience."""

import inspect
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor

from lit_rl.batch import Observation, unstack
from lit_rl.data.episodes import EpisodeResults, Episodes
from lit_rl.data.experience import Experience, Rounds
from lit_rl.descent import Descent, nobody_listens
from lit_rl.envs.recipe import Env
from lit_rl.examine import examine
from lit_rl.metrics.overestimation import overestimation
from lit_rl.optimizer import Optimizer
from lit_rl.policies.policy import Policy
from lit_rl.record import Record
from lit_rl.resume import load_state, save_state, start_streams
from lit_rl.safeguards import CloseAfterException, check_finite, check_precision
from lit_rl.schedules import as_schedule


class Agent(LightningModule, ABC):
    """Acts, learns, and saves all that it needs to go on exactly.

    A subclass builds ``self.policy`` and its networks in ``__init__`` and writes :meth:`loss`. One
    ``training_step`` is one batch of rounds: collect, then for each minibatch of the round one backward
    and one optimiser step. Override :meth:`minibatches` to say how a round splits, :meth:`after_update`
    for target networks, :meth:`update` where an update is no single descent.

    Args of every agent:
        env: environment recipe, or just its id.
        data: recipe of the experience it learns from.
        optimizer: recipe of the one optimiser.
        gamma: discount per step.
        evaluation: greedy episodes played at each validation.
    """

    action_spaces: ClassVar[tuple[str, ...]] = ()
    """Names of the gymnasium spaces it can act in, and observe."""
    observation_spaces: ClassVar[tuple[str, ...]] = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict")

    learns: ClassVar[bool] = True
    """Whether training changes how it acts: if not, it can be tested and watched without a checkpoint."""

    policy: Policy
    descent: Descent
    """Steps down the loss, while it trains."""
    _given: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **named: Any) -> "Agent":
        """Keep the constructor's arguments as given: checkpoints rebuild the agent from them."""
        agent = super().__new__(cls)
        object.__setattr__(agent, "_given", (arguments, named))
        return agent

    def __init__(
        self,
        env: Env | str,
        data: Any,
        optimizer: Optimizer,
        gamma: float,
        evaluation: Episodes,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.env = Env.of(env).with_spaces()
        self.require(0 <= gamma <= 1, "gamma", gamma, "a discount lies in [0, 1]")
        self.data, self.gamma, self.evaluation = data, gamma, evaluation
        self.optimizer = optimizer
        self.learning_rate = as_schedule(optimizer.lr)
        self.metrics = Record()
        self._experience: Experience | None = None
        self.base_seed, self.run = 0, ""  # the second tells this run's replay folders from those of others
        self._saved: dict[str, Any] | None = None  # from a checkpoint, until the data set opens
        space = self.env.action_space
        continuous = np.issubdtype(space.dtype, np.floating)  # a Box of integers is served by none
        kind = type(space).__name__
        if kind not in self.action_spaces or (kind == "Box" and not continuous):
            spaces = " or ".join(self.action_spaces)
            raise ValueError(f"{type(self).__name__} acts in {spaces} spaces; {self.env.id} has {space}")

    def require(self, holds: bool, name: str, value: Any, rule: str) -> None:
        """Refuse an argument in one line.

        Raises:
            ValueError: not ``holds``.
        """
        if not holds:
            raise ValueError(f"{type(self).__name__}.{name} is {value}: {rule}")

    # What an algorithm writes

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Scalar terms of the loss on one minibatch, by name; their sum is descended."""

    def minibatches(self, data: Any) -> Iterable[Any]:
        """Split a round's data into the minibatches of its updates; by default along the leading axis K."""
        yield from unstack(data)

    def after_update(self) -> None:
        """Called after every optimiser step."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the one optimiser; a group's ``lr_scale`` multiplies the learning rate."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one optimiser of the recipe."""
        return self.optimizer.build(self.parameter_groups())

    def record(self, **values: Tensor | float) -> None:
        """Take scalars for the plots; they are averaged until the next time the trainer logs."""
        self.metrics.add(values)

    # Counters: they live in the policy, which workers share and every file holds

    @property
    def env_steps(self) -> int:
        """Environment steps learnt from, over all processes."""
        return int(self.policy.env_steps)

    @property
    def updates(self) -> int:
        """Optimiser steps made."""
        return int(self.policy.version)

    @property
    def total_env_steps(self) -> int | None:
        """Environment steps of the whole run over all processes; None where it has no end."""
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 0:
            return None
        return epochs * self.data.env_steps_per_epoch(self.env.num_envs) * self.trainer.world_size

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name, the environment with its spaces filled in."""
        positional, named = self._given
        bound = inspect.signature(type(self).__init__).bind(self, *positional, **named)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()  # but self
        return {**dict(arguments), "env": self.env}

    # The loop

    def training_step(self, batch: Rounds, batch_idx: int) -> None:
        """Learn from each round of the batch as it is collected."""
        ranks = self.trainer.world_size
        for data, env_steps in batch.draw(batch_idx):
            self.policy.count(env_steps=env_steps * ranks)
            self.descent.set_learning_rate(self.learning_rate(self.env_steps))
            for minibatch in self.minibatches(data):
                self.update(minibatch)
        last = batch_idx + 1 == self.trainer.num_training_batches
        if last or (batch_idx + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._write_metrics()

    def update(self, minibatch: Any) -> None:
        """One backward and one optimiser step on the sum of the loss terms."""
        terms = self.loss(minibatch)
        grad_norm = self.descent.step(reduce(add, terms.values()), terms)  # sum() would begin with one more node, 0 +
        self.policy.count(updates=1)
        self.after_update()
        self.record(**terms, grad_norm=grad_norm)

    def _write_metrics(self) -> None:
        extra = {"lr": self.learning_rate(self.env_steps), **self.schedules(), **self.experience.statistics()}
        values = self.metrics.flush(self.env_steps, self.updates, extra)
        scalars = {f"train/{name}": value for name, value in values.items()}
        for logger in self.trainer.loggers:
            logger.log_metrics(scalars, step=self.env_steps)

    def schedules(self) -> dict[str, float]:
        """Scheduled numbers worth plotting, such as ε."""
        return {}

    # Data

    @property
    def experience(self) -> Experience:
        """What it learns from, while it trains.

        Raises:
            RuntimeError: it is not open.
        """
        if self._experience is None:
            raise RuntimeError(f"{type(self).__name__} has no experience open: Trainer.fit opens it, and closes it")
        return self._experience

    @property
    def has_experience(self) -> bool:
        """Whether there is an open :attr:`experience`."""
        return self._experience is not None

    def train_dataloader(self) -> Experience:
        """Open the experience, where a checkpoint left it if there is one."""
        if self._experience is None:
            seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed() % 2**31))
            if self._saved is not None:
                seed = self._saved["seed"]
            seed = self.base_seed = self.trainer.strategy.broadcast(seed)  # ranks differ by their own number alone
            self.run = self.trainer.strategy.broadcast(secrets.token_hex(4))
            self._experience = self.data.open(self.env, self.policy, self.gamma, seed, self.trainer.global_rank)
            if self._saved is not None:
                load_state(self, self._saved)
        return self._experience

    def val_dataloader(self) -> Any:
        """Greedy episodes."""
        return self.evaluation.open(self.env, self.policy, self.gamma)

    test_dataloader = val_dataloader

    def validation_step(self, batch: EpisodeResults, batch_idx: int) -> None:
        """Log the evaluation return with its spread, and the overestimation where there are values."""
        self.log_episodes("val", batch)
        start = self.state_value(batch.first_obs)
        if start is not None:
            self.log_overestimation(start, self.state_value(batch.final_obs), batch)  # type: ignore[arg-type]

    def test_step(self, batch: EpisodeResults, batch_idx: int) -> None:
        """Log the test return with its spread."""
        self.log_episodes("test", batch)

    def state_value(self, obs: Observation) -> Tensor | None:
        """What it takes the best action to be worth [B], for the diagnostic; None where it has no such values."""
        return None

    def log_overestimation(self, start_value: Tensor, final_value: Tensor, batch: EpisodeResults) -> None:
        """Log ``val/start_value`` and ``val/overestimation`` (formula sheet 7.3.1a), by values [E] of both ends."""
        found = overestimation(start_value, batch.discounted, final_value, batch.final_discount)
        values = {f"val/{name}": value for name, value in found.items()}
        self.log_dict(values, sync_dist=True, batch_size=len(batch.returns), on_epoch=True)

    def log_episodes(self, stage: str, batch: EpisodeResults) -> None:
        """Log returns with their spread, and the env steps as every plot's x-axis."""
        values = {f"{stage}/{name}": value for name, value in batch.summary().items()}
        self.log_dict(values, sync_dist=True, batch_size=len(batch.returns), on_epoch=True)
        self.log("step", float(self.env_steps), sync_dist=True, batch_size=1, on_epoch=True)

    # Life

    def setup(self, stage: str) -> None:
        """Refuse a precision that cannot learn; compile the loss where asked to."""
        if stage == "fit":
            check_precision(self.trainer.precision)
        if stage == "fit" and self.optimizer.compile:
            self.loss = torch.compile(type(self).loss.__get__(self))  # type: ignore[method-assign]
            self.metrics.add = torch.compiler.disable(self.metrics.add)  # type: ignore[method-assign]

    def configure_callbacks(self) -> list[Callback]:
        """What Lightning adds to the trainer's own."""
        return [CloseAfterException()]

    def on_train_start(self) -> None:
        """Give every process its own random streams, or those of the checkpoint."""
        self.descent = Descent(self, direct=nobody_listens(self))
        start_streams(self, self._saved)
        self._saved = None
        self.metrics.start(self.env_steps, self.updates)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add everything beyond weights and optimiser; runs on every rank."""
        check_finite(self)
        save_state(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Examine it before anything is applied; keep the state until the environments open."""
        self._saved = examine(self, checkpoint)

    def teardown(self, stage: str) -> None:
        """Close the environments."""
        self.close()
        self._saved = None  # a test or validation of a checkpoint resumes nothing

    def close(self) -> None:
        """End environments and workers; harmless when repeated."""
        if self._experience is not None:
            self._experience.close()
            self._experience = None
