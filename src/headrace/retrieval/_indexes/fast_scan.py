"""All items scored roughly by short codes, the best of them by their vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ... import config
from ...data import Candidates, Ragged
from ...ops.row_products import row_products
from ._base import faiss, found, kept, shown, taken_up, without

QUANTIZER = "quantizer"
SAMPLE = 65_536  # vectors that codes are learnt from, at most
LEAST = 1_024  # and at least: fewer are taken again and again
CHUNK = 64  # queries answered at a time


@final
class FastScan:
    """Product quantization of 4 bits whose tables stay in registers, by Faiss.

    André et al. 2015, "Cache locality is not enough: high-performance nearest neighbor search with
    product quantization fast scan". Two coordinates share a code, so that a pass over all items
    reads a sixteenth of what their vectors take. Excluded items are found and then dropped, so that
    long exclusions cost.
    """

    class Config(config.Config):
        """Settings of FastScan."""

        kind: Literal["fast_scan"] = "fast_scan"
        rescored: float = Field(default=8.0, ge=1, le=10_000)
        """Items scored by their vectors, as a multiple of those asked for."""

        def build(self, vector_ID: Tensor, available_I: Tensor) -> FastScan:
            """Learn the codes, and encode all items."""
            width = _even(vector_ID[:0]).shape[1]
            codes = faiss.IndexPQFastScan(width, width // 2, 4, faiss.METRIC_INNER_PRODUCT)
            return FastScan(self, codes, vector_ID, available_I)

        def restore(
            self, arrays: Mapping[str, Tensor], vector_ID: Tensor, available_I: Tensor
        ) -> FastScan:
            """Take up the codes, and encode all items."""
            return FastScan(self, taken_up(arrays, QUANTIZER), vector_ID, available_I)

    def __init__(self, config: Config, codes: Any, vector_ID: Tensor, available_I: Tensor) -> None:
        self.config = config
        self._item_M = torch.nonzero(shown(available_I))[:, 0]
        self._vector_ID, self._codes = vector_ID, codes
        even_MD = _even(vector_ID[self._item_M])
        if len(even_MD) and not codes.is_trained:
            some = np.random.default_rng(0).permutation(len(even_MD))[:SAMPLE]
            codes.train(even_MD[np.resize(some, max(len(some), LEAST))])
        self._quantizer = kept(codes)
        if len(even_MD):
            codes.add(even_MD)

    def search(self, query_BD: Tensor, most: int, exclude: Ragged) -> Candidates:
        longest = int(exclude.lengths.max()) if len(exclude) else 0
        wanted = min(most + longest, len(self._item_M))
        if not (len(query_BD) and wanted):
            nothing = query_BD.new_zeros(len(query_BD), 0)
            return found(nothing, nothing.long())
        parts = [self._best(some, wanted) for some in query_BD.split(CHUNK)]
        score_BK, item_BK = (torch.cat(each) for each in zip(*parts, strict=True))
        return without(found(score_BK, item_BK), exclude, most)

    def _best(self, query_BD: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        rough = min(math.ceil(self.config.rescored * wanted), len(self._item_M))
        _, at_BR = self._codes.search(_even(query_BD), rough)
        item_BR = np.where(at_BR < 0, -1, self._item_M.numpy()[at_BR])
        score_BR = row_products(self._vector_ID.numpy(), item_BR, query_BD.numpy())
        score_BK, place_BK = torch.from_numpy(score_BR).topk(wanted)
        return score_BK, torch.from_numpy(item_BR).gather(1, place_BK)

    def arrays(self) -> Mapping[str, Tensor]:
        return {QUANTIZER: self._quantizer}


def _even(vector_ND: Tensor) -> np.ndarray:  # (N, D or D + 1) float32
    """With an even number of coordinates."""
    return np.pad(vector_ND.numpy(), ((0, 0), (0, vector_ND.shape[1] % 2)))
