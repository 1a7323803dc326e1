"""Search by inner product over item vectors: all of them, or along a graph.

B  queries    I  items, row 0 is none    D  vector width    K  items found a query
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, final

import faiss as faiss_module
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from .. import config
from ..data import Candidates, Ragged
from ..errors import BundleError
from ..ops import ragged
from ..ops.best import best_of_each

faiss: Any = faiss_module  # its stubs lack what SWIG adds at run time
GRAPH = "graph"
CHUNK = 64  # queries scored at a time where all items are


class Index(Protocol):
    """Finds the items with the largest inner products."""

    def search(self, query_BD: Tensor, most: int, exclude: Ragged) -> Candidates:
        """At most ``most`` items a query, none that its row of ``exclude`` names; best first.

        Scores under ``"score"``, ``(N, 1)``. Items that were not available when the index was made
        are not found, nor is item 0.
        """
        ...

    def arrays(self) -> Mapping[str, Tensor]:
        """What cannot be had from the vectors in no time."""
        ...


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
        self._item_M = torch.nonzero(_shown(available_I))[:, 0]
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
        return _found(score_BK, self._item_M[at_BK])

    def _places(self, item_X: Tensor) -> Tensor:  # (Y,), of those items that are here
        if not (len(item_X) and len(self._item_M)):
            return item_X[:0]
        place_X = torch.searchsorted(self._item_M, item_X).clamp(max=len(self._item_M) - 1)
        return place_X[self._item_M[place_X] == item_X]

    def arrays(self) -> Mapping[str, Tensor]:
        return {}


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
            try:
                graph = faiss.deserialize_index(arrays[GRAPH].numpy())
            except (KeyError, RuntimeError) as error:
                raise BundleError(
                    f"index: no graph can be read from the bundle ({error}); train again"
                ) from None
            graph.add(_equally_long(vector_ID)[graph.ntotal :])
            return Hnsw(self, graph, available_I)

    def __init__(self, config: Config, graph: Any, available_I: Tensor) -> None:
        self.config = config
        self._graph = graph
        self._bits = np.packbits(_shown(available_I).numpy(), bitorder="little")  # Faiss keeps none
        self._selector = faiss.IDSelectorBitmap(self._bits)

    def search(self, query_BD: Tensor, most: int, exclude: Ragged) -> Candidates:
        longest = int(exclude.lengths.max()) if len(exclude) else 0
        wanted = min(most + longest, self._graph.ntotal)
        settings = faiss.SearchParametersHNSW(
            efSearch=max(self.config.search_width, wanted), sel=self._selector
        )
        padded = np.pad(query_BD.numpy(), ((0, 0), (0, 1)))
        score_BK, item_BK = self._graph.search(padded, max(wanted, 1), params=settings)
        found = _found(torch.from_numpy(score_BK), torch.from_numpy(item_BK))
        return _without(found, exclude, most)

    def arrays(self) -> Mapping[str, Tensor]:
        return {GRAPH: torch.from_numpy(faiss.serialize_index(self._graph))}


IndexConfig = Annotated[Exact.Config | Hnsw.Config, Field(discriminator="kind")]


def _shown(available_I: Tensor) -> Tensor:  # (I,) bool
    return available_I.clone().index_fill_(0, torch.zeros(1, dtype=torch.int64), False)


def _equally_long(vector_ID: Tensor) -> np.ndarray:  # (I, D + 1) float32
    """Append what each vector lacks to the length of the longest."""
    square_I = vector_ID.double().square().sum(1)
    rest_I = (square_I.max() - square_I).clamp(min=0).sqrt()
    return torch.cat([vector_ID, rest_I.float().unsqueeze(1)], dim=1).numpy()


def _found(score_BK: Tensor, item_BK: Tensor) -> Candidates:
    """Rows of different lengths out of a search that marks what it did not find."""
    real_BK = score_BK.isfinite() & (item_BK > 0)
    item = Ragged.sized(item_BK[real_BK], real_BK.sum(1))
    return Candidates(item, scores={"score": score_BK[real_BK].unsqueeze(1)})


def _without(found: Candidates, exclude: Ragged, most: int) -> Candidates:
    """At most ``most`` of each row, none excluded."""
    if len(exclude.values):
        found = found.take(torch.nonzero(~found.item_id.within(exclude))[:, 0])
    return found.take(ragged.head(found.item_id.offsets, torch.full((len(exclude),), most)))
