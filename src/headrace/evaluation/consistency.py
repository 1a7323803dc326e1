"""Whether the pre-ranker keeps what the ranker wants, and what was really taken.

  N  candidates, summed over requests    B  requests    I  items of the catalogue
  m  favourites: the ranker's best       k  what the pre-ranker keeps

Both order the same candidates by worth. "As the ranker" is one aim, what users took wherever they
found it is another (ASMOL, arXiv:2305.13647, judges by the latter alone): both are reported, over
all items and for kinds of items that cascades tend to starve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Candidates, Ragged
from ..ops import ragged
from ..ops.grades import grades
from ..samples import Samples
from . import lists
from .lists import Matches
from .metrics import Floats, mean, standard_error
from .structure import Agreement, Consistency, KindOfItem

LENGTHS = (10, 20, 50, 100)
FAVOURITES = 10
CUT = 50  # at which kinds of items are judged
NEW_DAYS = 28
SMALL_SHARE = 0.2  # of the target events that small values of a feature have together
SELLERS = ("seller", "shop", "merchant", "advertiser", "manufacturer", "brand")
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Orders:
    """What pre-ranker and ranker make of the same candidates, and what was taken."""

    rough_N: Tensor  # worth by the pre-ranker
    fine_N: Tensor  # worth by the ranker
    item: Ragged  # (N,) int64
    truth: Ragged  # items taken, whoever found them

    @classmethod
    def join(cls, parts: Sequence[Orders]) -> Orders:
        """One of several, end to end."""
        return cls(
            torch.cat([part.rough_N for part in parts]),
            torch.cat([part.fine_N for part in parts]),
            Ragged.join([part.item for part in parts]),
            Ragged.join([part.truth for part in parts]),
        )


def consistency(orders: Orders, kinds: Mapping[str, Tensor]) -> Consistency:
    """All that a report says of the pre-ranker's choice; ``kinds`` are flags over items, (I,)."""
    judged = _Judged.of(orders)
    at = {str(k): judged.agreement(k) for k in LENGTHS}
    return {
        "favourites": FAVOURITES,
        "requests": int((orders.item.lengths > 0).sum()),
        "tau": mean(lists.kendall_tau(orders.rough_N, orders.fine_N, orders.item.offsets)),
        "at": at,
        "cut": CUT,
        "kinds": {name: judged.kind(is_of_I) for name, is_of_I in kinds.items()},
    }


@dataclass(frozen=True, slots=True)
class _Judged:
    """The pre-ranker's whole order, against both aims."""

    listed: Ragged  # items, the pre-ranker's best first
    worth_N: Tensor  # of the listed, by the ranker, 0 or more
    grade_N: Tensor  # of the listed, by the ranker
    favourites: Ragged  # items
    truth: Ragged

    @classmethod
    def of(cls, orders: Orders) -> _Judged:
        offsets, lengths_B = orders.item.offsets, orders.item.lengths
        order_N = ragged.top(orders.rough_N, offsets, lengths_B)
        listed = orders.item.with_values(orders.item.values[order_N])
        most_B = lengths_B.clamp(max=FAVOURITES)
        best = ragged.top(orders.fine_N, offsets, most_B)
        favourites = Ragged.sized(orders.item.values[best], most_B)
        grade_N = grades(orders.fine_N, offsets)[order_N]
        worth_N = orders.fine_N[order_N].double().clamp(min=0)
        return cls(listed, worth_N, grade_N, favourites, orders.truth)

    def agreement(self, k: int) -> Agreement:
        kept = self.wanted()
        hit_B, taken_B = kept.recall(k), self.taken().recall(k)
        worth_B = self._worth_hit(kept, k)
        ndcg_B = lists.graded_ndcg(self.grade_N, self.listed.offsets, k)
        return {
            "hit": mean(hit_B),
            "worth_hit": mean(worth_B),
            "ndcg": mean(ndcg_B),
            "taken_hit": mean(taken_B),
            "se": {
                "hit": standard_error(hit_B),
                "worth_hit": standard_error(worth_B),
                "ndcg": standard_error(ndcg_B),
                "taken_hit": standard_error(taken_B),
            },
        }

    def kind(self, is_of_I: Tensor) -> KindOfItem:
        """The favourites and the taken items of one kind, at ``CUT``."""
        favourites, taken = (_only(each, is_of_I) for each in (self.favourites, self.truth))
        kept = self.wanted(favourites)
        share = float(is_of_I[self.listed.values].double().mean()) if len(self.worth_N) else np.nan
        return {
            "candidates": share,
            "favourites": len(favourites.values),
            "taken": len(taken.values),
            "hit": mean(kept.recall(CUT)),
            "worth_hit": mean(self._worth_hit(kept, CUT)),
            "taken_hit": mean(self.taken(taken).recall(CUT)),
        }

    def wanted(self, favourites: Ragged | None = None) -> Matches:
        """Which of the listed are among the favourites."""
        return lists.match(self.listed, self.favourites if favourites is None else favourites)

    def taken(self, truth: Ragged | None = None) -> Matches:
        """Which of the listed were taken."""
        return lists.match(self.listed, self.truth if truth is None else truth)

    def _worth_hit(self, kept: Matches, k: int) -> Floats:
        """Share of the favourites' worth among the first ``k``; undefined if they have none."""
        all_B = kept.value(self.worth_N, len(self.worth_N))
        return lists.ratio(kept.value(self.worth_N, k), all_B)


def _only(items: Ragged, is_of_I: Tensor) -> Ragged:
    return Candidates(items).take(torch.nonzero(is_of_I[items.values])[:, 0]).item_id


def kinds(samples: Samples, sellers: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Kinds of items that cascades tend to starve, as flags over items ``(I,) bool``.

    Items first seen in the ``NEW_DAYS`` before the test period or later; items, and values of the
    features ``sellers`` with all their items, that together have the least ``SMALL_SHARE`` of the
    target events. By default the features are those of ``SELLERS`` that the schema has.
    """
    known = samples.space.schema.names("item")
    named = [name for name in SELLERS if name in known] if sellers is None else sellers
    catalogue, count_I = samples.space.catalogue, samples.frequency
    out = {"new items": _new(samples), "rare items": _small(np.arange(len(count_I)), count_I)}
    for name in named:
        value_I = catalogue.features[name].numpy()
        out[f"small by {name}"] = _small(value_I, count_I) & torch.from_numpy(value_I > 0)
    return {name: is_of_I for name, is_of_I in out.items() if name == "new items" or is_of_I.any()}


def _new(samples: Samples) -> Tensor:
    log = samples.log
    first_I = np.full(log.manifest.num_items, np.iinfo(np.int64).max)
    np.minimum.at(first_I, np.asarray(log.event("item")), np.asarray(log.event("time_ms")))
    return torch.from_numpy(first_I >= samples.split.interval("test")[0] - NEW_DAYS * DAY_MS)


def _small(value_I: NDArray[np.int64], count_I: NDArray[np.int64]) -> Tensor:
    """Items of the values that have the fewest events, up to a share of all events."""
    count_V = np.bincount(value_I, weights=count_I)
    order_V = np.argsort(count_V, kind="stable")
    small_V = np.empty(len(count_V), bool)
    small_V[order_V] = count_V[order_V].cumsum() <= SMALL_SHARE * count_V.sum()
    return torch.from_numpy(small_V[value_I])
