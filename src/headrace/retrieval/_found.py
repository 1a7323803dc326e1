"""Answers of searches: made of plain scores, put one after the other, put in order.

N  items scored    B  requests
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ops.graph_search import Found, Spent

Array = NDArray[Any]


def best(score_N: Tensor, item_N: Tensor, most: int, begun: float) -> Found:
    """One request's answer where so many items were scored; of equal scores the lower first."""
    scored = time.perf_counter()
    score_N = score_N.nan_to_num(-torch.inf, -torch.inf, -torch.inf)
    top, at = score_N.topk(max(0, min(most, len(item_N))))
    item, score = item_N[at].int().numpy(), top.numpy()
    order = np.lexsort((item, -score))
    order = order[: int(np.isfinite(score).sum())]
    spent = Spent(0.0, scored - begun, time.perf_counter() - scored)
    num_scored = np.array([len(item_N)], np.int64)
    return Found(item[order], score[order], np.array([0, len(order)]), num_scored, spent)


def joined(parts: Sequence[Found]) -> Found:
    """Answers one after the other."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.zeros(0, np.int32)
        spent = Spent(0.0, 0.0, 0.0)
        return Found(none, none.astype(np.float32), np.zeros(1, np.int64), none.astype(int), spent)
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    spent = [(p.spent.expansion_s, p.spent.scoring_s, p.spent.selection_s) for p in parts]
    return Found(
        np.concatenate([part.item for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([[0], lengths.cumsum()]),
        np.concatenate([part.num_scored for part in parts]),
        Spent(*map(sum, zip(*spent, strict=True))),
    )


def interleaved(parts: Sequence[tuple[Array, Found]]) -> Found:
    """Answers in the order of the requests; each part says which rows it answers, ascending."""
    if len(parts) == 1:
        return parts[0][1]
    row_B, both = np.concatenate([rows for rows, _ in parts]), joined([found for _, found in parts])
    at_B = np.argsort(row_B)
    lengths = np.diff(both.offsets)[at_B]
    offsets = np.concatenate([[0], lengths.cumsum()])
    at = np.arange(offsets[-1]) + np.repeat(both.offsets[at_B] - offsets[:-1], lengths)
    return Found(both.item[at], both.score[at], offsets, both.num_scored[at_B], both.spent)
