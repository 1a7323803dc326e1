"""How long ago an event was, as an id: log-spaced buckets from a minute to three years."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Ragged

NUM_AGES = 26  # ids 0 .. 25; every bucket is a doubling of the one before
STARTS_MS = torch.tensor([(2**k - 1) * 60_000 for k in range(1, NUM_AGES)])


def age_ids(time_ms: Ragged, now_ms: Tensor) -> Tensor:  # (E,) int64
    """Bucket the time from each event to its row's moment ``(B,)``; 0 is under a minute."""
    return buckets(time_ms.spread(now_ms) - time_ms.values)


def buckets(age_ms: Tensor) -> Tensor:
    """Bucket ages, any shape, int64."""
    return torch.bucketize(age_ms, STARTS_MS, right=True)
