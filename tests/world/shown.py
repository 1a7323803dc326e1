"""What the tests of the world share: small worlds, and the log as one row an exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headrace.log import RawLog
from headrace.world import World

TASKS = ["view", "cart", "favourite", "buy"]
SMALL: dict[str, dict[str, Any]] = {
    "catalogue": {"items": 2_000, "tree": (8, 8)},
    "people": {"users": 150, "events_per_user": 200.0, "days": 30},
}


def config(**settings: Any) -> World.Config:
    """A small world; tables given replace single settings of it."""
    merged = {
        k: {**SMALL.get(k, {}), **v} if isinstance(v, dict) else v for k, v in settings.items()
    }
    return World.Config.model_validate({**SMALL, **merged})


def exposed(raw: RawLog) -> pl.DataFrame:
    """One row an exposure: its request, item attributes, and 0 or 1 for each task."""
    assert raw.requests is not None and raw.exposures is not None and raw.items is not None
    done = raw.events.with_columns(pl.lit(1).alias("one")).pivot(
        "type", index=["request", "item"], values="one", aggregate_function="max"
    )
    rows = raw.exposures.join(raw.requests, left_on="group", right_on="request", how="left")
    rows = rows.join(raw.items.drop("price", "bid"), on="item", how="left")
    rows = rows.join(done, left_on=["group", "item"], right_on=["request", "item"], how="left")
    return rows.with_columns(pl.col(TASKS).fill_null(0)).sort("user", "time_ms", "position")


def truth(world: World, rows: pl.DataFrame, position: bool = True) -> np.ndarray:
    """The oracle's probabilities for rows of ``exposed``."""
    place = rows["position"] if position else None
    return world.probability(rows["user"], rows["time_ms"], rows["item"], place)
