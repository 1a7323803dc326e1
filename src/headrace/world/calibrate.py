"""Fit the biases so that the log has the funnel's rates, on a sample of the pages it will show.

What is shown depends on no outcome, so the sample is drawn once and the fit is exact on it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .catalogue import Shelf
from .clock import DAY_MS, MAX_SPEED, MIN_PAGE_MS
from .config import WorldConfig
from .feed import fill_page
from .jit import SOURCES, entry
from .people import People
from .rng import below, mix
from .rules import BUY, CART, ENGAGED, FAVOURITE, VIEW, Truth, make_rules
from .truth import buy_rate, rates, readiness, utility, view_rate
from .visits import opening, visit

Array = NDArray[Any]

_PAGES = 5_000
_SESSIONS = 200.0  # in the log of each user, while nothing better is known
_HALVINGS = 45


class _Sample(NamedTuple):
    """The exposures of the sampled pages. N of them."""

    utility: Array  # (N,) float64
    ready: Array  # (N,) float64
    glance: Array  # (N,) float64


def calibrated(config: WorldConfig, shelf: Shelf, people: People) -> Truth:
    """The truth with biases fitted and sessions scheduled."""
    duration_ms = config.people.days * DAY_MS
    rules = make_rules(config)
    crowd = people.scheduled(duration_ms / _SESSIONS).crowd
    truth = Truth(shelf, crowd, rules)
    sample = _Sample(*_sample(truth, _PAGES, int(_SESSIONS)))
    f = config.funnel
    if f.view >= sample.glance.mean():
        raise ConfigError(
            f"world.funnel.view: {f.view} views an exposure, but only {sample.glance.mean():.2f} "
            "of them are looked at; lower it or slate.position_bias"
        )
    for step, rate in ((VIEW, f.view), (CART, f.cart), (FAVOURITE, f.favourite)):
        _fit(truth, sample, step, rate)
    _fit(truth, sample, ENGAGED, 0.5)
    _fit(truth, sample, BUY, f.buy)
    a_page = len(sample.utility) / _PAGES * f.view * (1 + f.cart + f.favourite + f.buy)
    wanted = np.maximum(np.round(people.wanted / (a_page * len(rules.program))), 1)
    window_ms = duration_ms / wanted
    if window_ms.min() < MAX_SPEED * len(rules.program) * MIN_PAGE_MS * 1.1:
        raise ConfigError(
            f"world.people.days: {config.people.days} days are too short for {int(wanted.max()):,} "
            f"sessions of {len(rules.program)} pages; give more days or fewer events_per_user"
        )
    return truth._replace(crowd=people.scheduled(window_ms).crowd)


@entry
def _sample(
    truth: Truth, pages: int, sessions: int, sources: int = SOURCES
) -> tuple[Array, Array, Array]:
    r = truth.rules
    item_P, score_P = np.empty(max(r.pool, r.page_size), np.int64), np.empty(r.pool + r.page_size)
    utility_N = np.empty(pages * r.page_size)
    ready_N, glance_N = np.empty_like(utility_N), np.empty_like(utility_N)
    n = 0
    for i in range(pages):
        key = mix(mix(r.seed, 1), i)
        user = below(key, truth.crowd.segment.shape[0])
        session = below(mix(key, 1), sessions)
        page = i % r.program.shape[0]
        start_ms, page_ms = opening(truth, user, session)
        v = visit(truth, user, session, page, start_ms + page * page_ms, page_ms)
        for position in range(fill_page(truth, user, v, item_P, score_P)):
            utility_N[n] = utility(truth, user, v, item_P[position])
            ready_N[n], glance_N[n] = readiness(truth, user, v), r.glance[position]
            n += 1
    return utility_N[:n], ready_N[:n], glance_N[:n]


def _fit(truth: Truth, sample: _Sample, step: int, rate: float) -> None:
    """Find the bias of one step by bisection; a mean of sigmoids rises with it."""
    low, high = -60.0, 60.0
    for _ in range(_HALVINGS):
        truth.rules.bias[step] = (low + high) / 2
        if _mean_rate(truth, sample, step) < rate:
            low = truth.rules.bias[step]
        else:
            high = truth.rules.bias[step]


@entry
def _mean_rate(truth: Truth, sample: _Sample, step: int, sources: int = SOURCES) -> float:
    """Views an exposure, or what follows a view."""
    views, count = 0.0, 0.0
    for n in range(sample.utility.shape[0]):
        view = sample.glance[n] * view_rate(truth, sample.utility[n])
        p = rates(truth, sample.utility[n], sample.ready[n])
        views += view
        if step == CART:
            count += view * p.cart
        elif step == FAVOURITE:
            count += view * p.favourite
        elif step == ENGAGED:
            count += view * p.engaged
        elif step == BUY:
            count += view * buy_rate(p)
    return views / sample.utility.shape[0] if step == VIEW else count / views
