"""One list of what all channels found, by what a place in each channel's list is worth.

Scores of different channels cannot be compared; places can. On validation requests a logistic
regression learns, for every channel, how likely the item at a place is taken:

    logit p(taken | item) = bias + Σ_{c found it} (level_c - slope_c log(1 + place_c)),  slope_c ≥ 0

so that odds fall by a power of the place, channels that agree add up, and one that finds nothing
for a user leaves its room to the others. Unfitted, the lists are interleaved by place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..data import Candidates, Ragged
from ..ops import union

Array = NDArray[Any]
MAX_PLACES = 1_000  # later places are worth what the last one is
MIN_HITS = 20  # a fit on less says nothing


@final
@dataclass(frozen=True)
class Merge:
    """The worth of every place of every channel, in the order of the cascade's channels."""

    worth: Tensor  # (C, P) float32, log-odds that a place adds; if not fitted, the order of places
    bias: Tensor  # () float32; not a number if not fitted

    @classmethod
    def interleave(cls, channels: int) -> Merge:
        """No fit: first places first, earlier channels before later ones."""
        turn = torch.arange(MAX_PLACES * channels, dtype=torch.float32).reshape(-1, channels).T
        return cls((1 / (1 + turn)).contiguous(), torch.tensor(torch.nan))

    @classmethod
    def fit(cls, passes: Sequence[tuple[Mapping[str, Candidates], Ragged]]) -> Merge:
        """Learn from what channels found and what was taken, over one or more sets of requests.

        Requests come once as they are and once with the user's old items excluded: one fit serves
        both. With fewer than ``MIN_HITS`` items found that were taken, there is no fit.
        """
        names = list(passes[0][0])
        unions = [_Lists.of(found).collect() for found, _ in passes]
        place_MC = np.concatenate([place_MC for _, place_MC in unions])
        taken_M = np.concatenate(
            [_taken(item, truth) for (item, _), (_, truth) in zip(unions, passes, strict=True)]
        )
        if taken_M.sum() < MIN_HITS or taken_M.all():
            return cls.interleave(len(names))
        level_C, slope_C, bias = _regress(place_MC, taken_M)
        log_place_P = np.log1p(np.arange(MAX_PLACES))
        worth_CP = level_C[:, None] - slope_C[:, None] * log_place_P
        return cls(
            torch.from_numpy(worth_CP.astype(np.float32)), torch.tensor(bias, dtype=torch.float32)
        )

    def merge(self, found: Mapping[str, Candidates], quota_B: Tensor) -> Candidates:
        """At most ``quota_B`` distinct items a request, best first.

        Score ``"retrieval"`` ``(N, 1)`` is the probability that the item is taken (not fitted: one
        over its turn); feature ``"found_by"`` ``(N,)`` is the set of channels as bits, by position.
        """
        lists = _Lists.of(found)
        fitted = not bool(self.bias.isnan())
        offsets, item_K, worth_K, bits_K = map(
            torch.from_numpy,
            union.merge(
                lists.item,
                lists.offsets,
                self.worth.numpy(),
                fitted,
                quota_B.numpy(),
                np.zeros(lists.num_items, np.int32),
            ),
        )
        score_K = (self.bias + worth_K).sigmoid() if fitted else worth_K
        merged = Candidates(Ragged(item_K, offsets), {"found_by": bits_K})
        return merged.scored("retrieval", score_K.unsqueeze(-1))

    def arrays(self) -> Mapping[str, Tensor]:
        """The worths."""
        return {"worth": self.worth, "bias": self.bias}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> Merge:
        """Take up a merge."""
        return cls(arrays["worth"], arrays["bias"])


@dataclass(frozen=True)
class _Lists:
    """All channels' lists end to end."""

    item: Array  # (N,) int64
    offsets: Array  # (C, B + 1) int64, into ``item``

    @classmethod
    def of(cls, found: Mapping[str, Candidates]) -> _Lists:
        lists = [candidates.item_id for candidates in found.values()]
        starts = np.cumsum([0, *(len(x.values) for x in lists[:-1])])
        return cls(
            np.concatenate([x.values.numpy() for x in lists]),
            np.stack([x.offsets.numpy() for x in lists]) + starts[:, None],
        )

    @property
    def num_items(self) -> int:
        return 1 + int(self.item.max(initial=0))

    def collect(self) -> tuple[Ragged, Array]:
        """The distinct items and their place in every list ``(M, C)``, -1 none."""
        slots = np.zeros(self.num_items, np.int32)
        offsets, item, place_MC = union.collect(self.item, self.offsets, slots)
        return Ragged(torch.from_numpy(item), torch.from_numpy(offsets)), place_MC


def _taken(item: Ragged, truth: Ragged) -> Array:
    """Whether each item is in its request's truth, ``(M,) bool``."""
    size = 1 + max((int(x.values.max()) for x in (item, truth) if len(x.values)), default=0)
    taken = torch.isin(item.row * size + item.values, truth.row * size + truth.values)
    return taken.numpy()


def _regress(place_MC: Array, taken_M: Array) -> tuple[Array, Array, float]:
    """Level and slope of every channel, and the bias.

    A slope that comes out below 0 is noise, since a better place cannot be worth less: it is set
    to 0 and the others are fitted again.
    """
    channels = place_MC.shape[1]
    found_MC = (place_MC >= 0).astype(np.float64)
    nearness_MC = -np.log1p(place_MC.clip(min=0)) * found_MC
    inputs = np.concatenate([found_MC, nearness_MC], axis=1)
    spread = inputs.std(axis=0)
    kept = np.flatnonzero(spread > 0)
    while True:
        model = LogisticRegression(C=100.0, solver="newton-cholesky", max_iter=100)
        model.fit(inputs[:, kept] / spread[kept], taken_M)
        weight = np.zeros(2 * channels)
        weight[kept] = np.asarray(model.coef_)[0] / spread[kept]
        if (weight[channels:] >= 0).all():
            return weight[:channels], weight[channels:], float(np.asarray(model.intercept_)[0])
        kept = kept[(kept < channels) | (weight[kept] > 0)]
