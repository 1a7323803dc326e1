"""Curves that TensorBoard can show: ``tensorboard --logdir DIRECTORY``."""

from __future__ import annotations

from pathlib import Path
from time import time_ns

from tensorboardX import SummaryWriter

from ..errors import DataError
from .observers import StepReport

EVERY_STEPS = 10


class ScalarLog:
    """Scalars by steps done.

    On one step in ten ``train/{loss, samples_per_s, learning_rate, gradient_norm}``, and
    ``train/loss_<part>`` where there are several; on every validation ``validation/metric``.
    A resumed run writes a new file that takes back what the old one said beyond ``done`` steps.
    """

    def __init__(self, directory: Path, done: int) -> None:
        try:
            self._writer = SummaryWriter(
                str(directory),
                purge_step=done + 1 if done else None,
                flush_secs=10,
                filename_suffix=f".{time_ns()}",  # runs may start within one second
            )
        except OSError as error:
            raise DataError(f"{directory}: scalars cannot be written ({error.strerror})") from error

    def stepped(self, report: StepReport) -> None:
        """Write one step in ten, the first included."""
        if report.step % EVERY_STEPS != 1:
            return
        values = {
            "loss": sum(report.loss.values()),
            "samples_per_s": report.samples_per_s,
            "learning_rate": report.learning_rate,
            "gradient_norm": report.gradient_norm,
        }
        if len(report.loss) > 1:
            values |= {f"loss_{part}": value for part, value in report.loss.items()}
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, report.step)

    def validated(self, step: int, value: float) -> None:
        """Write every validation."""
        self._writer.add_scalar("validation/metric", value, step)

    def closed(self, *, finished: bool) -> None:
        """Write out what is still in memory."""
        del finished
        self._writer.close()
