"""The behaviour of an ordinary platform: sessions of ranked pages, and a funnel below each item."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..log import RawLog
from .calibrate import calibrated
from .catalogue import Catalogue, named
from .clock import DAY_MS, session_at
from .config import WorldConfig
from .generate import ENTRIES, Progress, entry_of, generate
from .jit import SOURCES, entry
from .people import People
from .respond import answer
from .rules import SCENES, TASKS, Truth
from .truth import probabilities
from .visits import opening, visit

Array = NDArray[Any]


class Shop:
    """Pages, views, carts, favourites and purchases. Users and items count from 0 here."""

    tasks: tuple[str, ...] = TASKS

    def __init__(self, config: WorldConfig, catalogue: Catalogue) -> None:
        self.config, self.catalogue = config, catalogue
        self.people = People.make(config, catalogue)
        self.truth = calibrated(config, catalogue.shelf, self.people)
        self.end_ms = config.people.start_ms + config.people.days * DAY_MS

    def raw_log(self, threads: int | None, progress: Progress | None) -> RawLog:
        """Let all users live and write down what happened."""
        days = self.config.slate.exposure_days
        since = self.config.people.start_ms if days is None else self.end_ms - int(days * DAY_MS)
        frames = generate(self.truth, self.people.wanted, self.end_ms, since, threads, progress)
        return RawLog(
            events=frames.events,
            items=self.catalogue.frame,
            users=self.people.frame,
            requests=frames.requests,
            exposures=frames.exposures,
            event_types=TASKS,
        )

    def visits(self, user_B: Array, first_ms: int, last_ms: int) -> pl.DataFrame:
        """All pages of these users in [first_ms, last_ms), also after the end of the log."""
        user, time_ms, scene, entry = _visits(self.truth, user_B, first_ms, last_ms)
        return pl.DataFrame(
            {
                "user": user,
                "time_ms": time_ms,
                "scene": named(SCENES, scene),
                "entry": named(ENTRIES, entry),
            }
        )

    def probability(self, user_N: Array, time_N: Array, item_N: Array, position_N: Array) -> Array:
        """``(N, T)``, see ``World.probability``."""
        return probabilities(self.truth, user_N, time_N, item_N, position_N)

    def answer(
        self, user_B: Array, time_B: Array, item_BK: Array, seed: int | None
    ) -> tuple[Array, Array, Array]:
        """Done, time and value, ``(B, K, T)`` each, see ``World.answer``."""
        return answer(self.truth, 0 if seed is None else seed + 1, user_B, time_B, item_BK)


@entry
def _visits(
    truth: Truth, user_B: Array, first_ms: int, last_ms: int, sources: int = SOURCES
) -> tuple[Array, Array, Array, Array]:
    r, crowd, pages = truth.rules, truth.crowd, truth.rules.program.shape[0]
    room = 0
    for user in user_B:
        window_ms = float(crowd.window_ms[user])
        last = session_at(last_ms, r.start_ms, window_ms)
        room += (last - session_at(first_ms, r.start_ms, window_ms) + 1) * pages
    user_V, time_V = np.empty(room, np.int64), np.empty(room, np.int64)
    scene_V, entry_V = np.empty(room, np.uint8), np.empty(room, np.uint8)
    found = 0
    for user in user_B:
        window_ms = float(crowd.window_ms[user])
        last = session_at(last_ms, r.start_ms, window_ms)
        for session in range(session_at(first_ms, r.start_ms, window_ms), last + 1):
            start_ms, page_ms = opening(truth, user, session)
            for page in range(pages):
                time_ms = start_ms + page * page_ms
                if first_ms <= time_ms < last_ms:
                    v = visit(truth, user, session, page, time_ms, page_ms)
                    user_V[found], time_V[found] = user, time_ms
                    scene_V[found], entry_V[found] = v.scene, entry_of(v)
                    found += 1
    return user_V[:found], time_V[:found], scene_V[:found], entry_V[:found]
