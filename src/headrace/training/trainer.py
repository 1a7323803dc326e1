"""Where a run trains its models: one folder, one display, the same loop for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress
from torch import nn

from .distributed import ALONE, Group
from .history import History
from .loop import Batches, Trainable, fit
from .settings import Training


@dataclass
class Trainer:
    """Trains models by name; remembers how each went."""

    folder: Path | None = None  # checkpoints and scalars, a folder a model; None keeps nothing
    progress: Progress | None = None
    group: Group = ALONE  # the processes that train together
    histories: dict[str, History] = field(default_factory=dict[str, History])

    def fit(
        self,
        model: Trainable,
        batches: Batches,
        config: Training,
        *,
        name: str,
        validate: Callable[[nn.Module], float] | None = None,
    ) -> History:
        """Train one model in place; see ``loop.fit``."""
        history = fit(
            model,
            batches,
            config,
            validate=validate,
            checkpoint_dir=self.folder / "checkpoints" / name if self.folder else None,
            scalars_dir=self.folder / "scalars" / name if self.folder else None,
            progress=self.progress,
            name=name,
            group=self.group,
        )
        self.histories[name] = history
        return history
