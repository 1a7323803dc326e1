"""Rows of raw ids in a table of the log."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[Any]


@final
class RawIds:
    """Finds the rows of ids in their alphabetical order; what is not there has row 0.

    Beside the text of the ids it takes 24 bytes an id, where a dict would take a hundred.
    """

    def __init__(self, ids: pl.Series) -> None:
        """Index a column of distinct ids without null, the unknown one in row 0."""
        self.ids = ids.cast(pl.String)
        self._order = self.ids.arg_sort().to_numpy().astype(np.int64)
        self._sorted = self.ids.gather(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def row(self, raw: str) -> int:
        """The row of one id; without the arrays of ``rows``, since every request asks for one."""
        at = bisect_left(range(len(self)), raw, key=self._sorted.__getitem__)
        return int(self._order[at]) if at < len(self) and self._sorted[at] == raw else 0

    def rows(self, raw: Sequence[str]) -> Array:
        """The row of each id, ``(n,) int64``."""
        if not raw:
            return np.zeros(0, np.int64)
        wanted = pl.Series(raw, dtype=pl.String)
        at = self._sorted.search_sorted(wanted).to_numpy()
        near = np.minimum(at, len(self) - 1)
        same = (self._sorted.gather(near) == wanted).to_numpy()
        return np.where(same, self._order[near], 0)
