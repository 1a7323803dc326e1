"""Where a plan finds too little: what the second search asks for, and the third."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import final

import torch

from ..stages import EFFORT, Plan, Trace

TIMES = (4, 16)  # what channels' quotas are multiplied by in the second search and in the third


@final
class Widening:
    """Widens plans by as little as is likely to fill a slate.

    The channels that ran are asked for more. Of those that a plan left out the one that finds an
    item in the least time joins them in the second search, all in the third, each with its quota of
    the fixed plan.
    """

    def __init__(self, channels: Iterable[str], fixed: Mapping[str, int]) -> None:
        self._fixed = fixed
        self._least_us = dict.fromkeys(channels, math.inf)  # that a channel took for an item

    def observe(self, trace: Trace) -> None:
        """Take notice of what channels take that found anything."""
        for name, least_us in self._least_us.items():
            if count := len(trace.found[name]):
                self._least_us[name] = min(least_us, trace.spent_us[name] / count)

    def __call__(self, plan: Plan, times: int) -> Plan:
        """The plan with so many times the channels' quotas, and with channels that it left out."""
        quota, all_join = dict(plan.quota), times == TIMES[-1]
        joined_B = torch.zeros_like(quota["retrieval"], dtype=torch.bool)
        for name in sorted(self._least_us, key=self._least_us.__getitem__):  # the cheapest first
            count, effort = self._fixed.get(name, 0), f"{EFFORT}{name}"
            joins_B = (quota[name] == 0) & (all_join | ~joined_B) & (count > 0)
            joined_B |= joins_B
            quota[name] = (quota[name] * times).masked_fill(joins_B, count)
            if effort in quota:
                quota[effort] = quota[effort].masked_fill(joins_B, 100)
        return Plan(quota, plan.note)
