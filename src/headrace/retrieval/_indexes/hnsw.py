"""A walk along a graph, by Faiss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ... import config
from ...data import Candidates, Ragged
from ._base import faiss, found, kept, shown, taken_up, without

GRAPH = "graph"


@final
class Hnsw:
    """Walks a navigable small-world graph (Malkov and Yashunin, arXiv:1603.09320), by Faiss.

    Vectors get one more coordinate that makes all of them equally long, and queries a 0 there, so
    that the graph of nearest neighbours is one of largest inner products (Bachrach et al. 2014,
    "Speeding up the Xbox recommender system using a Euclidean transformation", section 3.2).
    Excluded items are searched for and then dropped, so that long exclusions cost.

    Linking on several threads depends on their timing: graphs of two runs may differ, a graph that
    was saved may not.
    """

    class Config(config.Config):
        """Settings of Hnsw."""

        kind: Literal["hnsw"] = "hnsw"
        links: int = Field(default=32, ge=2, le=512)
        """Neighbours of an item in the graph (M)."""
        build_width: int = Field(default=80, ge=1, le=100_000)
        """Items kept in view while linking (efConstruction)."""
        search_width: int = Field(default=256, ge=1, le=100_000)
        """Items kept in view while searching, at least as many as are asked for (efSearch)."""

        def build(self, vector_ID: Tensor, available_I: Tensor) -> Hnsw:
            """Link all items."""
            flat_ID = _equally_long(vector_ID)
            graph = faiss.IndexHNSWFlat(flat_ID.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction = self.build_width
            graph.add(flat_ID)
            return Hnsw(self, graph, available_I)

        def restore(
            self, arrays: Mapping[str, Tensor], vector_ID: Tensor, available_I: Tensor
        ) -> Hnsw:
            """Take up a graph; items that it does not have yet are linked in."""
            graph = taken_up(arrays, GRAPH)
            graph.add(_equally_long(vector_ID)[graph.ntotal :])
            return Hnsw(self, graph, available_I)

    def __init__(self, config: Config, graph: Any, available_I: Tensor) -> None:
        self.config = config
        self._graph = graph
        self._bits = np.packbits(shown(available_I).numpy(), bitorder="little")  # Faiss keeps none
        self._selector = faiss.IDSelectorBitmap(self._bits)

    def search(self, query_BD: Tensor, most: int, exclude: Ragged) -> Candidates:
        longest = int(exclude.lengths.max()) if len(exclude) else 0
        wanted = min(most + longest, self._graph.ntotal)
        settings = faiss.SearchParametersHNSW(
            efSearch=max(self.config.search_width, wanted), sel=self._selector
        )
        padded = np.pad(query_BD.numpy(), ((0, 0), (0, 1)))
        score_BK, item_BK = self._graph.search(padded, max(wanted, 1), params=settings)
        everything = found(torch.from_numpy(score_BK), torch.from_numpy(item_BK))
        return without(everything, exclude, most)

    def arrays(self) -> Mapping[str, Tensor]:
        return {GRAPH: kept(self._graph)}


def _equally_long(vector_ID: Tensor) -> np.ndarray:  # (I, D + 1) float32
    """Append what each vector lacks to the length of the longest."""
    square_I = vector_ID.double().square().sum(1)
    rest_I = (square_I.max() - square_I).clamp(min=0).sqrt()
    return torch.cat([vector_ID, rest_I.float().unsqueeze(1)], dim=1).numpy()
