"""Split by time. Whole requests fall on one side, since a request has one time stamp."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import DataError
from ..log import Log
from .config import SamplesConfig

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Split:
    """Half-open intervals: train [train_ms, valid_ms), valid [.., test_ms), test [.., end_ms)."""

    train_ms: int
    valid_ms: int
    test_ms: int
    end_ms: int

    @classmethod
    def of(cls, config: SamplesConfig, log: Log) -> Split:
        """Count back from the last event of the log."""
        end = log.manifest.last_ms + 1
        test = end - round(config.test_days * DAY_MS)
        valid = test - round(config.valid_days * DAY_MS)
        first = log.manifest.first_ms
        train = first if config.train_days is None else valid - round(config.train_days * DAY_MS)
        if valid <= first:
            days = (end - first) / DAY_MS
            raise DataError(
                f"samples: the log spans {days:.1f} days; test_days and valid_days leave none"
            )
        return cls(max(train, first), valid, test, end)

    def interval(self, part: str) -> tuple[int, int]:
        """First and one past the last millisecond of train, valid or test."""
        return {
            "train": (self.train_ms, self.valid_ms),
            "valid": (self.valid_ms, self.test_ms),
            "test": (self.test_ms, self.end_ms),
        }[part]
