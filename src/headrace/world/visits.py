"""What a page of a session adds to what is lasting about a user, found from the time alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .catalogue import draw_category, draw_in_category
from .clock import begin, session_at
from .jit import leaf
from .rng import FOCUS, INTENT, RING, STROLL, below, mix, normal, uniform
from .rules import REVISIT, SEQUEL, WALK, Truth

Array = NDArray[Any]

_RETRIES = 16
_FIRST_SESSION = 16  # keys below a user's: those of rng.py, then one a session


class Ring(NamedTuple):
    """A user's own order of the groups of categories: g stands at (step * g + shift) mod groups."""

    step: int
    back: int  # the inverse of step
    shift: int


class Visit(NamedTuple):
    """A page of a session, or any time near it."""

    time_ms: int
    page_ms: int
    scene: int
    focus: int  # item that the session is about
    season: float  # how much it is the time of the user's seasonal interest, 0..1
    intent: float  # the session's part of the readiness to buy, sd 1
    shows: int  # category that a revisit or a walk shows, or -1
    ahead: int  # where a walk would go on, or -1
    behind: int  # the other end of a walk, or -1
    ring: Ring


@leaf
def _session_key(truth: Truth, user: int, session: int) -> np.uint64:
    return mix(mix(truth.rules.seed, user), session + _FIRST_SESSION)


@leaf
def opening(truth: Truth, user: int, session: int) -> tuple[int, int]:
    """When a session begins, unix ms, and how long each of its pages lasts."""
    r = truth.rules
    key = _session_key(truth, user, session)
    return begin(key, truth.crowd.window_ms[user], session, r.program.shape[0], r.start_ms)


@leaf
def visit_at(truth: Truth, user: int, time_ms: int) -> Visit:
    """The visit that a time belongs to; between sessions, the nearest page of the window's."""
    r = truth.rules
    session = session_at(time_ms, r.start_ms, truth.crowd.window_ms[user])
    start_ms, page_ms = opening(truth, user, session)
    page = min(max((time_ms - start_ms) // page_ms, 0), r.program.shape[0] - 1)
    return visit(truth, user, session, page, time_ms, page_ms)


@leaf
def visit(truth: Truth, user: int, session: int, page: int, time_ms: int, page_ms: int) -> Visit:
    """Page ``page`` of a session, seen at ``time_ms``."""
    shelf, r = truth.shelf, truth.rules
    key = _session_key(truth, user, session)
    ring = _ring(truth, user)
    scene = r.program[page]
    shows, ahead, behind = (-1), (-1), (-1)
    if scene == REVISIT:
        shows = _ring_category(truth, user, ring, session)
    elif scene in (WALK, SEQUEL):
        size = shelf.walk_ring.shape[0]
        first = below(mix(key, STROLL), size)
        way = 1 if uniform(mix(mix(key, STROLL), 1)) < 0.5 else -1
        if scene == WALK:
            step = page - np.searchsorted(r.program, WALK)
            shows = int(shelf.walk_ring[(first + way * step) % size])
        else:
            ahead = int(shelf.walk_ring[(first + way * r.steps) % size])
            behind = int(shelf.walk_ring[(first - way) % size])
    peak = (shelf.root[shelf.goods[truth.crowd.seasonal[user]]["category"]] + 0.5) / shelf.num_roots
    season = max(0.0, math.cos(2.0 * math.pi * ((time_ms - r.start_ms) / r.season_ms - peak)))
    focus, intent = _focus(truth, user, ring, mix(key, FOCUS)), normal(mix(key, INTENT))
    return Visit(time_ms, page_ms, scene, focus, season, intent, shows, ahead, behind, ring)


@leaf
def _focus(truth: Truth, user: int, ring: Ring, key: np.uint64) -> int:
    """What a session is about: an item near a lasting interest, or a popular one."""
    shelf, interest = truth.shelf, truth.crowd.interest
    item = 0
    for attempt in range(_RETRIES):
        k = mix(key, attempt)
        if uniform(k) < truth.rules.loyalty:
            liked = interest[user, below(mix(k, 1), interest.shape[1])]
            category = int(shelf.goods[liked]["category"])
        else:
            category = draw_category(shelf, mix(k, 2))
        item = draw_in_category(shelf, category, mix(k, 3))
        if not in_ring(truth, ring, category):
            break
    return item


@leaf
def _ring(truth: Truth, user: int) -> Ring:
    r = truth.rules
    key = mix(mix(r.seed, user), RING)
    i = below(key, r.ring_step.shape[0])
    return Ring(r.ring_step[i], r.ring_back[i], below(mix(key, 1), truth.shelf.num_groups))


@leaf
def in_ring(truth: Truth, ring: Ring, category: int) -> bool:
    """Whether a category is reserved for the user's revisits."""
    groups = truth.shelf.num_groups
    place = (ring.step * (category % groups) + ring.shift) % groups
    return truth.rules.long_term != 0.0 and place < truth.rules.ring


@leaf
def _ring_category(truth: Truth, user: int, ring: Ring, session: int) -> int:
    """The category that a session revisits; among substitutes, another one each time."""
    r, groups = truth.rules, truth.shelf.num_groups
    lap, place = session // r.ring, session % r.ring
    group = (ring.back * (place - ring.shift)) % groups
    first = below(mix(mix(mix(r.seed, user), RING), group + 2), r.span)
    return group + groups * ((lap + first) % r.span)
