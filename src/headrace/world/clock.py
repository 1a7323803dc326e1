"""When people come, so that any time tells its session and page without looking at a log.

A user's log is cut into windows of equal length on a *busy clock*, which runs fast when the
platform is busy; session k begins at a random place of window k. That gives day and night.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import leaf
from .rng import START, mix, uniform

Array = NDArray[Any]

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
PAGE_MS = 60_000  # from page to page, less when the window is short
MIN_PAGE_MS = 1_000

# Traffic by hour: quiet at night, a peak at noon, a higher one in the evening.
_TRAFFIC = np.array(
    [9, 6, 4, 3, 3, 4, 7, 12, 18, 23, 26, 28, 29, 27, 26, 26, 27, 28, 31, 37, 43, 44, 35, 20], float
)
_BUSY = np.concatenate([[0.0], np.cumsum(_TRAFFIC / _TRAFFIC.sum())]) * DAY_MS  # (25,) at the hour
MAX_SPEED = float(_TRAFFIC.max() / _TRAFFIC.mean())  # of the busy clock against the wall clock
_MARGIN = 0.01  # of a window, free at both ends: rounding cannot change the session


@leaf
def wall_ms(busy_ms: float) -> float:
    """The wall clock's time since the first midnight."""
    day, rest = divmod(busy_ms, DAY_MS)
    hour = min(np.searchsorted(_BUSY, rest, side="right") - 1, 23)
    share = (rest - _BUSY[hour]) / (_BUSY[hour + 1] - _BUSY[hour])
    return day * DAY_MS + (hour + share) * HOUR_MS


@leaf
def busy_ms(wall: float) -> float:
    """The inverse of ``wall_ms``."""
    day, rest = divmod(wall, DAY_MS)
    hour = min(int(rest // HOUR_MS), 23)
    share = rest / HOUR_MS - hour
    return day * DAY_MS + _BUSY[hour] + share * (_BUSY[hour + 1] - _BUSY[hour])


@leaf
def begin(
    key: np.uint64, window_ms: float, session: int, pages: int, start_ms: int
) -> tuple[int, int]:
    """When a session begins, unix ms, and how long a page lasts. ``key`` is the session's."""
    opens = (session + _MARGIN) * window_ms  # on the busy clock
    closes = wall_ms((session + 1 - _MARGIN) * window_ms)  # on the wall clock
    page_ms = int(min(PAGE_MS, (closes - wall_ms(opens)) / pages))
    latest = busy_ms(closes - page_ms * pages)
    begins = wall_ms(opens + max(latest - opens, 0.0) * uniform(mix(key, START)))
    return start_ms + int(begins), page_ms


@leaf
def session_at(time_ms: int, start_ms: int, window_ms: float) -> int:
    """The session whose window a time falls in; before the log it is the first."""
    since = time_ms - start_ms
    return int(busy_ms(float(since)) // window_ms) if since > 0 else 0
