"""World W1: short histories and one target, near in latent space to something recent.

Source: retrieval.md §0.2 of the project's method notes. A user draws a few categories, then history
items from them by popularity^0.5; the target is one of the 8 nearest neighbours, by popularity^0.5,
of a seed among the last 10. Where the source is silent: the categories differ, each item's is drawn
evenly, items may recur, and nearest is by Euclidean distance, the seed itself excluded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..log import RawLog
from .catalogue import Catalogue
from .clock import DAY_MS, HOUR_MS
from .config import WorldConfig
from .generate import Progress
from .signals import NextItem

Array = NDArray[Any]

_BLOCK = 1_024


class NextItemWorld:
    """W1's behaviour: the only task is to be viewed next. Users and items count from 0 here."""

    tasks: tuple[str, ...] = ("view",)

    def __init__(self, config: WorldConfig, catalogue: Catalogue, rule: NextItem) -> None:
        self.config, self.catalogue, self.rule = config, catalogue, rule
        users = config.people.users
        rng = np.random.Generator(np.random.PCG64([config.seed, 4]))
        self.weight = catalogue.popularity**rule.popularity_power  # (I,)
        self.category_UM = _distinct(rng, users, config.catalogue.categories, rule.categories)
        which = rng.integers(rule.categories, size=(users, rule.history))
        self.history_UL = self._draw(rng, np.take_along_axis(self.category_UM, which, axis=1))
        self.neighbour_IK = _nearest(catalogue.vector, rule.neighbours)
        weight_IK = self.weight[self.neighbour_IK]
        self.share_IK = weight_IK / weight_IK.sum(axis=1, keepdims=True)
        self.target_U = self._targets(rng)
        self.end_ms = int(self.target_ms(np.arange(users)).max()) + DAY_MS

    def target_ms(self, user_N: Array) -> Array:
        """When users want their target; those of the test split a day after all others."""
        day = self.rule.history + (user_N >= self.config.people.users - self.rule.test_users)
        return self.config.people.start_ms + day * DAY_MS + 12 * HOUR_MS

    def raw_log(self, threads: int | None, progress: Progress | None) -> RawLog:
        """One view a day, then the target's."""
        users, length = self.history_UL.shape
        day_ms = self.config.people.start_ms + np.arange(length) * DAY_MS + 12 * HOUR_MS
        user = np.arange(users)
        test = user >= users - self.rule.test_users
        items = np.concatenate([self.history_UL, self.target_U[:, None]], axis=1)
        times = np.concatenate(
            [np.broadcast_to(day_ms, (users, length)), self.target_ms(user)[:, None]], axis=1
        )
        if progress is not None:
            progress(users, users)
        return RawLog(
            events=pl.DataFrame(
                {
                    "user": np.repeat(user + 1, length + 1).astype(np.int32),
                    "item": items.ravel() + 1,
                    "time_ms": times.ravel(),
                }
            ).with_columns(type=pl.lit("view")),
            items=self.catalogue.frame,
            users=pl.DataFrame({"user": user + 1, "split": np.where(test, "test", "train")}),
            event_types=self.tasks,
        )

    def visits(self, user_B: Array, first_ms: int, last_ms: int) -> pl.DataFrame:
        """The moments in [first_ms, last_ms) at which these users want their target."""
        frame = pl.DataFrame({"user": user_B, "time_ms": self.target_ms(user_B)})
        return frame.filter(pl.col("time_ms").is_between(first_ms, last_ms, closed="left"))

    def probability(self, user_N: Array, time_N: Array, item_N: Array, position_N: Array) -> Array:
        """The chance that an item is the user's target, or, at earlier times, the next of history.

        Positions do not matter: a user of W1 looks at all of them.
        """
        wanted = (
            time_N > self.config.people.start_ms + (self.rule.history - 1) * DAY_MS + DAY_MS // 2
        )
        seed_NR = self.history_UL[user_N, -self.rule.recent :]
        hit = self.neighbour_IK[seed_NR] == item_N[:, None, None]
        target_N = (self.share_IK[seed_NR] * hit).sum(axis=(1, 2)) / self.rule.recent
        category_N = self.catalogue.shelf.goods["category"][item_N]
        mass = np.bincount(self.catalogue.shelf.goods["category"], self.weight)
        drawn_N = (self.category_UM[user_N] == category_N[:, None]).mean(axis=1)
        history_N = drawn_N * self.weight[item_N] / mass[category_N]
        return np.where(wanted, target_N, history_N)[:, None]

    def answer(
        self, user_B: Array, time_B: Array, item_BK: Array, seed: int | None
    ) -> tuple[Array, Array, Array]:
        """A user views the target if it is there; another ``seed`` draws other targets."""
        target_U = self.target_U
        if seed is not None:
            rng = np.random.Generator(np.random.PCG64([self.config.seed, 5, seed]))
            target_U = self._targets(rng)
        done = (item_BK == target_U[user_B][:, None])[:, :, None]
        when = np.where(done, time_B[:, None, None] + 1_000, -1)
        return done, when, np.zeros(done.shape, np.float32)

    def _draw(self, rng: np.random.Generator, category_UL: Array) -> Array:
        """An item of each category, by weight."""
        shelf = self.catalogue.shelf
        mass = np.concatenate([[0.0], np.cumsum(self.weight[shelf.item_draw["value"]])])
        low, high = shelf.item_offsets[:-1], shelf.item_offsets[1:]
        at = mass[low][category_UL]
        at = at + rng.random(category_UL.shape) * (mass[high][category_UL] - at)
        place = np.searchsorted(mass, at, side="right") - 1
        place = np.clip(place, low[category_UL], high[category_UL] - 1)
        return shelf.item_draw["value"][place]

    def _targets(self, rng: np.random.Generator) -> Array:
        users, length = self.history_UL.shape
        recent = length - 1 - rng.integers(self.rule.recent, size=users)
        seed_U = self.history_UL[np.arange(users), recent]
        above = np.cumsum(self.share_IK[seed_U], axis=1) > rng.random(users)[:, None]
        above[:, -1] = True  # the sum may round to just below 1
        return self.neighbour_IK[seed_U, above.argmax(axis=1)]


def _distinct(rng: np.random.Generator, rows: int, values: int, size: int) -> Array:
    """``size`` different numbers below ``values`` in each row."""
    out = np.empty((rows, size), np.int32)
    for start in range(0, rows, _BLOCK):
        part = out[start : start + _BLOCK]
        part[:] = rng.random((len(part), values)).argpartition(size - 1, axis=1)[:, :size]
    return out


def _nearest(vector_ID: Array, size: int) -> Array:
    """The nearest other items of each item, ``(I, K) int32``, in no order."""
    square_I = (vector_ID**2).sum(axis=1)
    out = np.empty((len(vector_ID), size), np.int32)
    for start in range(0, len(vector_ID), _BLOCK):
        part = vector_ID[start : start + _BLOCK]
        distance = square_I[None, :] - 2 * part @ vector_ID.T
        distance[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        out[start : start + _BLOCK] = distance.argpartition(size - 1, axis=1)[:, :size]
    return out
