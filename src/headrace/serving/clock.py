"""What time it is for the server."""

from __future__ import annotations

import time
from typing import Literal, final


@final
class Clock:
    """Milliseconds since 1970, by the wall clock or by the log's.

    The log's starts right after ``last_ms`` and runs at the pace of the wall clock, so that an old
    log can be served as if it ended now.
    """

    def __init__(self, kind: Literal["wall", "log"], last_ms: int) -> None:
        self._shift_ms = last_ms + 1 - _wall_ms() if kind == "log" else 0

    def now_ms(self) -> int:
        """The time now."""
        return _wall_ms() + self._shift_ms


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
