"""The one place that says how likely anything is. Generator, oracle and closed loop all ask it.

utility   what user u, at time t on a page, sees in item i: tastes, quality, price, planted signals
rates     sigmoid(bias + weight * utility) for each step of the funnel, given the step before
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import SOURCES, entry, leaf
from .rng import TASTE, mix, uniform
from .rules import BUY, CART, ENGAGED, FAVOURITE, FEED, SEQUEL, VIEW, Truth
from .visits import Visit, in_ring, visit_at

Array = NDArray[Any]


@leaf
def utility(truth: Truth, user: int, v: Visit, item: int) -> float:
    """What the user sees in the item on this visit, in log-odds, up to a constant."""
    shelf, crowd, r = truth.shelf, truth.crowd, truth.rules
    total = r.quality * shelf.goods[item]["quality"]
    total -= r.price * crowd.price_sense[user] * shelf.goods[item]["price_z"]
    if r.lasting != 0.0:
        nearest = -1.0
        for m in range(crowd.interest.shape[1]):
            nearest = max(nearest, _cosine(shelf.unit, item, crowd.interest[user, m]))
        total += r.lasting * nearest
    if r.seasonal != 0.0 and v.season > 0.0:
        total += r.seasonal * v.season * _cosine(shelf.unit, item, crowd.seasonal[user])
    if r.session != 0.0 and v.scene == FEED:  # on planted pages the session's wish is set aside
        total += r.session * _cosine(shelf.unit, item, v.focus)
    if r.long_term != 0.0:
        total += r.long_term * _taste(truth, user, v, item)
    if r.interaction != 0.0:
        total += r.interaction * r.table[crowd.segment[user], shelf.goods[item]["make"]]
    if v.scene == SEQUEL:
        category = shelf.goods[item]["category"]
        total += r.order if category == v.ahead else 0.0
        total -= r.order if category == v.behind else 0.0
    return total


@leaf
def _taste(truth: Truth, user: int, v: Visit, item: int) -> float:
    """A fair coin for each (user, need), +1 or -1, tossed anew in each of the need's lifetimes."""
    shelf, r = truth.shelf, truth.rules
    category = int(shelf.goods[item]["category"])
    if not in_ring(truth, v.ring, category):
        return 0.0
    need = (category % shelf.num_groups) * r.styles + shelf.goods[item]["style"]
    key = mix(mix(mix(r.seed, user), TASTE), need)
    if r.lifetime_ms > 0.0:
        age = (v.time_ms - r.start_ms) / r.lifetime_ms + uniform(key)
        key = mix(key, int(max(age, 0.0)))
    return 1.0 if uniform(mix(key, 0)) < 0.5 else -1.0


@leaf
def _cosine(unit: Array, a: int, b: int) -> float:
    """Inner product in four fixed strands: quick, and the same wherever it is inlined."""
    size = unit.shape[1]
    s0 = s1 = s2 = s3 = np.float32(0.0)
    whole = size - size % 4
    for d in range(0, whole, 4):
        s0 += unit[a, d] * unit[b, d]
        s1 += unit[a, d + 1] * unit[b, d + 1]
        s2 += unit[a, d + 2] * unit[b, d + 2]
        s3 += unit[a, d + 3] * unit[b, d + 3]
    for d in range(whole, size):
        s0 += unit[a, d] * unit[b, d]
    return np.float64((s0 + s1) + (s2 + s3))


class Rates(NamedTuple):
    """Chances of what follows a view."""

    cart: float
    favourite: float
    engaged: float
    buy_engaged: float
    buy_idle: float


@leaf
def view_rate(truth: Truth, utility_: float) -> float:
    """The chance of a view when the item is looked at."""
    return _sigmoid(truth.rules.bias[VIEW] + utility_)


@leaf
def readiness(truth: Truth, user: int, v: Visit) -> float:
    """How much readier to buy than usual the user is on this visit, in log-odds."""
    own, rest = truth.rules.value_lasting, 1.0 - truth.rules.value_lasting
    spend = math.sqrt(own) * truth.crowd.spend[user] + math.sqrt(rest) * v.intent
    return truth.rules.value * spend


@leaf
def rates(truth: Truth, utility_: float, ready: float) -> Rates:
    """The chances of what follows a view of an item of this utility."""
    r = truth.rules
    deep = r.depth * utility_
    buy = r.bias[BUY] + deep + ready
    return Rates(
        _sigmoid(r.bias[CART] + deep),
        _sigmoid(r.bias[FAVOURITE] + deep),
        _sigmoid(r.bias[ENGAGED] + r.sharpness * utility_) if r.dwell != 0.0 else 0.5,
        _sigmoid(buy + r.dwell),
        _sigmoid(buy - r.dwell),
    )


@leaf
def buy_rate(p: Rates) -> float:
    """The chance of a purchase after a view, engaged or not."""
    return p.engaged * p.buy_engaged + (1.0 - p.engaged) * p.buy_idle


@leaf
def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


@entry
def probabilities(
    truth: Truth,
    user_N: Array,
    time_ms_N: Array,
    item_N: Array,
    position_N: Array,
    sources: int = SOURCES,
) -> Array:
    """The chance of each task for each shown item, ``(N, 4)`` in the order of ``TASKS``."""
    out_NT = np.empty((user_N.shape[0], 4))
    for n in range(user_N.shape[0]):
        user = user_N[n]
        v = visit_at(truth, user, time_ms_N[n])
        u = utility(truth, user, v, item_N[n])
        p = rates(truth, u, readiness(truth, user, v))
        view = truth.rules.glance[position_N[n]] * view_rate(truth, u)
        out_NT[n, VIEW] = view
        out_NT[n, CART] = view * p.cart
        out_NT[n, FAVOURITE] = view * p.favourite
        out_NT[n, BUY] = view * buy_rate(p)
    return out_NT
