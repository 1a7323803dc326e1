"""The quotas of one plan as settings: what every policy has, and how mistakes are answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field

from .. import config
from ..errors import ConfigError, suggest
from .actions import STAGES

Quota = Annotated[int, Field(ge=0, le=10_000)]


class Quotas(config.Config):
    """Constant quotas: the plan itself, or the one that serves when a policy cannot decide."""

    quota: Mapping[str, Quota]
    """Items admitted: of each channel by its name (0 switches it off), by "retrieval" (the
    merged list), by "preranking" (into the ranker) and by "reranking" (the slate)."""

    def check(self, channels: Iterable[str]) -> None:
        """Verify the keys against the cascade: every stage and every channel, nothing else.

        Raises ConfigError naming the first mistake.
        """
        names = list(channels)
        for name in names:
            if name in STAGES:
                raise ConfigError(f"a channel cannot be called {name!r}, which is a stage")
        for key in self.quota:
            if key not in (*STAGES, *names):
                near = suggest(key, (*STAGES, *names))
                raise ConfigError(f"allocation.quota: no such stage or channel {key!r}; {near}")
        for key in (*STAGES, *names):
            if key not in self.quota:
                hint = "" if key in STAGES else "; 0 switches the channel off"
                raise ConfigError(f"allocation.quota.{key}: required, but missing{hint}")
        for stage in STAGES:
            if self.quota[stage] == 0:
                raise ConfigError(f"allocation.quota.{stage}: must be at least 1, got 0")
        if not any(self.quota[name] for name in names):
            raise ConfigError("allocation.quota: every channel is at 0; switch one on")
