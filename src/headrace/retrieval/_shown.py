"""What is on show in the exposure groups that requests may still come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..samples import Samples
from ..samples.split import DAY_MS

Array = NDArray[Any]
STALE_MS = 14 * DAY_MS  # a group that no request came from for so long is over


@dataclass(frozen=True)
class Shown:
    """Items by exposure group, for groups that are not over."""

    group: Array  # (G,) int64, ascending
    offsets: Array  # (G + 1,) int64
    item: Array  # (S,) int32, ascending in a group

    @classmethod
    def alive(cls, samples: Samples, until_ms: int) -> Shown:
        """Groups used of late, and groups not used before ``until_ms`` at all: those to come.

        Of later requests nothing is read, not even which groups they come from.
        """
        log = samples.log
        group_R, time_R = np.asarray(log.request("group")), np.asarray(log.request("time_ms"))
        before = (group_R >= 0) & (time_R < until_ms)
        last_G = np.full(log.manifest.num_groups, until_ms, np.int64)
        last_G[group_R[before]] = 0
        np.maximum.at(last_G, group_R[before], time_R[before])
        group = np.flatnonzero(last_G >= until_ms - STALE_MS)
        offsets, item = log.exposure("offsets"), log.exposure("item")
        return cls(
            group,
            np.concatenate([[0], np.cumsum(np.diff(offsets)[group])]).astype(np.int64),
            np.concatenate([item[:0], *(item[offsets[g] : offsets[g + 1]] for g in group)]),
        )

    def keep(self, kept_S: Array) -> Shown:
        """Only these of the items on show, ``(S,) bool``."""
        ends = np.concatenate([[0], np.cumsum(kept_S)])
        return Shown(self.group, ends[self.offsets].astype(np.int64), self.item[kept_S])


def find(key_B: Array, known_K: Array, *, default: int) -> Array:
    """The place of each key among ascending known ones, ``(B,) int64``; ``default`` if missing."""
    if not len(known_K):
        return np.full(len(key_B), default, np.int64)
    at = np.searchsorted(known_K, key_B).clip(max=len(known_K) - 1)
    return np.where(known_K[at] == key_B, at, default)
