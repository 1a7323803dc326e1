"""What a user does with one item of a page. The log and the closed loop share these draws."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import SOURCES, entry, leaf
from .rng import OUTCOME, mix, normal, uniform
from .rules import BUY, CART, FAVOURITE, VIEW, Truth
from .truth import rates, readiness, utility, view_rate
from .visits import Visit, visit_at

Array = NDArray[Any]

_MEDIAN_DWELL_S = 20.0
_MAX_DWELL_S = 3_600.0
_PATIENCE_SD = 0.3  # of log dwell, over users
_DWELL_SD = 0.6  # of log dwell, over views of a user


class Response(NamedTuple):
    """What happened: bit ``1 << task`` of ``done``, and when; times matter for what is done."""

    done: int
    view_ms: int
    cart_ms: int
    favourite_ms: int
    buy_ms: int
    dwell_s: float


@leaf
def outcome_key(seed: np.uint64, user: int, time_ms: int) -> np.uint64:
    """The key of all draws of a page: the same user, time and item always meet the same luck."""
    return mix(mix(mix(seed, user), OUTCOME), time_ms)


@leaf
def respond(
    truth: Truth, user: int, v: Visit, item: int, position: int, slots: int, page: np.uint64
) -> Response:
    """Look at an item, and perhaps view, put in the cart, mark and buy it. ``page`` is its key.

    Views follow each other down the page, before the next page opens; a purchase may come later.
    """
    r = truth.rules
    key = mix(page, item)
    u = utility(truth, user, v, item)
    if uniform(key) >= r.glance[position] * view_rate(truth, u):
        return Response(0, 0, 0, 0, 0, 0.0)
    p = rates(truth, u, readiness(truth, user, v))
    engaged = uniform(mix(key, 1)) < p.engaged
    level = r.separation if engaged else -r.separation
    log_s = _PATIENCE_SD * truth.crowd.patience[user] + _DWELL_SD * (level + normal(mix(key, 2)))
    dwell_s = min(_MEDIAN_DWELL_S * math.exp(log_s), _MAX_DWELL_S)
    done = 1 << VIEW
    if uniform(mix(key, 3)) < p.cart:
        done |= 1 << CART
    if uniform(mix(key, 4)) < p.favourite:
        done |= 1 << FAVOURITE
    if uniform(mix(key, 5)) < (p.buy_engaged if engaged else p.buy_idle):
        done |= 1 << BUY
    slot_ms = v.page_ms / (slots + 1)
    view_ms = v.time_ms + int(slot_ms * (position + 1 + 0.5 * uniform(mix(key, 6))))
    dwell_ms = dwell_s * 1000.0
    delay_ms = -r.delay_ms * math.log(uniform(mix(key, 7)))
    return Response(
        done,
        view_ms,
        view_ms + 1 + int(0.5 * dwell_ms),
        view_ms + 2 + int(0.7 * dwell_ms),
        view_ms + 3 + int(dwell_ms + delay_ms),
        dwell_s,
    )


@entry
def answer(
    truth: Truth,
    replica: int,
    user_B: Array,
    time_ms_B: Array,
    item_BK: Array,
    sources: int = SOURCES,
) -> tuple[Array, Array, Array]:
    """Answer slates; items count from 0, -1 is an empty place; replica 0 is the log's own luck.

    Returns what was done ``(B, K, 4) bool``, when ``(B, K, 4) int64`` (-1 never) and the value of
    each event ``(B, K, 4) float32``: dwell seconds of a view, price of a purchase.
    """
    own = truth.rules.seed
    seed = mix(own, replica) if replica else own
    size, places = item_BK.shape
    done = np.zeros((size, places, 4), np.bool_)
    time_ms = np.full((size, places, 4), -1, np.int64)
    value = np.zeros((size, places, 4), np.float32)
    for b in range(size):
        v = visit_at(truth, user_B[b], time_ms_B[b])
        page = outcome_key(seed, user_B[b], time_ms_B[b])
        slots = (item_BK[b] >= 0).sum()
        for k in range(places):
            item = item_BK[b, k]
            if item < 0:
                continue
            a = respond(truth, user_B[b], v, item, k, slots, page)
            at = (a.view_ms, a.cart_ms, a.favourite_ms, a.buy_ms)
            for task in range(4):
                if a.done >> task & 1:
                    done[b, k, task] = True
                    time_ms[b, k, task] = at[task]
            if a.done:
                value[b, k, VIEW] = a.dwell_s
            if a.done >> BUY & 1:
                value[b, k, BUY] = truth.shelf.goods[item]["price"]
    return done, time_ms, value
