"""Settings of the samples."""

from __future__ import annotations

from pydantic import Field, model_validator

from ..config import Config


class Negatives(Config):
    """What a request might have taken but did not, besides what it was shown."""

    keep_exposures: float = Field(default=0.01, ge=0, le=1)
    """Share of exposures without a label that enter training; predictions are corrected for it."""
    uniform: int = Field(default=1, ge=0, le=1000)
    """Items a request drawn evenly from the catalogue."""
    frequency: int = Field(default=4, ge=0, le=1000)
    """Items a request drawn by frequency ** 0.75."""
    history: int = Field(default=8, ge=0, le=1000)
    """Items a request drawn from the user's own past events."""


class SamplesConfig(Config):
    """How a log becomes samples. Intervals count back from the end of the log."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Event types to predict, one output of the rankers each."""
    target: tuple[str, ...] = ()
    """Event types that retrieval and the cascade are to find; default: the last task."""
    test_days: float = Field(default=14, gt=0)
    """The last days: reports only."""
    valid_days: float = Field(default=7, gt=0)
    """The days before them: early stopping, calibration, merge weights."""
    train_days: float | None = Field(default=None, gt=0)
    """Train models on this many days before those; default: all. Histories reach back further."""
    ranking_days: float | None = Field(default=None, gt=0)
    """Train pre-ranker and ranker on this many of the newest of them; default: all."""
    negatives: Negatives = Negatives()
    max_positives: int = Field(default=16, ge=1, le=1000)
    """Positives of one request that a retrieval batch may hold, drawn at random."""
    new_to_user: bool = False
    """Train retrieval only on items that are new to the user; old ones are repurchase's work."""

    @model_validator(mode="after")
    def _targets(self) -> SamplesConfig:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks: an event type is named twice")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """Event types that count as found."""
        return self.target or self.tasks[-1:]
