"""Prices that an operator holds by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .resources import CPU

PRICE = "price.json"  # {"price": 0.02} in the allocation folder holds the price there


def held_prices(folder: Path, names: Sequence[str]) -> NDArray[Any] | None:  # (R,)
    """What is written down for resources of these names; what cannot be read counts as nothing.

    A number is the price of processor time; an object has one by resource. Others are then 0.
    """
    try:
        told = orjson.loads((folder / PRICE).read_bytes())["price"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    price: Mapping[str, Any] = told if isinstance(told, dict) else {CPU: told}
    if not price or any(name not in names for name in price):
        return None
    if not all(isinstance(x, int | float) and np.isfinite(x) and x >= 0 for x in price.values()):
        return None
    return np.array([float(price.get(name, 0.0)) for name in names])
