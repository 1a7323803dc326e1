"""A catalogue searched under a split scorer: along its graph, or all of it.

B requests    I items    V width of an item's vector    X width of an item's row
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import Ragged, Requests
from ..ops import attention_score, graph_search, graph_walk
from ..ops.graph_search import Effort, Found
from ..training.torch_state import threads
from ._found import best, interleaved, joined
from ._graph import ItemGraph
from ._split import Fused, Scores, Split

Array = NDArray[Any]
Precision = Literal["fp32", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
CHUNK = 8192  # items scored at a time where many are
FEW = 0.01  # share of the items up to which those that a request allows are scored directly
HEIGHT = 1.0  # width of the bonus among the places of items, see ``Searchable.of``


@final
@dataclass(frozen=True)
class Searchable:
    """Everything about the items that a search needs, of one version.

    ``retrieval.foil`` trains, saves and restores it; any scorer that comes apart can be searched:
    ``Searchable.of(scorer, available_I, graph=ItemGraph.Config(), precision="bf16")``.
    """

    scorer: Split[Any]
    graph: ItemGraph
    vector_IV: Tensor  # float32
    row_IX: Tensor  # float32 or bfloat16
    bonus_I: Tensor  # float32, added to every score of an item
    height_I: Tensor  # float32, where the bonus put each item when it was linked
    available_I: Tensor  # bool

    @classmethod
    @torch.inference_mode()
    def of(
        cls,
        scorer: Split[Any],
        available_I: Tensor,
        bonus_I: Tensor | None = None,
        *,
        graph: ItemGraph.Config,
        precision: Precision = "fp32",
    ) -> Searchable:
        """Make the item part of every item, and link them.

        What is near lies near by the bonus, too: a walk by score then finds its way.
        """
        vector_IV, row_IX = item_part(scorer, torch.arange(len(available_I)), DTYPES[precision])
        bonus_I = torch.zeros(len(available_I)) if bonus_I is None else bonus_I
        height_I = _heights(scorer.places(vector_IV), bonus_I)
        linked = graph.build(placed(scorer, vector_IV, height_I), (vector_IV, height_I))
        return cls(scorer, linked, vector_IV, row_IX, bonus_I, height_I, available_I)

    @torch.inference_mode()
    def search(
        self,
        requests: Requests,
        most: int,
        effort: Effort,
        exclude: Ragged | None = None,
        scale_B: Array | None = None,
        seeds: Ragged | None = None,
    ) -> Found:
        """The ``most`` best items of each request that the graph leads to.

        None that is unavailable or that its row of ``exclude`` names; ``scale_B`` multiplies the
        widths of single requests, ``seeds`` are items at which they enter, too. Where a request
        allows fewer items than a search would score, or less than ``FEW`` of all, those are scored
        instead, without the graph.
        """
        asked = self._asked(requests)
        scale_B = np.ones(len(requests)) if scale_B is None else scale_B
        least_B = np.maximum(FEW * len(self.available_I), self._least(effort, scale_B))
        few_B = self._num_allowed(len(asked), exclude) <= least_B
        rows, other = np.flatnonzero(~few_B), np.flatnonzero(few_B)
        if not len(other):
            return self._walk(asked, most, effort, exclude, scale_B, seeds)
        direct = joined([self._direct(asked[b], most, _row(exclude, b)) for b in other.tolist()])
        if not len(rows):
            return direct
        left, near = (
            None if each is None else each.take_rows(torch.from_numpy(rows))
            for each in (exclude, seeds)
        )
        walked = self._walk([asked[b] for b in rows], most, effort, left, scale_B[rows], near)
        return interleaved([(rows, walked), (other, direct)])

    @torch.inference_mode()
    def exhaustive(self, requests: Requests, most: int, exclude: Ragged | None = None) -> Found:
        """The best of all items, by the same parts and the same cross: what a search is judged by.

        Items are read in order.
        """
        parts: list[Found] = []
        for b, scores in enumerate(self._asked(requests)):
            begun = time.perf_counter()
            score_I = torch.from_numpy(scores(self._every)).masked_fill_(~self._allowed, -torch.inf)
            if exclude is not None:
                score_I[exclude[b]] = -torch.inf
            parts.append(best(score_I, torch.from_numpy(self._every), most, begun))
        return joined(parts)

    @torch.inference_mode()
    def scores(self, requests: Requests) -> graph_search.Score:
        """Make the user part; what is returned scores items, ``(row_N, item_N) -> score_N``."""
        return _by_row(self._asked(requests))

    @torch.inference_mode()
    def relinked(self, graph: ItemGraph.Config) -> Searchable:
        """The same under another graph."""
        place_ID = placed(self.scorer, self.vector_IV, self.height_I)
        return replace(self, graph=graph.build(place_ID, (self.vector_IV, self.height_I)))

    @torch.inference_mode()
    def grown(self, available_I: Tensor) -> Searchable:
        """With the items that came after the last one linked in; their bonus is the lowest."""
        fresh = torch.arange(len(self.vector_IV), len(available_I))
        if not len(fresh):
            return replace(self, available_I=available_I)
        vector_MV, row_MX = item_part(self.scorer, fresh, self.row_IX.dtype)
        vector_IV = torch.cat([self.vector_IV, vector_MV])
        bonus_I, height_I = (
            torch.cat([known_I, known_I.min().expand(len(fresh))])
            for known_I in (self.bonus_I, self.height_I)
        )
        return replace(
            self,
            graph=self.graph.insert(
                placed(self.scorer, vector_IV, height_I), fresh, (vector_IV, height_I)
            ),
            vector_IV=vector_IV,
            row_IX=torch.cat([self.row_IX, row_MX]),
            bonus_I=bonus_I,
            height_I=height_I,
            available_I=available_I,
        )

    @cached_property
    def _allowed(self) -> Tensor:  # (I,) bool
        return self.available_I & (torch.arange(len(self.available_I)) > 0)

    @cached_property
    def _allowed_bits(self) -> Array:
        return graph_search.pack(self._allowed.numpy())

    @cached_property
    def _some(self) -> Array:  # int32, the items that are available
        return self._every[self._allowed.numpy()]

    @cached_property
    def _every(self) -> Array:  # int32
        return np.arange(len(self.available_I), dtype=np.int32)

    def _num_allowed(self, size: int, exclude: Ragged | None) -> Array:  # (B,)
        """At least so many items that each request may get: of those it excludes all count."""
        excluded_B = 0 if exclude is None else exclude.lengths.numpy()
        return np.full(size, len(self._some)) - excluded_B

    def _least(self, effort: Effort, scale_B: Array) -> Array:  # (B,)
        """About as many items as a search scores at the very least."""
        levels = self.graph.graph.levels
        width = sum(effort.of(level)[0] for level in range(len(levels) - 1))
        return len(levels[-1].nodes) + width * scale_B

    def _asked(self, requests: Requests) -> list[Scores]:
        """Make the user part; what scores items for each request."""
        if not len(requests):
            return []
        if self._fused is not None:
            return self._fused(requests)
        with threads(1):  # it is many small steps: a team waits longer for itself than it works
            users = self.scorer.users(requests, self.vector_IV, self.row_IX.dtype)
        return [partial(self._crossed, users.one(b)) for b in range(len(requests))]

    @cached_property
    def _fused(self) -> Callable[[Requests], list[Scores]] | None:
        if not isinstance(self.scorer, Fused):
            return None
        return self.scorer.fused(self.vector_IV, self.row_IX, self.bonus_I)

    @torch.inference_mode()
    def _crossed(self, one: Any, item_N: Array) -> Array:
        """Scores by the scorer's cross, ``CHUNK`` items at a time."""
        parts: list[Tensor] = []
        for item in torch.from_numpy(item_N).long().split(CHUNK):
            row_NX = self.row_IX.index_select(0, item)
            parts.append(self.scorer.cross(one, item, row_NX) + self.bonus_I[item])
        return torch.cat(parts).numpy()

    def _walk(
        self,
        asked: list[Scores],
        most: int,
        effort: Effort,
        exclude: Ragged | None,
        scale_B: Array,
        seeds: Ragged | None,
    ) -> Found:
        graph, rows = self.graph.graph, len(asked)
        search = partial(graph_search.search, graph, _by_row(asked), rows, most, effort)
        fast = [scores for scores in asked if isinstance(scores, attention_score.Scorer)]
        if len(fast) == rows:
            search = partial(graph_walk.search, graph, fast, most, effort)
        found = search(
            allowed=self._allowed_bits,
            exclude=_arrays(exclude),
            scale_B=scale_B,
            seeds=_arrays(seeds),
        )
        return found if isinstance(found, Found) else joined(found)

    def _direct(self, scores: Scores, most: int, exclude_X: Tensor | None) -> Found:
        """The best of the items that a request allows, all of them scored."""
        begun, item_N = time.perf_counter(), self._some
        if exclude_X is not None:
            item_N = item_N[~np.isin(item_N, exclude_X.numpy())]
        return best(torch.from_numpy(scores(item_N)), torch.from_numpy(item_N), most, begun)


