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
from .rng import mix
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
        own = self.truth.rules.seed
        key = own if seed is None else mix(own, seed + 1)
        return answer(self.truth, np.uint64(key), user_B, time_B, item_BK)


@entry
def _visits(
    truth: Truth, user_B: Array, first_ms: int, last_ms: int, sources: int = SOURCES
) -> tuple[Array, Array, Array, Array]:
    r, pages = truth.rules, truth.rules.program.shape[0]
    user, time, scene, entry = [int(0)], [int(0)], [np.uint8(0)], [np.uint8(0)]
    for u in user_B:
        window_ms = truth.crowd.window_ms[u]
        last = session_at(last_ms, r.start_ms, window_ms)
        for session in range(session_at(first_ms, r.start_ms, window_ms), last + 1):
            start_ms, page_ms = opening(truth, u, session)
            for page in range(pages):
                time_ms = start_ms + page * page_ms
                if first_ms <= time_ms < last_ms:
                    v = visit(truth, u, session, page, time_ms, page_ms)
                    user.append(u)
                    time.append(time_ms)
                    scene.append(np.uint8(v.scene))
                    entry.append(entry_of(v))
    return np.array(user)[1:], np.array(time)[1:], np.array(scene)[1:], np.array(entry)[1:]
