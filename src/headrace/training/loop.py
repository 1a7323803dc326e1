"""The one training loop: every model, one process or many, stopped and resumed at will."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from ..data import Batch, map_tensors
from ..errors import ConfigError, DataError
from . import checkpoint
from .distributed import ALONE, Group
from .observers import Bar, Observer, StepReport
from .optim import Optimizer
from .prefetch import ahead
from .scalars import ScalarLog
from .settings import Training


@runtime_checkable
class Trainable(Protocol):
    """What an ``nn.Module`` must be able to do to be trained."""

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Scalar losses by name, to be summed. Each a mean over candidates, linear in weight."""
        ...


class Batches(Protocol):
    """Training data as a function of (seed, epoch, step)."""

    def __len__(self) -> int:
        """Steps an epoch."""
        ...

    def epoch(self, e: int, start: int = 0) -> Iterable[Batch]:
        """The batches of epoch ``e`` from step ``start`` on, the same on every call.

        Skipping to ``start`` is cheap. Batches are built in another thread, so nothing here may
        draw from a global random generator.
        """
        ...


@dataclass(slots=True)
class History:
    """What happened, over all resumptions of the run."""

    loss: list[float] = field(default_factory=list[float])  # of every step
    validation: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    seconds: float = 0.0  # in training steps, waiting for batches included
    samples: int = 0  # candidates seen

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.loss)

    @property
    def best(self) -> tuple[int, float] | None:
        """Steps done at the best validation and its value; the earliest of equals."""
        return max(self.validation, key=lambda at: at[1], default=None)

    @property
    def waited(self) -> int:
        """Validations since the best."""
        best = self.best
        return 0 if best is None else len(self.validation) - 1 - self.validation.index(best)


def fit(
    model: Trainable,
    batches: Batches,
    config: Training,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    checkpoint_dir: Path | None = None,
    scalars_dir: Path | None = None,
    progress: Progress | None = None,
    name: str = "",
    group: Group = ALONE,
) -> History:
    """Train ``model`` in place; leave it in eval mode with its best weights.

    ``validate`` scores the model in eval mode on later data, higher is better; without it the last
    weights are kept. With a ``checkpoint_dir`` the run continues from what is there: on CPU, with
    equal settings, batches and threads, bit for bit as if it had never stopped. Ctrl-C writes a
    checkpoint before KeyboardInterrupt goes on. A finished run's checkpoint answers at once.

    Raises DataError for a loss, gradient or validation that is not finite and for a damaged
    checkpoint, ConfigError for a checkpoint of other settings or of another model.
    """
    if not isinstance(model, nn.Module):
        raise TypeError("fit: the model is not an nn.Module")
    if len(batches) == 0:
        raise DataError(f"{name or 'training'}: no batches; is the training period empty?")
    with ExitStack() as stack:
        stack.enter_context(_threads(config.threads))
        run = _Run(model, model.loss, batches, config, validate, checkpoint_dir, name, group)
        run.resume()
        if group.rank == 0:
            if scalars_dir is not None:
                run.observers.append(ScalarLog(scalars_dir, run.history.steps))
            if progress is not None and progress.console.is_terminal:
                run.observers.append(
                    Bar(progress, name, config.epochs, run.total, run.history.steps)
                )
        for observer in run.observers:
            stack.callback(observer.closed)
        run.train()
    return run.history


class _Run:
    """The state of one call of ``fit``. It changes between steps only, never within one."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Batch], Mapping[str, Tensor]],
        batches: Batches,
        config: Training,
        validate: Callable[[nn.Module], float] | None,
        directory: Path | None,
        name: str,
        group: Group,
    ) -> None:
        self.model, self.loss, self.batches, self.config = model, loss, batches, config
        self.score, self.directory, self.group = validate, directory, group
        self.name = name or "training"
        self.optimizer = Optimizer(model, config)
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.total = config.epochs * len(batches)
        self.device = next(model.parameters()).device
        self.observers: list[Observer] = []
        self.rate = 0.0
        self.saved_s = perf_counter()
