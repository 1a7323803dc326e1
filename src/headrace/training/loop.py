"""The one training loop: every model, one process or many, stopped and resumed at will."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import torch
from rich.progress import Progress
from torch import Tensor, nn

from ..data import Batch, map_tensors
from ..errors import ConfigError, DataError
from . import checkpoint
from .distributed import ALONE, Group
from .history import History
from .interrupt import uninterrupted
from .observers import Bar, Observer, StepReport
from .optim import Optimizer
from .prefetch import ahead
from .scalars import ScalarLog
from .settings import Training
from .torch_state import seed, threads


@runtime_checkable
class Trainable(Protocol):
    """What an ``nn.Module`` must be able to do to be trained."""

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Scalar losses by name, to be summed.

        Each is a mean over candidates, linear in ``batch.weight``; see ``distributed``.
        """
        ...


class Batches(Protocol):
    """Training data as a function of (seed, epoch, step)."""

    def __len__(self) -> int:
        """Steps an epoch."""
        ...

    def epoch(self, e: int, start: int = 0, /) -> Iterable[Batch]:
        """The batches of epoch ``e`` from step ``start`` on, the same on every call.

        Skipping to ``start`` is cheap. Batches are built in another thread, so that nothing here
        may draw from a global random generator.
        """
        ...


Validate = Callable[[nn.Module], float]


def fit(
    model: Trainable,
    batches: Batches,
    config: Training,
    *,
    validate: Validate | None = None,
    checkpoint_dir: Path | None = None,
    scalars_dir: Path | None = None,
    progress: Progress | None = None,
    name: str = "",
    group: Group = ALONE,
) -> History:
    """Train ``model`` in place; leave it in eval mode with its best weights.

    ``validate`` scores the model in eval mode on later data, higher is better; without it the last
    weights are kept. With a ``checkpoint_dir`` the run continues from what is there: on CPU, with
    equal settings, batches and threads, bit for bit as if it had never stopped. Ctrl-C leaves a
    checkpoint behind before KeyboardInterrupt goes on; that of a finished run answers at once.

    Raises DataError for a loss, gradient or validation that is not finite and for a checkpoint that
    is damaged or cannot be written, ConfigError for one of other settings or of another model.
    """
    if not isinstance(model, nn.Module):
        raise TypeError("fit: the model is not an nn.Module")
    name = name or "training"
    if len(batches) == 0:
        raise DataError(f"{name}: no batches to train on; is the training period empty?")
    run = _Run(model, model.loss, batches, config, validate, checkpoint_dir, name, group)
    with threads(config.threads), ExitStack() as stack:
        run.resume()
        done = run.history.steps
        if scalars_dir is not None and group.rank == 0:
            run.observers.append(ScalarLog(scalars_dir, done))
        if progress is not None and progress.console.is_terminal and group.rank == 0:
            run.observers.append(Bar(progress, name, config.epochs, run.total, done))
        for observer in run.observers:
            stack.push(lambda error, *_, told=observer: told.closed(finished=error is None))
        run.train()
    return run.history


