"""Sampled softmax for requests that took several items each: one row of scores a request.

  B  requests    N  positives, summed over requests    M  columns, items scored against
  P  distinct positives

``losses.sampled_softmax`` has a row a positive; where a request took seven items, that computes the
same row seven times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data import Batch
from .losses import gather_rows, mixed_log_q


@dataclass(frozen=True, slots=True)
class Columns:
    """The items that every request of a batch is scored against.

    First the distinct positives of the batch, which are negatives to the requests that did not take
    them, then the distinct items of its uniform pool. An item may be in both.
    """

    item: Tensor  # (M,) int64
    count: Tensor  # (M,) int64, how often the batch has it there
    place: Tensor  # (N,) int64, the column of each positive
    num_positive: int  # P, the columns that are positives

    @classmethod
    def of(cls, batch: Batch) -> Columns:
        """The columns that one process's share of a batch has."""
        item_P, place_N, count_P = torch.unique(
            batch.candidates.item_id.values, return_inverse=True, return_counts=True
        )
        item_Q, count_Q = torch.unique(batch.pool, return_counts=True)
        both = torch.cat([item_P, item_Q]), torch.cat([count_P, count_Q])
        return cls(*both, place_N, len(item_P))

    def gather(self, vector_MD: Tensor) -> tuple[Columns, Tensor]:
        """Add the positives of all other processes; the pool they share already."""
        own, pool = slice(self.num_positive), slice(self.num_positive, None)
        vector_PD, first = gather_rows(vector_MD[own])
        columns = replace(
            self,
            item=torch.cat([gather_rows(self.item[own])[0], self.item[pool]]),
            count=torch.cat([gather_rows(self.count[own])[0], self.count[pool]]),
            place=self.place + first,
            num_positive=len(vector_PD),
        )
        return columns, torch.cat([vector_PD, vector_MD[pool]])

    def log_q(self, frequency_I: Tensor) -> Tensor:  # (M,)
        """Log of how likely each column's item is as a negative, by one mixture for both sources.

        ``frequency_I`` says how often each item is a positive in training.
        """
        num_items = len(frequency_I)
        in_batch, uniform = (int(part.sum()) for part in self._sources())
        count_M, total = frequency_I[self.item], round(float(frequency_I.sum()))
        return mixed_log_q(count_M, total, num_items, in_batch, uniform)

    def taken(self, row_N: Tensor, num_requests: int) -> Tensor:  # (B, M) bool
        """Which columns hold an item that the request took, wherever that item came from."""
        distinct_U, place_M = torch.unique(self.item, return_inverse=True)
        taken_BU = torch.zeros(num_requests, len(distinct_U), dtype=torch.bool)
        taken_BU[row_N, place_M[self.place]] = True
        return taken_BU[:, place_M]

    def _sources(self) -> tuple[Tensor, Tensor]:
        return self.count[: self.num_positive], self.count[self.num_positive :]


def request_softmax(
    score_BM: Tensor, log_q_M: Tensor, columns: Columns, row_N: Tensor, weight_N: Tensor
) -> Tensor:
    """Softmax of each positive against all that its request did not take; a scalar.

    ``-1/N Σ_n w_n · log(e^{s_n} / (e^{s_n} + Σ_j c_j e^{s_j}))`` with ``s = score - log q`` and
    ``c_j`` the times that column j was drawn; j runs over the columns that positive n's request did
    not take (accidental hits are left out, the request's other positives among them). Source: Yi et
    al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations", §3;
    the positive is corrected as well, as there.
    """
    logit_BM = score_BM - log_q_M
    lowest = torch.finfo(logit_BM.dtype).min  # -inf would give NaN where a request took everything
    taken_BM = columns.taken(row_N, len(score_BM))
    negative_BM = (logit_BM + columns.count.log()).masked_fill(taken_BM, lowest)
    loss_N = F.softplus(negative_BM.logsumexp(dim=1)[row_N] - logit_BM[row_N, columns.place])
    return (loss_N @ weight_N) / max(len(loss_N), 1)
