"""How good lists of items are: recall, NDCG and value per request; what channels share.

  N  listed items, summed over requests     B  requests     K  places of a list
  P  true items, summed over requests       C  channels     I  items of the catalogue

A list is best first and holds distinct items. Everything is computed per request and then averaged
over requests, never pooled; a request without a true item is undefined (NaN) and not averaged.

Sources: recall as in "TDM" (Zhu et al. 2018); the pre-ranker's recall as in "COLD" (Wang et al.
2020), eq. 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from ..data import Ragged
from ..ops import ragged
from .metrics import Floats, Values, mean, standard_error, to_numpy
from .structure import Channel, Errors, Overlap, RecallAt, SlateQuality

RECALL_LENGTHS = (10, 50, 200)
SLATE = 10


class Exclusive(NamedTuple):
    """What one channel finds and no other does."""

    hits: int  # true items, over all requests
    recall: float  # mean share of a request's true items: lost if the channel is removed


@dataclass(frozen=True, slots=True)
class Matches:
    """Which listed items are true, in list order: recall, NDCG and the rest at any length."""

    found: NDArray[np.bool_]  # (N,); a repeated item hits once
    offsets: NDArray[np.int64]  # (B+1,)
    num_true: NDArray[np.int64]  # (B,), distinct

    def hits(self, k: int) -> Floats:
        """How many of the first ``k`` are true, ``(B,)``."""
        return self._sum(self._first(k))

    def recall(self, k: int) -> Floats:
        """Share of a request's true items among its first ``k``, ``(B,)``."""
        return self.hits(k) / self._only_true(self.num_true.astype(np.float64))

    def ndcg(self, k: int) -> Floats:
        """Discounted gain of the first ``k`` over the best possible, gain 1 a hit, ``(B,)``."""
        gain_K = 1 / np.log2(np.arange(k) + 2)
        ideal = np.concatenate([[0.0], gain_K.cumsum()])
        place_N = self._place()
        gain_N = np.where(self._first(k), gain_K[place_N.clip(max=k - 1)], 0.0)
        return self._sum(gain_N) / self._only_true(ideal[self.num_true.clip(max=k)])

    def hit(self, k: int) -> Floats:
        """1 when any of the first ``k`` is true, ``(B,)``; its mean is the hit rate."""
        return self._only_true((self.hits(k) > 0).astype(np.float64))

    def reciprocal_rank(self, k: int) -> Floats:
        """1 over the place of the first hit among the first ``k``, else 0, ``(B,)``."""
        best_B = np.zeros(len(self.num_true))
        np.maximum.at(best_B, self._row(), self._first(k) / (self._place() + 1.0))
        return self._only_true(best_B)

    def value(self, price_N: Values, k: int) -> Floats:
        """Sum of the prices of the hits among the first ``k``, ``(B,)``, in the prices' unit."""
        return self._only_true(self._sum(np.where(self._first(k), to_numpy(price_N), 0.0)))

    def _row(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.num_true)), np.diff(self.offsets))

    def _place(self) -> NDArray[np.int64]:
        return np.arange(len(self.found)) - self.offsets[self._row()]

    def _first(self, k: int) -> NDArray[np.bool_]:
        return self.found & (self._place() < k)

    def _sum(self, value_N: NDArray[Any]) -> Floats:
        sums_B = np.bincount(self._row(), weights=value_N, minlength=len(self.num_true))
        return sums_B.astype(np.float64)  # bincount of nothing is int

    def _only_true(self, value_B: Floats) -> Floats:
        return np.where(self.num_true > 0, value_B, np.nan)


def match(lists: Ragged, truth: Ragged) -> Matches:
    """Mark what each request's list, best first, has of its set of true items."""
    if len(lists) != len(truth):
        raise ValueError(f"{len(lists)} lists, but {len(truth)} sets of true items")
    offsets = lists.offsets.numpy()
    hit_N, num_true_B = _match(
        lists.values.numpy(), offsets, truth.values.numpy(), truth.offsets.numpy()
    )
    return Matches(hit_N, offsets, num_true_B)


