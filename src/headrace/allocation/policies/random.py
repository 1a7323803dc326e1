"""The widest plan for a share of requests by lot, the cheapest for the others.

What an adaptive policy must beat at the same cost, and an experiment that says what plans bring.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from pydantic import Field

from ...data import Requests
from ...stages import Plan, Trace
from ..actions import OPTIONAL, Actions
from ..model import ACTIONS, FOLDER
from ..quotas import Quotas


@final
class Random:
    """A lot for each request. Until ``restore`` has been called it plans the fixed quota."""

    class Config(Quotas):
        """Settings of Random."""

        kind: Literal["random"] = "random"
        share: float = Field(default=0.5, ge=0, le=1)
        """Share of requests that get the widest plan."""
        seed: int = Field(default=1, ge=0)

        def build(self) -> Random:
            """Make the allocator."""
            return Random(self)

    def __init__(self, config: Config) -> None:
        self.config, self.reads_sequences = config, ()
        self._random = random.Random(config.seed)
        self._actions: Actions | None = None

    def restore(
        self, folder: Path, channels: Collection[str], options: Collection[str] = OPTIONAL
    ) -> None:
        """Take up the profiled plans. Raises DataError where there are none."""
        actions = Actions.read(folder / FOLDER / ACTIONS)
        actions.check(channels, options)
        self._actions = actions

    def plan(self, requests: Requests) -> Plan:
        """By lot; the note says with what likelihood."""
        if self._actions is None:
            return Plan.constant(self.config.quota, len(requests))
        share, last = self.config.share, len(self._actions) - 1
        wide_B = np.array([self._random.random() < share for _ in range(len(requests))], bool)
        choice_B = np.where(wide_B, last, 0)
        note = {
            "action": torch.from_numpy(choice_B),
            "propensity": torch.from_numpy(np.where(wide_B, share, 1 - share)),
        }
        return Plan(self._actions.plan(choice_B).quota, note)

    def observe(self, trace: Trace) -> None:
        """Learn nothing."""
        del trace

    def forget(self) -> None:
        """Nothing is counted."""

    def close(self) -> None:
        """Nothing is held."""