@dataclass(slots=True)
class _Run:
    """One call of ``fit``. What a checkpoint holds changes between steps, never within one."""

    model: nn.Module
    loss: Callable[[Batch], Mapping[str, Tensor]]
    batches: Batches
    config: Training
    score: Validate | None
    directory: Path | None
    name: str
    group: Group
    observers: list[Observer] = field(default_factory=list[Observer])
    history: History = field(default_factory=History)
    best: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    optimizer: Optimizer = field(init=False)
    samples_per_s: float = 0.0
    clock_s: float = 0.0  # when the last step ended
    saved_s: float = field(default_factory=perf_counter)
    saved_at: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.optimizer = Optimizer(self.model, self.config)

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return self.config.epochs * len(self.batches)

    @property
    def done(self) -> bool:
        patience = self.config.patience
        return self.history.steps >= self.total or 0 < patience <= self.history.waited

    def train(self) -> None:
        """Go on to the end, or to Ctrl-C."""
        try:
            self.model.train()
            self._validate_if_due()
            while not self.done:
                self._train_epoch()
        except KeyboardInterrupt:
            self._save()
            raise
        self._save()
        if self.best:
            self.model.load_state_dict(self.best)
        self.group.copy_first(self.model)
        self.model.eval()

    def _train_epoch(self) -> None:
        epoch, start = divmod(self.history.steps, len(self.batches))
        self.clock_s = perf_counter()
        with closing(ahead(self.batches.epoch(epoch, start))) as coming:
            for _, batch in zip(range(start, len(self.batches)), coming, strict=True):
                self._step(batch, epoch)
                self._validate_if_due()
                if self.done:
                    return
                if perf_counter() - self.saved_s >= self.config.checkpoint_every_s:
                    self._save()

    def _step(self, batch: Batch, epoch: int) -> None:
        step, rate = self.history.steps, self.config.rate(self.history.steps, epoch)
        with uninterrupted():  # the forward pass moves running means: half a step cannot be undone
            seed(self.config.seed, step, self.group.rank)
            loss = self._backward(self._on_device(self.group.share(batch)))
            norm = self.optimizer.clip(self.config.clip_norm)
            self._check_finite(loss, norm, epoch)
            self.optimizer.step(rate)
            self.history.loss.append(sum(loss.values()))
            self.history.samples += len(batch.candidates)
            self._tick(len(batch.candidates))
        report = StepReport(
            step=step + 1,
            epoch=epoch,
            loss=loss,
            learning_rate=rate * self.config.learning_rate,
            gradient_norm=norm,
            samples_per_s=self.samples_per_s,
        )
        for observer in self.observers:
            observer.stepped(report)

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Leave gradients of the whole batch behind and return its losses."""
        parts = self.loss(batch)
        loss_P = torch.stack(list(parts.values()))
        loss_P.sum().backward()
        self.optimizer.sum_rows()
        self.group.average(self.optimizer.dense, list(self.optimizer.tables.values()))
        mean_P = self.group.mean(loss_P.detach())
        return dict(zip(parts, mean_P.tolist(), strict=True))

    def _on_device(self, batch: Batch) -> Batch:
        device = next(self.model.parameters()).device
        return batch if device.type == "cpu" else map_tensors(lambda x: x.to(device), batch)

    def _check_finite(self, loss: Mapping[str, float], norm: float, epoch: int) -> None:
        if all(math.isfinite(value) for value in (*loss.values(), norm)):
            return
        parts = ", ".join(f"{part} = {value:.4g}" for part, value in loss.items())
        raise DataError(
            f"{self.name}: step {self.history.steps + 1} (epoch {epoch + 1}): loss or gradient is "
            f"not finite: {parts}, gradient norm = {norm:.4g}; lower the learning rates, set "
            "clip_norm, or look for values in the features that are not finite"
        )

    def _tick(self, samples: int) -> None:
        now_s = perf_counter()
        passed_s, self.clock_s = now_s - self.clock_s, now_s
        self.history.seconds += passed_s
        speed = samples / max(passed_s, 1e-9)
        self.samples_per_s = 0.9 * self.samples_per_s + 0.1 * speed if self.samples_per_s else speed

    def _validate_if_due(self) -> None:
        step, every = self.history.steps, self.config.validate_every
        due = step % len(self.batches) == 0 or (every > 0 and step % every == 0)
        known = step == 0 or step in dict(self.history.validation[-1:])
        score = self.score
        if score is None or known or not due:
            return
        value = self.group.from_first(lambda: self._validated(score))
        with uninterrupted():
            self.history.validation.append((step, value))
            if self.history.waited == 0:
                self.best = {k: v.clone() for k, v in self.model.state_dict().items()}
        for observer in self.observers:
            observer.validated(step, value)
        self.clock_s = perf_counter()

    def _validated(self, score: Validate) -> float:
        self.model.eval()
        with torch.no_grad():
            value = float(score(self.model))
        self.model.train()
        if not math.isfinite(value):
            raise DataError(
                f"{self.name}: step {self.history.steps}: validation gave {value}; does the "
                "validation period hold both outcomes of every task?"
            )
        return value

    def _save(self) -> None:
        at = (self.history.steps, len(self.history.validation))
        if self.directory is None or self.group.rank > 0 or at == self.saved_at:
            return
        state = {
            "settings": self._settings(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "history": self.history.state_dict(),
        }
        checkpoint.save(self.directory, state)
        self.saved_at, self.saved_s, self.clock_s = at, perf_counter(), perf_counter()

    def _settings(self) -> dict[str, object]:
        return {**self.config.shaping(), "steps an epoch": len(self.batches)}

    def resume(self) -> None:
        """Take up the checkpoint if there is one; give every process the same start."""
        directory = self.directory
        state: dict[str, Any] | None = self.group.from_first(
            lambda: None if directory is None else checkpoint.load(directory)
        )
        if state is None:
            return self.group.copy_first(self.model)
        here = (self._settings(), checkpoint.shapes(self.model.state_dict()))
        there = (state["settings"], checkpoint.shapes(state["model"]))
        for what, ours, theirs in zip(("settings", "model"), here, there, strict=True):
            difference = checkpoint.differing(ours, theirs)
            if difference is not None:
                raise ConfigError(
                    f"{directory}: the checkpoint there is of another {what}: {difference}; "
                    "delete it, or go back to what it was made with"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.best = History.of(state["history"]), state["best"]
        self.saved_at = (self.history.steps, len(self.history.validation))