def agreement(coarse_N: Tensor, fine_N: Tensor, offsets: Tensor, top: int = 10) -> Matches:
    """How early the pre-ranker lists the ranker's favourites, both scoring the same candidates.

    ``agreement(...).recall(m)`` is the share of the ranker's top ``top`` in the pre-ranker's top
    ``m``: COLD's recall with the roles' cuts ``k = m`` and ``m = top``.
    """
    lengths_B = offsets.diff()
    everything = ragged.top(coarse_N, offsets, lengths_B)
    quota_B = lengths_B.clamp(max=top)
    favourites = ragged.top(fine_N, offsets, quota_B)
    return match(Ragged(everything, offsets), Ragged.sized(favourites, quota_B))


def graded_ndcg(grade_N: Values, offsets: Tensor, k: int) -> Floats:
    """NDCG of the first ``k`` of lists of graded candidates, gain ``2^grade - 1``, ``(B,)``.

    ``grade_N`` is in list order; the ideal list is the same in the order of grades. A list of
    nothing but grade 0 is undefined.
    """
    gain_N = np.exp2(to_numpy(grade_N).astype(np.float64)) - 1
    bounds = offsets.numpy()
    row_N = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    place_N = np.arange(len(gain_N)) - bounds[row_N]
    weight_N = np.where(place_N < k, 1 / np.log2(place_N + 2), 0.0)
    best_N = gain_N[np.lexsort((-gain_N, row_N))]
    got_B, ideal_B = (
        np.bincount(row_N, weights=each * weight_N, minlength=len(bounds) - 1).astype(np.float64)
        for each in (gain_N, best_N)
    )
    return ratio(got_B, ideal_B)


def kendall_tau(left_N: Tensor, right_N: Tensor, offsets: Tensor) -> Floats:
    """Kendall's τ_b of two scores of each request's candidates, ``(B,)``.

    Share of pairs in the same order less those in the other, ties corrected for. Undefined for
    fewer than two candidates, and where a score says the same of all.
    """
    left, right = left_N.numpy(), right_N.numpy()
    bounds = offsets.tolist()
    tau_B = np.full(len(bounds) - 1, np.nan)
    for b, (start, end) in enumerate(pairwise(bounds)):
        if end - start > 1:
            tau_B[b], _ = stats.kendalltau(left[start:end], right[start:end])
    return tau_B


def coverage(lists: Ragged, k: int, num_items: int) -> float:
    """Share of the catalogue that is among the first ``k`` of any request."""
    first = ragged.head(lists.offsets, lists.lengths.clamp(max=k))
    return len(lists.values[first].unique()) / num_items


def overlap(channels: Mapping[str, Ragged]) -> Overlap:
    """How much the channels' lists of distinct items have in common, as means over requests.

    ``jaccard[a][b]`` is what both found over what either found; ``share[a][b]`` is the part of a's
    list that b found too. Requests in which the denominator is empty are left out.
    """
    size = len(channels)
    jaccard, share = np.zeros((2, size, size))
    for a, left in enumerate(channels.values()):
        for b, right in enumerate(channels.values()):
            left_B, right_B = left.lengths.numpy(), right.lengths.numpy()
            both_B = match(left, right).hits(len(left.values))
            jaccard[a, b] = mean(ratio(both_B, left_B + right_B - both_B))
            share[a, b] = mean(ratio(both_B, left_B))
    return {"channels": list(channels), "jaccard": jaccard.tolist(), "share": share.tolist()}


def exclusive(channels: Mapping[str, Ragged], truth: Ragged) -> dict[str, Exclusive]:
    """What each channel finds of the truth that no other channel finds."""
    found_CP = np.array([match(truth, lists).found for lists in channels.values()])
    alone_P = found_CP.sum(0) == 1
    num_true_B = match(truth, truth).num_true
    row_P = truth.row.numpy()
    out: dict[str, Exclusive] = {}
    for name, found_P in zip(channels, found_CP, strict=True):
        hits_B = np.bincount(row_P, weights=found_P & alone_P, minlength=len(truth))
        out[name] = Exclusive(int(hits_B.sum()), mean(ratio(hits_B, num_true_B)))
    return out


