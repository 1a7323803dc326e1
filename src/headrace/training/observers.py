"""What a run tells the world while it trains, and the bar that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass(frozen=True, slots=True)
class StepReport:
    """One finished step."""

    step: int  # steps done, of all epochs
    epoch: int  # from 0
    loss: Mapping[str, float]  # by part
    learning_rate: float
    gradient_norm: float  # before clipping
    samples_per_s: float  # candidates, of all processes together


class Observer(Protocol):
    """Hears of a run in the first process only."""

    def stepped(self, report: StepReport) -> None: ...

    def validated(self, step: int, value: float) -> None: ...

    def closed(self, *, finished: bool) -> None: ...


def progress_bars(console: Console | None = None) -> Progress:
    """Bars on a terminal, nothing elsewhere. A context manager; many runs may share one."""
    console = console or Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class Bar:
    """One run as one task of any ``Progress``: its text says all but how far the run is."""

    def __init__(self, progress: Progress, name: str, epochs: int, steps: int, done: int) -> None:
        self._progress, self._name, self._epochs = progress, name, epochs
        self._task = progress.add_task(name, total=steps, completed=done)
        self._report: StepReport | None = None
        self._metric, self._shown_s = "", 0.0

    def stepped(self, report: StepReport) -> None:
        """Show the step, but not more often than an eye can follow."""
        self._report = report
        if perf_counter() - self._shown_s > 0.1:
            self._show()

    def validated(self, step: int, value: float) -> None:
        """Show the metric from now on."""
        self._metric = f"  validation {value:.4f}"
        self._show()

    def closed(self, *, finished: bool) -> None:
        """Show the last step; an early stop is the end, too."""
        self._show()
        if finished:
            done = self._progress.tasks[self._progress.task_ids.index(self._task)].completed
            self._progress.update(self._task, total=done)

    def _show(self) -> None:
        self._shown_s, report = perf_counter(), self._report
        if report is None:
            return
        text = (
            f"{self._name}  epoch {report.epoch + 1}/{self._epochs}"
            f"  loss {sum(report.loss.values()):.4f}{self._metric}"
            f"  {report.samples_per_s:,.0f} rows/s"
        )
        self._progress.update(self._task, completed=report.step, description=text.strip())
