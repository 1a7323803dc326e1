"""A scorer taken apart, so that a whole catalogue can be searched under it.

  B  requests                          V  width of an item's vector
  n  items of a list, one a request    X  width of an item's row
  M  items                             I  items of the catalogue

Most of what a scorer computes needs the item alone, or the request alone. The item part is made
once a bundle, the user part once a request; along the graph only the cross of both is left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data import Requests


class Users(Protocol):
    """The user part of some requests: whatever their scorer's cross needs of them."""

    def one(self, b: int) -> Self:
        """That of request ``b`` alone, without a leading dimension."""
        ...


U = TypeVar("U", bound=Users)


class Split(Protocol[U]):
    """What can be searched: scorers whose parts these are.

    ``cross(users(requests, vectors), item, rows(vectors[item]))`` is the score, with vectors those
    of all items. A scorer need not be trained here; a trained one is searched as it is.
    """

    @property
    def reads_sequences(self) -> Collection[str] | None:
        """Sequences of requests that the user part reads; None is all."""
        ...

    def vectors(self, item_M: Tensor) -> Tensor:  # (M, V)
        """What the scorer knows of items, before it meets a request."""
        ...

    def places(self, vector_MV: Tensor) -> Tensor:  # (M, P)
        """Where the graph has items, which links what is near: as the cross tells them apart."""
        ...

    def rows(self, vector_MV: Tensor) -> Tensor:  # (M, X)
        """All that the cross reads of items. X may be 0, for a cross that looks items up itself."""
        ...

    def users(self, requests: Requests, vector_IV: Tensor, dtype: torch.dtype) -> U:
        """The user part; what the cross multiplies is of type ``dtype``, like the rows."""
        ...

    def cross(self, users: U, item: Tensor, row: Tensor) -> Tensor:
        """Scores, float32, the higher the better.

        ``item (B, n)`` and ``row (B, n, X)`` with the users of B requests, or ``(n,)`` and
        ``(n, X)`` with those of one.
        """
        ...


Scores = Callable[[NDArray[np.int32]], NDArray[np.float32]]
"""Of one request: ``item_N -> score_N``."""


@runtime_checkable
class Fused(Protocol):
    """A split scorer with kernels for the user part and for the cross in one pass."""

    def fused(
        self, vector_IV: Tensor, row_IX: Tensor, bonus_I: Tensor
    ) -> Callable[[Requests], list[Scores]]:
        """What makes scores for each request, of a catalogue with these parts.

        ``bonus_I`` is added. Weights are read here, once.
        """
        ...


class SplitModule(nn.Module, ABC, Generic[U]):
    """Abstract. A split scorer that is trained here."""

    reads_sequences: Collection[str] | None = None
    attends_to: str | None = None
    """A sequence of recent events near each of which good items may lie."""

    @abstractmethod
    def vectors(self, item_M: Tensor) -> Tensor:
        raise NotImplementedError

    def places(self, vector_MV: Tensor) -> Tensor:
        """The vectors themselves."""
        return vector_MV

    @abstractmethod
    def rows(self, vector_MV: Tensor) -> Tensor:
        raise NotImplementedError

    @abstractmethod
    def users(self, requests: Requests, vector_IV: Tensor, dtype: torch.dtype) -> U:
        raise NotImplementedError

    @abstractmethod
    def cross(self, users: U, item: Tensor, row: Tensor) -> Tensor:
        raise NotImplementedError

    @abstractmethod
    def batch(self, requests: Requests, item_BN: Tensor) -> tuple[U, Tensor, Tensor]:
        """The user part of a batch, and vectors of items with their place in it, with gradients.

        Vectors ``(M, V)`` of distinct items; ``(B, n)``, which of them is whose.
        """
        raise NotImplementedError

    def freeze(self) -> None:
        """Leave training for good."""
        self.eval()