def recall_at(lists: Ragged, truth: Ragged, seed: int = 0) -> RecallAt:
    """Recall at the report's three lengths, with standard errors."""
    matches = match(lists, truth)
    recall = {k: matches.recall(k) for k in RECALL_LENGTHS}
    return {
        "recall@10": mean(recall[10]),
        "recall@50": mean(recall[50]),
        "recall@200": mean(recall[200]),
        "se": {f"recall@{k}": standard_error(values_B, seed) for k, values_B in recall.items()},
    }


def channel_quality(
    channels: Mapping[str, Ragged], truth: Ragged, num_items: int, seed: int = 0
) -> dict[str, Channel]:
    """What each channel finds, and what only it finds, over its whole list."""
    alone = exclusive(channels, truth)
    return {
        name: {
            **recall_at(lists, truth, seed),
            "exclusive_hits": alone[name].hits,
            "exclusive_recall": alone[name].recall,
            "coverage": coverage(lists, len(lists.values), num_items),
            "items": float(lists.lengths.double().mean()),
        }
        for name, lists in channels.items()
    }


def slate_quality(slate: Ragged, truth: Ragged, price_I: Values, seed: int = 0) -> SlateQuality:
    """Everything the report says of slates of ten; ``price_I[0]`` belongs to the unknown item."""
    matches = match(slate, truth)
    measures = _slate_measures(matches, slate, price_I)
    return {
        "recall@10": mean(measures["recall@10"]),
        "ndcg@10": mean(measures["ndcg@10"]),
        "value": mean(measures["value"]),
        "hit_rate@10": mean(matches.hit(SLATE)),
        "mrr@10": mean(matches.reciprocal_rank(SLATE)),
        "coverage@10": coverage(slate, SLATE, len(price_I) - 1),
        "se": {name: standard_error(value_B, seed) for name, value_B in measures.items()},
    }


def delta_errors(
    slate: Ragged, other: Ragged, truth: Ragged, price_I: Values, seed: int = 0
) -> Errors:
    """Standard errors of how far one system's slates are ahead of another's, request by request."""
    ours = _slate_measures(match(slate, truth), slate, price_I)
    theirs = _slate_measures(match(other, truth), other, price_I)
    return {name: standard_error(ours[name] - theirs[name], seed) for name in ours}


def _slate_measures(matches: Matches, slate: Ragged, price_I: Values) -> dict[str, Floats]:
    """The measures that have a standard error, per request."""
    price_N = to_numpy(price_I)[slate.values.numpy()]
    return {
        "recall@10": matches.recall(SLATE),
        "ndcg@10": matches.ndcg(SLATE),
        "value": matches.value(price_N, SLATE),
    }


def ratio(part_B: NDArray[Any], whole_B: NDArray[Any]) -> Floats:
    """Divide; an empty whole gives NaN."""
    return np.divide(part_B, whole_B, out=np.full(len(part_B), np.nan), where=whole_B > 0)


@njit(cache=True, nogil=True)
def _match(
    item_N: NDArray[Any], offsets: NDArray[Any], true_P: NDArray[Any], true_offsets: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Hit or not, per listed item, and the number of distinct true items, per request."""
    hit_N = np.zeros(len(item_N), np.bool_)
    num_true_B = np.zeros(len(offsets) - 1, np.int64)
    for b in range(len(num_true_B)):
        true = np.unique(true_P[true_offsets[b] : true_offsets[b + 1]])
        found = np.zeros(len(true), np.bool_)
        num_true_B[b] = len(true)
        for n in range(offsets[b], offsets[b + 1]):
            t = np.searchsorted(true, item_N[n])
            if t < len(true) and true[t] == item_N[n] and not found[t]:
                hit_N[n] = found[t] = True
    return hit_N, num_true_B
