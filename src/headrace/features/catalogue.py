"""Every item that could be shown, by its row in the log's item table. Row 0 is no item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Catalogue:
    """Columns over the items. A change makes a new catalogue; nothing is edited in place."""

    features: Mapping[str, Tensor]  # item-side feature -> (I,) int64 ids
    columns: Mapping[str, Tensor]  # numbers for the value formula: price, bid, ... (I,) float32
    category: Tensor  # (I,) int64
    available: Tensor  # (I,) bool; false on row 0 and on withdrawn items
    vectors: Tensor | None = None  # (I, D) float32, for similarity in re-ranking

    def __len__(self) -> int:
        return self.category.shape[0]

    @cached_property
    def whole(self) -> bool:
        """Whether every item is available."""
        return bool(self.available[1:].all())

    def withdraw(self, items: Tensor, *, available: bool = False) -> Catalogue:
        """Take items off sale, or back on."""
        flags = self.available.clone()
        flags[items] = available
        flags[0] = False
        return replace(self, available=flags)

    def reprice(self, column: str, items: Tensor, numbers: Tensor) -> Catalogue:
        """Set new prices or bids."""
        values = self.columns[column].clone()
        values[items] = numbers.to(values.dtype)
        return replace(self, columns={**self.columns, column: values})

    def rows(self, items: Tensor, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Number columns of some items, for the value formula."""
        return {name: self.columns[name][items] for name in names}

    @classmethod
    def plain(cls, category: Tensor, price: Tensor | None = None) -> Catalogue:
        """A catalogue with nothing but categories and prices, for tests and small uses."""
        size = category.shape[0]
        available = torch.ones(size, dtype=torch.bool)
        available[0] = False
        prices = torch.ones(size) if price is None else price
        return cls({"item": torch.arange(size)}, {"price": prices}, category, available)
