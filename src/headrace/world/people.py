"""Who comes: lasting and seasonal interests, price sensitivity, habits, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .catalogue import Catalogue, draw_items
from .config import WorldConfig

Array = NDArray[Any]

_TIERS = 5
_PRICE_SENSE_SD = 0.6  # log-sd over users
MAX_EVENTS = 50_000.0  # of one user


class Crowd(NamedTuple):
    """The users as the kernels read them. U users, M lasting interests each."""

    interest: Array  # (U, M) int32, an item that stands for each lasting interest
    seasonal: Array  # (U,) int32, an item that stands for the seasonal one
    price_sense: Array  # (U,) float32, mean 1
    patience: Array  # (U,) float32, log of the user's usual dwell, sd 1
    spend: Array  # (U,) float32, lasting part of the readiness to buy, sd 1
    segment: Array  # (U,) int32, bucket of the planted interaction
    window_ms: Array  # (U,) float64, one session in each; see clock.py


@dataclass(frozen=True)
class People:
    """The users of a world, counted from 0."""

    crowd: Crowd
    wanted: Array  # (U,) float64, events each should have in expectation

    @classmethod
    def make(cls, config: WorldConfig, catalogue: Catalogue) -> People:
        """Draw the users of a world; ``scheduled`` then says when they come."""
        p, users = config.people, config.people.users
        rng = np.random.Generator(np.random.PCG64([config.seed, 2]))
        keys = rng.integers(1 << 63, size=users * (config.interests.count + 1), dtype=np.uint64)
        liked = draw_items(catalogue.shelf, keys).reshape(users, -1)
        activity = np.exp(p.activity_sd * rng.standard_normal(users) - p.activity_sd**2 / 2)
        sense = np.exp(_PRICE_SENSE_SD * rng.standard_normal(users) - _PRICE_SENSE_SD**2 / 2)
        crowd = Crowd(
            interest=np.ascontiguousarray(liked[:, 1:]),
            seasonal=np.ascontiguousarray(liked[:, 0]),
            price_sense=sense.astype(np.float32),
            patience=rng.standard_normal(users, dtype=np.float32),
            spend=rng.standard_normal(users, dtype=np.float32),
            segment=rng.permutation(users).astype(np.int32) % np.int32(config.interaction.buckets),
            window_ms=np.zeros(users),
        )
        return cls(crowd, np.minimum(p.events_per_user * activity, MAX_EVENTS))

    def scheduled(self, window_ms: float | Array) -> People:
        """The same people, each with a session in every window of this length."""
        window_U = np.full(len(self.wanted), window_ms)
        return People(self.crowd._replace(window_ms=window_U), self.wanted)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The users of the raw log, one row a user, ids from 1."""
        edges = np.quantile(self.crowd.spend, np.arange(1, _TIERS) / _TIERS)
        return pl.DataFrame(
            {
                "user": np.arange(1, len(self.crowd.segment) + 1, dtype=np.int32),
                "segment": self.crowd.segment,
                "tier": np.searchsorted(edges, self.crowd.spend).astype(np.int32),
            }
        )
