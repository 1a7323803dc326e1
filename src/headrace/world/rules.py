"""The settings of a world as the kernels read them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .catalogue import Shelf
from .clock import DAY_MS
from .config import WorldConfig
from .people import Crowd

Array = NDArray[Any]

TASKS = ("view", "cart", "favourite", "buy")
VIEW, CART, FAVOURITE, BUY, ENGAGED = range(5)  # places in Rules.bias; the first four are tasks
SCENES = ("feed", "revisit", "walk", "sequel")
FEED, REVISIT, WALK, SEQUEL = range(4)
MAX_POSITIONS = 1_024


class Rules(NamedTuple):
    """Strengths are those of the config; 0 is off."""

    seed: np.uint64
    start_ms: int
    program: Array  # (P,) int64, the scene of each page of a session
    page_size: int
    pool: int
    channel: Array  # (4,) float64, cumulated shares: lasting, session, seasonal, popular
    skill: float
    glance: Array  # (MAX_POSITIONS,) float64, chance that a place is looked at
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
    ring_step: Array  # int64, numbers prime to the number of groups; a user's picks the ring
    ring_back: Array  # int64, their inverses
    styles: int
    span: int
    lifetime_ms: float  # 0: for ever
    order: float
    steps: int
    interaction: float
    table: Array  # (S, S) float64 of ±1, segment × make
    dwell: float
    sharpness: float
    separation: float  # 0 when dwell is off
    value: float
    value_lasting: float


class Truth(NamedTuple):
    """All there is to know."""

    shelf: Shelf
    crowd: Crowd
    rules: Rules


def make_rules(config: WorldConfig) -> Rules:
    """Translate the settings; the biases are 0 until they are fitted."""
    i, s, long_term = config.interests, config.slate, config.long_term
    share = np.array([s.lasting, s.session, s.seasonal, s.popular])
    step, back = _ring_steps(config.catalogue.categories // config.substitutes.span)
    return Rules(
        seed=np.uint64(config.seed),
        start_ms=config.people.start_ms,
        program=_program(config),
        page_size=s.size,
        pool=s.pool,
        channel=np.cumsum(share) / share.sum(),
        skill=s.skill,
        glance=(1.0 + np.arange(MAX_POSITIONS)) ** -s.position_bias,
        bias=np.zeros(5),
        depth=config.funnel.depth,
        delay_ms=config.funnel.delay_minutes * 60_000,
        lasting=i.lasting,
        session=i.session,
        loyalty=i.loyalty,
        seasonal=i.seasonal,
        season_ms=i.season_days * DAY_MS,
        quality=i.quality,
        price=i.price,
        long_term=long_term.strength,
        ring=long_term.ring,
        ring_step=step,
        ring_back=back,
        styles=long_term.styles,
        span=config.substitutes.span,
        lifetime_ms=(long_term.lifetime_days or 0.0) * DAY_MS,
        order=config.order.strength,
        steps=config.order.steps,
        interaction=config.interaction.strength,
        table=_interaction_table(config),
        dwell=config.dwell.strength,
        sharpness=config.dwell.sharpness,
        separation=config.dwell.separation if config.dwell.strength else 0.0,
        value=config.value.spread,
        value_lasting=config.value.lasting,
    )


def _program(config: WorldConfig) -> Array:
    scenes = [FEED] * config.slate.pages
    if config.order.strength:
        scenes += [WALK] * config.order.steps + [SEQUEL]
    if config.long_term.strength:
        scenes += [REVISIT]
    return np.array(scenes, np.int64)


def _ring_steps(groups: int) -> tuple[Array, Array]:
    """Numbers prime to ``groups`` and their inverses, 256 of them at most."""
    prime = [n for n in range(1, groups + 1) if math.gcd(n, groups) == 1]
    prime = prime[:: -(-len(prime) // 256)]
    return np.array(prime), np.array([pow(n, -1, groups) if groups > 1 else 0 for n in prime])


def _interaction_table(config: WorldConfig) -> Array:
    """±1 for (segment, make): every row and column sums to 0, and the rank is nearly full.

    A circulant of a balanced sign vector, rows and columns shuffled: neither a segment nor a make
    says anything alone, and vectors much shorter than the table cannot express it.
    """
    size = config.interaction.buckets
    rng = np.random.Generator(np.random.PCG64([config.seed, 3]))
    sign = rng.permutation(np.repeat([1.0, -1.0], size // 2))
    row, column = rng.permutation(size), rng.permutation(size)
    return sign[(row[:, None] + column[None, :]) % size]
