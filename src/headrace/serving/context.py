"""What a live request's context is in the codes of the log, and what is on show there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..errors import RequestError, suggest
from ..log import Log
from ..log.format import NO_GROUP, UNKNOWN

SHARED = 2  # requests a group has on average, at least, where groups are of places and not of views


@dataclass(frozen=True, slots=True)
class Situation:
    """A request's context in codes, and its exposure group."""

    codes: tuple[int, ...]  # one a context column of the log
    group: int


@final
class Contexts:
    """Completes and encodes contexts.

    A column not given is that of the user's last request in the log, or else unknown. The group is
    that of the newest logged request with equal codes: what was last on show in that store. Where
    groups belong to single requests (each was shown a list of its own) there is none: nothing has
    been shown yet.
    """

    def __init__(self, log: Log) -> None:
        self.names = log.manifest.context
        self._codes = {c: {v: code for code, v in enumerate(log.vocab[c])} for c in self.names}
        self._last_U = _last_requests(log)
        self._columns = [log.request(c) for c in self.names]
        self._newest = _newest_groups(log)

    def situation(
        self,
        given: Mapping[str, str | int | float],
        user: int,
        warnings: list[str],
        place: str = "",
    ) -> Situation:
        """Encode what a request says of its context.

        Values the log never saw are unknown, with a warning. Raises RequestError on a column that
        the log does not have.
        """
        for name in given:
            if name not in self.names:
                near = suggest(name, self.names)
                raise RequestError(f"{place}context.{name}: no context column of the log; {near}")
        codes = self._last(user)
        for at, name in enumerate(self.names):
            if name in given:
                codes[at] = self._code(name, str(given[name]), warnings)
        key = tuple(codes)
        return Situation(key, self._newest.get(key, NO_GROUP))

    def _code(self, name: str, value: str, warnings: list[str]) -> int:
        code = self._codes[name].get(value)
        if code is None:
            warnings.append(f"context.{name}: {value!r} is unknown to the log; taken as unknown")
            return UNKNOWN
        return code

    def _last(self, user: int) -> list[int]:
        """The codes of a user's last request."""
        at = int(self._last_U[user]) if user < len(self._last_U) else -1
        if at < 0:
            return [UNKNOWN] * len(self.names)
        return [int(column[at]) for column in self._columns]


def _last_requests(log: Log) -> NDArray[Any]:  # (U,) int64, -1 none
    """The number of each user's last request; requests are in (user, time) order."""
    user_R = log.request("user")
    last_U = np.full(log.manifest.num_users, -1)
    last_U[user_R] = np.arange(len(user_R))
    return last_U


def _newest_groups(log: Log) -> Mapping[tuple[int, ...], int]:
    names = log.manifest.context
    frame = pl.DataFrame(
        {
            **{f"context.{c}": np.asarray(log.request(c)) for c in names},
            "time_ms": np.asarray(log.request("time_ms")),
            "group": np.asarray(log.request("group")),
        }
    ).filter(pl.col("group") >= 0)
    if frame.height < SHARED * log.manifest.num_groups or frame.height == 0:
        return {}
    keys = [f"context.{c}" for c in names]
    newest = frame.sort("time_ms").unique(keys or ["group"], keep="last", maintain_order=True)
    if not keys:  # one place only: the log's newest group is its own
        newest = newest[-1:]
    return {tuple(row[:-1]): row[-1] for row in newest.select(*keys, "group").iter_rows()}
