"""A look-up that is under way while other work is done."""

from __future__ import annotations

from concurrent.futures import Future
from typing import final

import numpy as np

from .base import Array, BehaviorStore, Events


@final
class Ahead:
    """A store of which one look-up by category has begun: these keys cost no further trip."""

    def __init__(
        self,
        store: BehaviorStore,
        answer: Future[Events],
        user_P: Array,
        category_P: Array,
        before_P: Array,
        n: int,
    ) -> None:
        """``answer`` is that of ``store.by_category`` to the arguments that follow."""
        self._store, self._answer, self._n = store, answer, n
        self._row = {key: p for p, key in enumerate(_keys(user_P, category_P, before_P))}

    def latest(self, user_B: Array, before_B: Array, n: int, type_mask: int) -> Events:
        return self._store.latest(user_B, before_B, n, type_mask)

    def by_category(self, user_P: Array, category_P: Array, before_P: Array, n: int) -> Events:
        row_P = [self._row.get(key, -1) for key in _keys(user_P, category_P, before_P)]
        if n != self._n or -1 in row_P:
            return self._store.by_category(user_P, category_P, before_P, n)
        return self._answer.result().rows(np.array(row_P, np.int64))


def _keys(user_P: Array, category_P: Array, before_P: Array) -> list[tuple[int, int, int]]:
    return list(zip(user_P.tolist(), category_P.tolist(), before_P.tolist(), strict=True))
