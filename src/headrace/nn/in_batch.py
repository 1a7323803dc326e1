"""Sampled softmax for requests with several positives, one row of scores a request.

  B  requests    N  positives, summed over requests    M  distinct items they are scored against

``losses.sampled_softmax`` has a row a positive. Where a request took seven items that is seven
times the same row; here it is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Batch
from .losses import gather_rows, mixed_log_q, sum_processes


@dataclass(frozen=True, slots=True)
class Columns:
    """The distinct items that a batch is scored against: every positive, and the uniform pool."""

    item_M: Tensor  # (M,) int64
    count_M: Tensor  # (M,) int64, how often each is in the batch, positives and pool together
    place_N: Tensor  # (N,) int64, the column of each positive

    @classmethod
    def of(cls, batch: Batch) -> Columns:
        """Columns of one process's batch."""
        positive_N = batch.candidates.item_id.values
        item_M, place, count_M = torch.unique(
            torch.cat([positive_N, batch.pool]), return_inverse=True, return_counts=True
        )
        return cls(item_M, count_M, place[: len(positive_N)])
