"""What happened in a run, over all its resumptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(slots=True)
class History:
    """Grows while the run goes on."""

    loss: list[float] = field(default_factory=list[float])
    """Of every step, its parts summed."""
    validation: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Steps done and the metric found then, higher is better."""
    samples: int = 0
    """Candidates seen."""
    seconds: float = 0.0
    """Spent in steps, waiting for batches included, validation and checkpoints not."""

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.loss)

    @property
    def best(self) -> tuple[int, float] | None:
        """Steps done at the best validation and its metric; the earliest of equals."""
        return max(self.validation, key=lambda at: at[1], default=None)

    @property
    def waited(self) -> int:
        """Validations since the best one."""
        best = self.best
        return 0 if best is None else len(self.validation) - 1 - self.validation.index(best)

    def state_dict(self) -> dict[str, Any]:
        """As plain values and one tensor."""
        return {
            "loss": torch.tensor(self.loss, dtype=torch.float64),
            "validation": list(self.validation),
            "samples": self.samples,
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> History:
        """What ``state_dict`` described."""
        return cls(state["loss"].tolist(), state["validation"], state["samples"], state["seconds"])
