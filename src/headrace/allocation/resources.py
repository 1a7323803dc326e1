"""What a request takes of each thing that is budgeted, by its plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..stages import RANKING
from .actions import STAGES, Actions, Quota, is_option, is_tier

Array = NDArray[Any]
Further = Literal["wall_ms", "ranked", "calls"]
"""``wall_ms``: time from a request's making to its slate. ``ranked``: items that the ranker scores,
not its tiers. ``calls``: channels that are asked and rankers that run, where each is a service of
its own."""
CPU = "cpu_ms"
NAMES = (CPU, *get_args(Further))
MEASURED = (CPU, "wall_ms")  # time of this machine: corrected by what was spent, capped by power


def costs(actions: Actions, names: Sequence[str]) -> Array:  # (R, J)
    """What every plan takes of these resources."""
    columns = {
        CPU: actions.cpu_ms,
        "wall_ms": actions.cost_ms,
        "ranked": np.array([_ranked(quota) for quota in actions.quotas], np.float64),
        "calls": np.array([_calls(quota) for quota in actions.quotas], np.float64),
    }
    return np.stack([columns[name] for name in names])


def _ranked(quota: Quota) -> int:
    by_tier = any(quota[name] for name in quota if is_tier(name))
    return 0 if by_tier else quota["preranking"] * quota.get(RANKING, 1)


def _calls(quota: Quota) -> int:
    channels = [name for name in quota if name not in STAGES and not is_option(name)]
    return sum(quota[name] > 0 for name in channels) + quota.get(RANKING, 1)