def _by_row(asked: list[Scores]) -> graph_search.Score:
    """Scores of several requests, as the search of a graph asks for them."""

    def score(row_N: Array, item_N: Array) -> Array:
        cuts = np.flatnonzero(np.diff(row_N, prepend=-1, append=-1)).tolist()
        parts = [asked[row_N[a]](item_N[a:z]) for a, z in pairwise(cuts)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return score


def _arrays(rows: Ragged | None) -> tuple[Array, Array] | None:
    return None if rows is None else (rows.offsets.numpy(), rows.values.numpy())


def _row(exclude: Ragged | None, b: int) -> Tensor | None:
    return None if exclude is None else exclude[b]


def placed(scorer: Split[Any], vector_IV: Tensor, height_I: Tensor) -> Tensor:  # (I, P or P + 1)
    """Where items are linked: their places and, unless all are at 0, their height."""
    place_IP = scorer.places(vector_IV)
    if not bool(height_I.any()):
        return place_IP.contiguous()
    return torch.cat([place_IP, height_I.unsqueeze(1)], dim=1)


def _heights(place_IP: Tensor, bonus_I: Tensor) -> Tensor:  # (I,)
    """The bonus, as wide as ``HEIGHT`` of the places' spread in all their coordinates."""
    if len(bonus_I) < 2 or bool((bonus_I == bonus_I[0]).all()):
        return torch.zeros(len(bonus_I))
    spread = place_IP.var(0).sum().sqrt()
    return HEIGHT * spread * (bonus_I - bonus_I.mean()) / bonus_I.std()


def item_part(
    scorer: Split[Any], item_M: Tensor, dtype: torch.dtype, chunk: int = 16_384
) -> tuple[Tensor, Tensor]:
    """Vectors ``(M, V)`` and rows ``(M, X)`` of items, ``chunk`` at a time."""
    parts = [scorer.vectors(some) for some in item_M.split(chunk)]
    rows = [scorer.rows(vector).to(dtype) for vector in parts]
    return torch.cat(parts), torch.cat(rows)
