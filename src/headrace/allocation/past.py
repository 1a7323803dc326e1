"""What more computation brought earlier requests of a user, beside what is usual.

N requests in order of time, J actions, U askers. Who buys much at once, or what no short list
holds, does so again: of all that is known before the work this foretells most. A mean over n
requests is drawn to the usual by one more, so that of strangers nothing is said. Who wants nothing
that they had is another asker than the same user at other times: what brings one much brings the
other nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .features import EXCLUDED
from .gains import against_best

Array = NDArray[Any]


@dataclass(frozen=True)
class Past:
    """By asker, from a replay; it stays as it is until the next one."""

    asker_U: Array  # rising
    over_UJ: Array  # against the best action for all, of which the level; beyond the mean of all

    @classmethod
    def of(cls, asker_N: Array, gain_NJ: Array) -> Past:
        """All that a replay said."""
        asker_U, at_N, count_U = np.unique(asker_N, return_inverse=True, return_counts=True)
        sum_UJ = np.zeros((len(asker_U), gain_NJ.shape[1]))
        np.add.at(sum_UJ, at_N, _over(gain_NJ))
        return cls(asker_U, sum_UJ / (count_U[:, None] + 1))

    def __call__(self, asker_B: Array) -> Array:  # (B, J), 0 of those it does not know
        at_B = np.searchsorted(self.asker_U, asker_B).clip(max=len(self.asker_U) - 1)
        return np.where((self.asker_U[at_B] == asker_B)[:, None], self.over_UJ[at_B], 0.0)

    def arrays(self) -> dict[str, Array]:
        """Everything needed to restore it."""
        return {"asker": self.asker_U, "over": self.over_UJ}


def askers(user_N: Array, feature_NF: Array) -> Array:  # (N,)
    """Who asks, and whether for what is new to them; ``feature_NF`` as described."""
    return 2 * user_N + (feature_NF[:, EXCLUDED] > 0)


def so_far(asker_N: Array, gain_NJ: Array) -> Array:  # (N, J)
    """What was known of each request's asker before it; what the request itself gained is not."""
    order = np.argsort(asker_N, kind="stable")
    asker, over = asker_N[order], _over(gain_NJ)[order]
    first = np.flatnonzero(np.append(True, asker[1:] != asker[:-1]))
    start = np.repeat(first, np.diff(np.append(first, len(asker))))
    before = np.cumsum(over, axis=0) - over
    count = np.arange(len(asker)) - start
    out_NJ = np.empty_like(over)
    out_NJ[order] = (before - before[start]) / (count[:, None] + 1)
    return out_NJ


def _over(gain_NJ: Array) -> Array:
    over_NJ, _ = against_best(gain_NJ, np.zeros(gain_NJ.shape[1], np.int64))
    return over_NJ - over_NJ.mean(axis=0)
