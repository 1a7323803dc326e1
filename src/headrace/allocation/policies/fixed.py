"""The same quota for every request: the baseline an adaptive allocator has to beat."""

from __future__ import annotations

from typing import Literal, final

from ...data import Requests
from ...stages import Plan, Trace
from ..quotas import Quotas


@final
class Fixed:
    """Constant quotas."""

    class Config(Quotas):
        """Settings of Fixed."""

        kind: Literal["fixed"] = "fixed"

        def build(self) -> Fixed:
            """Make the allocator."""
            return Fixed(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reads_sequences = ()

    def plan(self, requests: Requests) -> Plan:
        """The quotas, ``(B,) int64`` each."""
        return Plan.constant(self.config.quota, len(requests))

    def observe(self, trace: Trace) -> None:
        """Learn nothing."""
        del trace
