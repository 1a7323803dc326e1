"""What is known of a request before any work is done on it; no candidate is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Requests
from ..errors import ConfigError, suggest
from ..ops import habits

Array = NDArray[Any]
HOUR_MS = 3_600_000
EXCLUDED = -1  # the column of how many items a request leaves out


@dataclass(frozen=True)
class Describer:
    """Turns requests into rows of numbers: habits of the history, codes of user and context.

    DCAF, section 4.2: user profile, behaviour and context; none of the target. Codes enter as
    numbers, which trees can split and a line can make little of. Last, how many items a request
    leaves out: those who want nothing that they had need other work than those who do not mind.
    """

    history: str  # the sequence that habits are told from; "" for none
    columns: tuple[str, ...]  # plain columns of requests

    @classmethod
    def of(cls, requests: Requests, history: str, leave_out: Sequence[str] = ()) -> Describer:
        """All plain columns that requests have, but for some."""
        sequences = {name.split(".")[0] for name in requests.features if "." in name}
        if history and history not in sequences:
            raise ConfigError(
                f"allocation.history: no sequence {history!r}; {suggest(history, sequences)}"
            )
        plain = (name for name in requests.features if "." not in name)
        return cls(history, tuple(sorted(name for name in plain if name not in leave_out)))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features, in order."""
        own = habits.NAMES if self.history else ()
        return ("utc_hour", "utc_weekday", *own, *self.columns, "excluded")

    def __call__(self, requests: Requests) -> Array:  # (B, F) float64
        """One row a request, always finite."""
        now_B = requests.time_ms.numpy()
        parts = [
            (now_B // HOUR_MS % 24).astype(np.float64)[:, None],
            ((now_B // (24 * HOUR_MS) + 3) % 7).astype(np.float64)[:, None],
        ]
        if self.history:
            events = requests.ragged(f"{self.history}.time_ms")
            value = requests.ragged(f"{self.history}.value").values
            told = habits.habits(
                events.offsets.numpy(), events.values.numpy(), value.numpy(), now_B
            )
            parts.append(np.nan_to_num(told, posinf=0.0, neginf=0.0))
        if self.columns:
            codes = [requests.tensor(name).numpy() for name in self.columns]
            parts.append(np.stack(codes, axis=1).astype(np.float64))
        parts.append(requests.exclude.lengths.numpy().astype(np.float64)[:, None])
        return np.concatenate(parts, axis=1)
