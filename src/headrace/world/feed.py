"""What the platform of the log shows: pages of items, best first by an old, noisy ranker."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .catalogue import draw_category, draw_in_category
from .jit import leaf
from .rng import SLATE, below, logistic, mix, uniform
from .rules import FEED, SEQUEL, Truth
from .truth import utility
from .visits import Visit, in_ring

Array = NDArray[Any]

_LASTING, _SESSION, _SEASONAL = range(3)
_ATTEMPTS = 4  # draws a candidate before the pool stays short


@leaf
def fill_page(truth: Truth, user: int, v: Visit, item_P: Array, score_P: Array) -> int:
    """Put distinct items at the front of ``item_P``, in the order shown; return how many.

    ``item_P`` and ``score_P`` have room for a pool. Planted pages are in random order, so that a
    position tells nothing.
    """
    r = truth.rules
    key = mix(mix(mix(r.seed, user), SLATE), v.time_ms)
    wanted = r.pool if v.scene == FEED else r.page_size
    found = 0
    for attempt in range(wanted * _ATTEMPTS):
        k = mix(key, attempt)
        category = _channel(truth, user, v, found, k)
        if v.scene == FEED and in_ring(truth, v.ring, category):
            continue
        item = draw_in_category(truth.shelf, category, mix(k, 3))
        if _holds(item_P, found, item):
            continue
        score = logistic(mix(k, 4))
        if v.scene == FEED and r.skill != 0.0:
            score += r.skill * utility(truth, user, v, item)
        item_P[found], score_P[found] = item, score
        found += 1
        if found == wanted:
            break
    shown = min(found, r.page_size)
    _best_first(item_P, score_P, found, shown)
    return shown


@leaf
def _channel(truth: Truth, user: int, v: Visit, found: int, key: np.uint64) -> int:
    """The category of the next candidate."""
    shelf, crowd, share = truth.shelf, truth.crowd, truth.rules.channel
    if v.scene == SEQUEL:
        return v.ahead if found % 2 == 0 else v.behind
    if v.scene != FEED:
        return v.shows
    u = uniform(key)
    if u < share[_LASTING]:
        liked = crowd.interest[user, below(mix(key, 1), crowd.interest.shape[1])]
        return int(shelf.goods[liked]["category"])
    if u < share[_SESSION]:
        return int(shelf.goods[v.focus]["category"])
    if u < share[_SEASONAL]:
        return int(shelf.goods[crowd.seasonal[user]]["category"])
    return draw_category(shelf, mix(key, 2))


@leaf
def _holds(item_P: Array, size: int, item: int) -> bool:
    held = False
    for i in range(size):
        held = held or item_P[i] == item
    return held


@leaf
def _best_first(item_P: Array, score_P: Array, size: int, top: int) -> None:
    """Bring the ``top`` best of the first ``size`` to the front, in order."""
    for i in range(top):
        best = i
        for j in range(i + 1, size):
            if score_P[j] > score_P[best]:
                best = j
        item_P[i], item_P[best] = item_P[best], item_P[i]
        score_P[i], score_P[best] = score_P[best], score_P[i]
