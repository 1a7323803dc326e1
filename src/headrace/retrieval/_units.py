"""Who took what together: the training period's target events as sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..samples import Samples

Array = NDArray[Any]


@dataclass(frozen=True)
class Units:
    """Sets of items, by unit and by item; see ops/co_occurrence.py."""

    offsets: Array
    item: Array
    item_offsets: Array
    unit: Array


def units(samples: Samples, by: Literal["request", "user"]) -> Units:
    """Distinct (unit, item) pairs of the target events before the validation period."""
    log = samples.log
    counted = samples.counted()
    of = np.asarray(log.event("request")) if by == "request" else np.asarray(log.event_user)
    unit, item = of[counted].astype(np.int64), np.asarray(log.event("item"))[counted]
    kept = unit >= 0
    num_items = log.manifest.num_items
    pair = np.unique(unit[kept] * num_items + item[kept])
    unit, item = pair // num_items, (pair % num_items).astype(np.int32)
    _, unit = np.unique(unit, return_inverse=True)
    by_item = np.argsort(item, kind="stable")
    return Units(
        np.concatenate([[0], np.cumsum(np.bincount(unit))]).astype(np.int64),
        item,
        np.concatenate([[0], np.cumsum(np.bincount(item, minlength=num_items))]).astype(np.int64),
        unit[by_item].astype(np.int32),
    )
