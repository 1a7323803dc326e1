"""All items scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch
from torch import Tensor

from ... import config
from ...data import Candidates, Ragged
from ...ops.best import best_of_each
from ._base import found, shown

CHUNK = 64  # queries scored at a time


@final
class Exact:
    """Scores every item."""

    class Config(config.Config):
        """Settings of Exact."""

        kind: Literal["exact"] = "exact"

        def build(self, vector_ID: Tensor, available_I: Tensor) -> Exact:
            """Make the index."""
            return Exact(vector_ID, available_I)

        def restore(
            self, arrays: Mapping[str, Tensor], vector_ID: Tensor, available_I: Tensor
        ) -> Exact:
            """Make the index; it has no arrays."""
            del arrays
            return Exact(vector_ID, available_I)

    def __init__(self, vector_ID: Tensor, available_I: Tensor) -> None:
        self._item_M = torch.nonzero(shown(available_I))[:, 0]
        whole = len(self._item_M) == len(vector_ID) - 1  # all but item 0: no copy is needed
        self._vector_MD = vector_ID[1:] if whole else vector_ID[self._item_M]

    def search(self, query_BD: Tensor, most: int, exclude: Ragged) -> Candidates:
        shape = len(query_BD), max(0, min(most, len(self._item_M)))
        score_BK, at_BK = query_BD.new_empty(shape), self._item_M.new_empty(shape)
        for first in range(0, len(query_BD), CHUNK):
            some = slice(first, first + CHUNK)
            score_CM = query_BD[some] @ self._vector_MD.T
            for row_M, b in zip(score_CM, range(first, len(query_BD)), strict=False):
                row_M[self._places(exclude[b])] = -torch.inf
            at_CK = best_of_each(score_CM.numpy(), self._item_M.numpy(), most)
            at_BK[some] = torch.from_numpy(at_CK)
            torch.gather(score_CM, 1, at_BK[some], out=score_BK[some])
        return found(score_BK, self._item_M[at_BK])

    def _places(self, item_X: Tensor) -> Tensor:  # (Y,), of those items that are here
        if not (len(item_X) and len(self._item_M)):
            return item_X[:0]
        place_X = torch.searchsorted(self._item_M, item_X).clamp(max=len(self._item_M) - 1)
        return place_X[self._item_M[place_X] == item_X]

    def arrays(self) -> Mapping[str, Tensor]:
        return {}
