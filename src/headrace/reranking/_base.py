"""What every re-ranker starts from: the candidates of each request, best first.

M candidates of one request; the other letters as in ``data.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from .. import config
from ..data import Candidates, Ragged
from ..ops import ragged, slate
from ..ops.slate import Array

VALUE = "value"  # the score that orders the slate: column 0 of it
UNKNOWN_CATEGORY = 0

Count = Annotated[int, Field(ge=1, le=10_000)]


class Capped(config.Config):
    """What every re-ranker can be told."""

    max_per_category: Count | None = None
    """Items of one category at most, even if the slate comes out short. Default: no limit."""


class Catalogue(Protocol):
    """What a re-ranker may know of the items."""

    @property
    def category(self) -> Tensor:
        """``(I,) int64``; 0 is an unknown category, which is nobody's."""
        ...

    @property
    def vectors(self) -> Tensor | None:
        """``(I, D)`` item vectors of any length, if some model has them; cosine is similarity."""
        ...


@dataclass(frozen=True, slots=True)
class Ranked:
    """The candidates of a batch, each request's in order of value, as the kernels take them."""

    position: Tensor  # (N,) int64: where each stands among the candidates
    item: Tensor  # (N,) int64
    value: Ragged  # (N,) float64, B rows; -inf where it is not a finite number
    category: Array  # (N,) int64; every candidate of unknown category has one of its own
    offsets: Array  # (B + 1,) int64
    quota: Array  # (B,) int64

    @property
    def relevance(self) -> Array:  # (N,) float64 in [0, 1]; NaN where the value is not finite
        """Values scaled to [0, 1] within each request; where all are equal they are 0."""
        value_N, row_N = self.value.values, self.value.row
        finite_N = value_N.isfinite()
        ends_B = value_N.new_zeros(2, len(self.value))
        low_B, high_B = (
            ends_B[i].scatter_reduce(0, row_N[finite_N], value_N[finite_N], how, include_self=False)
            for i, how in enumerate(("amin", "amax"))
        )
        span_B = (high_B - low_B).clamp(min=torch.finfo(torch.float64).tiny)
        scaled_N = (value_N - low_B[row_N]) / span_B[row_N]
        return scaled_N.masked_fill(~finite_N, torch.nan).numpy()

    def chosen(self, place_K: Array) -> Tensor:  # (K,) int64
        """From places in this order to positions among the candidates."""
        return self.position[torch.from_numpy(place_K)]


def limit(setting: int | None) -> int:
    """A window or a cap, as the kernels take it."""
    return slate.UNLIMITED if setting is None else setting


def values(candidates: Candidates) -> Tensor:  # (N,) float64
    """What candidates are ordered by; values that are no finite number become -inf."""
    value_N = candidates.scores[VALUE][:, 0].detach().double()
    return value_N.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def rank(candidates: Candidates, catalogue: Catalogue, quota_B: Tensor) -> Ranked:
    """Order candidates by value, ties as they came, values that are no finite number last."""
    value_N, item_id = values(candidates), candidates.item_id
    position_N = ragged.top(value_N, item_id.offsets, item_id.lengths)
    item_N = item_id.values[position_N]
    return Ranked(
        position_N,
        item_N,
        item_id.with_values(value_N[position_N]),
        _categories(catalogue.category[item_N]).numpy(),
        item_id.offsets.contiguous().numpy(),  # a kernel is compiled for contiguous arrays
        quota_B.contiguous().numpy(),
    )


def unit_vectors(vector_ID: Tensor | None, item_N: Tensor) -> Array:  # (N, D) float64
    """Item vectors scaled to length 1; one that is zero or not finite is alike to none.

    Without any, D = 0, by which the kernels know.
    """
    if vector_ID is None:
        return np.zeros((len(item_N), 0))
    vector_ND = vector_ID[item_N].double()
    whole_N1 = vector_ND.isfinite().all(1, keepdim=True)
    return F.normalize(torch.where(whole_N1, vector_ND, 0.0), dim=1).contiguous().numpy()


def _categories(category_N: Tensor) -> Tensor:  # (N,) int64
    """Give every candidate of unknown category one of its own: unknown is not alike."""
    own_N = -1 - torch.arange(len(category_N))
    return torch.where(category_N == UNKNOWN_CATEGORY, own_N, category_N)
