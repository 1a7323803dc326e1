"""The one place that says how likely anything is. Generator, oracle and closed loop all ask it.

utility   what user u, at time t on a page, sees in item i: tastes, quality, price, planted signals
rates     sigmoid(bias + weight * utility) for each step of the funnel, given the step before
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .catalogue import Shelf, draw_category, draw_in_category
from .clock import DAY_MS, begin, session_at
from .people import Crowd
from .rng import FOCUS, INTENT, RING, TASTE, WALK, below, mix, normal, uniform

Array = NDArray[Any]

TASKS = ("view", "cart", "favourite", "buy")
VIEW, CART, FAVOURITE, BUY, ENGAGED = range(5)  # places in Rules.bias; the first four are tasks
SCENES = ("feed", "revisit", "walk", "sequel")
FEED, REVISIT, WALKING, SEQUEL = range(4)
_RETRIES = 16


class Rules(NamedTuple):
    """The settings as the kernels read them; strengths as in config.py, 0 is off."""

    seed: np.uint64
    start_ms: int
    program: Array  # (P,) int8, the scene of each page of a session
    page_size: int
    pool: int
    channel: Array  # (4,) float64, cumulated shares: lasting, session, seasonal, popular
    skill: float
    position_bias: float
    bias: Array  # (5,) float64, fitted so that the funnel has its rates; see calibrate.py
    depth: float
    delay_ms: float
    lasting: float
    session: float
    loyalty: float
    seasonal: float
    season_ms: float
    quality: float
    price: float
    long_term: float
    ring: int
    ring_step: Array  # numbers prime to the number of groups; a user's picks the ring
    ring_back: Array  # their inverses
    styles: int
    span: int
    lifetime_ms: float  # 0: for ever
    order: float
    steps: int
    interaction: float
    table: Array  # (S, S) float64 of ±1, segment × make
    dwell: float
    sharpness: float
    separation: float
    value: float
    value_lasting: float


class Truth(NamedTuple):
    """All there is to know."""

    shelf: Shelf
    crowd: Crowd
    rules: Rules


class Visit(NamedTuple):
    """What a page and its time add to what is lasting about a user."""

    time_ms: int
    page_ms: int
    session: int
    scene: int
    focus: int  # item that the session is about
    season: float  # how much it is the time of the user's seasonal interest, 0..1
    intent: float  # the session's part of the readiness to buy, sd 1
    shows: int  # category that a revisit or a walk shows, or -1
    ahead: int  # where a walk would go on, or -1
    behind: int  # the other end of a walk, or -1


@njit(cache=True, nogil=True)
def session_key(truth: Truth, user: int, session: int) -> np.uint64:
    """The key under which everything about a session is drawn."""
    return mix(mix(truth.rules.seed, user), session + 16)


@njit(cache=True, nogil=True)
def opening(truth: Truth, user: int, session: int) -> tuple[int, int]:
    """When a session begins and how long its pages last."""
    r = truth.rules
    key = session_key(truth, user, session)
    return begin(key, truth.crowd.window_ms[user], session, r.program.shape[0], r.start_ms)


@njit(cache=True, nogil=True)
def visit_at(truth: Truth, user: int, time_ms: int) -> Visit:
    """The visit that a time belongs to; between sessions, the nearest page of the window's."""
    r = truth.rules
    session = session_at(time_ms, r.start_ms, truth.crowd.window_ms[user])
    start_ms, page_ms = opening(truth, user, session)
    page = min(max((time_ms - start_ms) // page_ms, 0), r.program.shape[0] - 1)
    return visit(truth, user, session, page, time_ms, page_ms)


@njit(cache=True, nogil=True)
def visit(
    truth: Truth, user: int, session: int, page: int, time_ms: int, page_ms: int
) -> Visit:
    """Page ``page`` of a session, seen at ``time_ms``."""
    shelf, r = truth.shelf, truth.rules
    key = session_key(truth, user, session)
    scene = np.int64(r.program[page])
    shows, ahead, behind = np.int64(-1), np.int64(-1), np.int64(-1)
    if scene == REVISIT:
        shows = _ring_category(truth, user, session)
    elif scene == WALKING or scene == SEQUEL:
        size = shelf.walk_ring.shape[0]
        first = below(mix(key, WALK), size)
        way = 1 if uniform(mix(mix(key, WALK), 1)) < 0.5 else -1
        if scene == WALKING:
            step = page - np.searchsorted(r.program, WALKING)
            shows = np.int64(shelf.walk_ring[(first + way * step) % size])
        else:
            ahead = np.int64(shelf.walk_ring[(first + way * r.steps) % size])
            behind = np.int64(shelf.walk_ring[(first - way) % size])
    peak = (shelf.root[shelf.category[truth.crowd.seasonal[user]]] + 0.5) / shelf.num_roots
    season = math.cos(2.0 * math.pi * ((time_ms - r.start_ms) / r.season_ms - peak))
    intent = normal(mix(key, INTENT))
    focus = _focus(truth, user, mix(key, FOCUS))
    return Visit(
        time_ms, page_ms, session, scene, focus, max(season, 0.0), intent, shows, ahead, behind
    )


@njit(cache=True, nogil=True)
def _focus(truth: Truth, user: int, key: np.uint64) -> int:
    """What a session is about: an item near a lasting interest, or a popular one."""
    shelf, interest = truth.shelf, truth.crowd.interest
    item = np.int64(0)
    for attempt in range(_RETRIES):
        k = mix(key, attempt)
        if uniform(k) < truth.rules.loyalty:
            liked = interest[user, below(mix(k, 1), interest.shape[1])]
            category = np.int64(shelf.category[liked])
        else:
            category = draw_category(shelf, mix(k, 2))
        item = draw_in_category(shelf, category, mix(k, 3))
        if not in_ring(truth, user, category):
            break
    return item


@njit(cache=True, nogil=True)
def _ring(truth: Truth, user: int) -> tuple[int, int, int]:
    """A user's own order of the groups: group g stands at (step * g + shift) mod groups."""
    r = truth.rules
    key = mix(mix(r.seed, user), RING)
    i = below(key, r.ring_step.shape[0])
    return r.ring_step[i], r.ring_back[i], below(mix(key, 1), truth.shelf.num_groups)


@njit(cache=True, nogil=True)
def in_ring(truth: Truth, user: int, category: int) -> bool:
    """Whether a category is reserved for the user's revisits."""
    if truth.rules.long_term == 0.0:
        return False
    step, _, shift = _ring(truth, user)
    groups = truth.shelf.num_groups
    return (step * (category % groups) + shift) % groups < truth.rules.ring


@njit(cache=True, nogil=True)
def _ring_category(truth: Truth, user: int, session: int) -> int:
    """The category that a session revisits; among substitutes, another one each time."""
    r, groups = truth.rules, truth.shelf.num_groups
    _, back, shift = _ring(truth, user)
    lap, place = session // r.ring, session % r.ring
    group = (back * (place - shift)) % groups
    turn = below(mix(mix(mix(r.seed, user), RING), group + 2), r.span)
    return group + groups * ((lap + turn) % r.span)


@njit(cache=True, nogil=True)
def _taste(truth: Truth, user: int, item: int, time_ms: int) -> float:
    """A fair coin for each (user, need), +1 or -1, tossed anew in each of the need's lifetimes."""
    shelf, r = truth.shelf, truth.rules
    category = np.int64(shelf.category[item])
    if not in_ring(truth, user, category):
        return 0.0
    need = (category % shelf.num_groups) * r.styles + shelf.style[item]
    key = mix(mix(mix(r.seed, user), TASTE), need)
    if r.lifetime_ms > 0.0:
        age = (time_ms - r.start_ms) / r.lifetime_ms + uniform(key)
        key = mix(key, np.int64(max(age, 0.0)))
    return 1.0 if uniform(mix(key, 0)) < 0.5 else -1.0


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def utility(truth: Truth, user: int, v: Visit, item: int) -> float:
    """What the user sees in the item on this visit, in log-odds, up to a constant."""
    shelf, crowd, r = truth.shelf, truth.crowd, truth.rules
    total = r.quality * shelf.quality[item]
    total -= r.price * crowd.price_sense[user] * shelf.price_z[item]
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
        total += r.long_term * _taste(truth, user, item, v.time_ms)
    if r.interaction != 0.0:
        total += r.interaction * r.table[crowd.segment[user], shelf.make[item]]
    if v.scene == SEQUEL:
        category = shelf.category[item]
        total += r.order if category == v.ahead else 0.0
        total -= r.order if category == v.behind else 0.0
    return total


class Rates(NamedTuple):
    """Chances of each step for an item that is looked at."""

    view: float
    cart: float  # given a view, as all that follow
    favourite: float
    engaged: float
    buy_engaged: float
    buy_idle: float


@njit(cache=True, nogil=True)
def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


@njit(cache=True, nogil=True)
def rates(truth: Truth, user: int, v: Visit, item: int) -> Rates:
    """The chances of everything that can happen to an item that is looked at."""
    r = truth.rules
    u = utility(truth, user, v, item)
    deep = r.depth * u
    own = math.sqrt(r.value_lasting) * truth.crowd.spend[user]
    ready = r.value * (own + math.sqrt(1.0 - r.value_lasting) * v.intent)
    buy = r.bias[BUY] + deep + ready
    return Rates(
        _sigmoid(r.bias[VIEW] + u),
        _sigmoid(r.bias[CART] + deep),
        _sigmoid(r.bias[FAVOURITE] + deep),
        _sigmoid(r.bias[ENGAGED] + r.sharpness * u) if r.dwell != 0.0 else 0.5,
        _sigmoid(buy + r.dwell),
        _sigmoid(buy - r.dwell),
    )


@njit(cache=True, nogil=True)
def looked_at(truth: Truth, position: int) -> float:
    """The chance that a place of a page, from 0, is looked at."""
    return (1.0 + position) ** -truth.rules.position_bias


@njit(cache=True, nogil=True)
def probabilities(
    truth: Truth, user_N: Array, time_ms_N: Array, item_N: Array, position_N: Array
) -> Array:
    """The chance of each task for each shown item, ``(N, 4)`` in the order of ``TASKS``."""
    out = np.empty((user_N.shape[0], 4))
    for n in range(user_N.shape[0]):
        v = visit_at(truth, user_N[n], time_ms_N[n])
        p = rates(truth, user_N[n], v, item_N[n])
        view = p.view * looked_at(truth, position_N[n])
        out[n, VIEW] = view
        out[n, CART] = view * p.cart
        out[n, FAVOURITE] = view * p.favourite
        out[n, BUY] = view * (p.engaged * p.buy_engaged + (1.0 - p.engaged) * p.buy_idle)
    return out
