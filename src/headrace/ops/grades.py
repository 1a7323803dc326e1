"""How a ranker's list becomes grades: by place, not by score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import ragged

PLACES = (10, 50, 100)


def grades(score_N: Tensor, offsets: Tensor, places: Sequence[int] = PLACES) -> Tensor:  # (N,)
    """Grade candidates by their place in their row's order, int64: as many as cuts they are within.

    With places 10, 50 and 100 the ten best of a row have grade 3, the next forty 2, the next fifty
    1, the rest 0; ties go by order of the row.
    """
    order_N = ragged.top(score_N, offsets, offsets.diff())
    place_N = torch.arange(len(order_N)) - offsets[:-1][ragged.rows_of(offsets, len(order_N))]
    within_N = (place_N.unsqueeze(1) < torch.tensor(places)).sum(1)
    return torch.empty_like(within_N).index_copy(0, order_N, within_N)
