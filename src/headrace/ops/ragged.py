"""Operations within the rows of a Ragged. N values in B rows given by offsets (B + 1,).

Most requests come alone: where one row is less work than many of length N, it is done as one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .best import kept


def rows_of(offsets: Tensor, size: int) -> Tensor:  # (N,) int64
    """The row each of ``size`` values belongs to."""
    return torch.repeat_interleave(offsets.diff(), output_size=size)


def top(score_N: Tensor, offsets: Tensor, quota_B: Tensor) -> Tensor:  # (K,) int64 positions
    """Find the ``quota_B`` best of each row, best first; ties keep their order.

    Scores that are no numbers come last.
    """
    score_N = _numbers(score_N)
    if len(quota_B) == 1:
        return score_N.argsort(descending=True, stable=True)[: int(quota_B)]
    row_N = rows_of(offsets, score_N.shape[0])
    order_N = score_N.argsort(descending=True, stable=True)
    order_N = order_N[row_N[order_N].argsort(stable=True)]
    place_N = torch.arange(len(order_N)) - offsets[:-1][row_N[order_N]]
    return order_N[place_N < quota_B[row_N[order_N]]]


def top_in_place(score_N: Tensor, offsets: Tensor, quota_B: Tensor) -> Tensor:  # (K,) int64
    """The positions of ``top``, ascending: the same candidates in the order they had."""
    if len(quota_B) == 1:
        return torch.from_numpy(kept(_numbers(score_N).numpy(), int(quota_B)))
    return top(score_N, offsets, quota_B).sort().values


def _numbers(score_N: Tensor) -> Tensor:
    """What is no number comes after all that are."""
    return score_N.nan_to_num(-torch.inf, torch.inf, -torch.inf)


def head(offsets: Tensor, quota_B: Tensor) -> Tensor:  # (K,) int64 positions
    """The first ``quota_B`` positions of each row."""
    size = int(offsets[-1])
    if len(quota_B) == 1:
        return torch.arange(min(size, int(quota_B)))
    row_N = rows_of(offsets, size)
    place_N = torch.arange(size) - offsets[:-1][row_N]
    return torch.nonzero(place_N < quota_B[row_N])[:, 0]


def segment_sum(value_ND: Tensor, offsets: Tensor) -> Tensor:  # (B, D)
    """Sum each row; an empty row sums to zero."""
    out_BD = value_ND.new_zeros(offsets.shape[0] - 1, *value_ND.shape[1:])
    return out_BD.index_add(0, rows_of(offsets, value_ND.shape[0]), value_ND)


def segment_mean(value_ND: Tensor, offsets: Tensor) -> Tensor:  # (B, D)
    """Average each row; an empty row averages to zero."""
    total_BD = segment_sum(value_ND, offsets)
    return total_BD / offsets.diff().clamp(min=1).to(total_BD.dtype).unsqueeze(-1)


def segment_softmax(logit_N: Tensor, offsets: Tensor) -> Tensor:  # (N,)
    """Softmax within each row, stable for any finite logits."""
    row_N = rows_of(offsets, logit_N.shape[0])
    top_B = logit_N.new_full((offsets.shape[0] - 1,), -torch.inf).scatter_reduce(
        0, row_N, logit_N.detach(), "amax"
    )
    exp_N = (logit_N - top_B[row_N]).exp()
    return exp_N / segment_sum(exp_N, offsets)[row_N]


def pad(value_ND: Tensor, offsets: Tensor, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Lay rows out as ``(B, L, D)`` with a mask ``(B, L)`` that is true on real values.

    ``L`` is the longest row, at least 1, unless ``length`` says otherwise (longer rows are cut at
    the front: the newest values stay).
    """
    lengths_B = offsets.diff()
    longest = int(lengths_B.max()) if len(lengths_B) else 0
    size = max(1, longest if length is None else length)
    if len(lengths_B) == 1 and size <= longest:
        newest_1LD = value_ND[-size:].unsqueeze(0)
        return newest_1LD, torch.ones(1, size, dtype=torch.bool)
    column_L = torch.arange(size)
    kept_B = lengths_B.clamp(max=size)
    mask_BL = column_L < kept_B.unsqueeze(1)
    index_BL = (offsets[1:] - kept_B).unsqueeze(1) + column_L
    if value_ND.shape[0] == 0:
        return value_ND.new_zeros(len(lengths_B), size, *value_ND.shape[1:]), mask_BL
    out = value_ND[index_BL.clamp(max=value_ND.shape[0] - 1)]
    return out * mask_BL.reshape(*mask_BL.shape, *([1] * (value_ND.dim() - 1))), mask_BL
