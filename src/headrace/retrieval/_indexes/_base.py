"""What an index is, and what indexes share.

B  queries    I  items, row 0 is none    D  vector width    K  items found a query
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import faiss as faiss_module
import torch
from torch import Tensor

from ...data import Candidates, Ragged
from ...errors import BundleError

faiss: Any = faiss_module  # its stubs lack what SWIG adds at run time


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


def shown(available_I: Tensor) -> Tensor:  # (I,) bool
    return available_I.clone().index_fill_(0, torch.zeros(1, dtype=torch.int64), False)


def kept(index: Any) -> Tensor:  # (N,) uint8
    """An index of Faiss as an array of a bundle."""
    return torch.from_numpy(faiss.serialize_index(index))


def taken_up(arrays: Mapping[str, Tensor], name: str) -> Any:
    """The index of Faiss that was kept under a name. Raises BundleError if it is damaged."""
    try:
        return faiss.deserialize_index(arrays[name].numpy())
    except (KeyError, RuntimeError) as error:
        raise BundleError(
            f"index: no {name} can be read from the bundle ({error}); train again"
        ) from None


def found(score_BK: Tensor, item_BK: Tensor) -> Candidates:
    """Rows of different lengths out of a search that marks what it did not find."""
    real_BK = score_BK.isfinite() & (item_BK > 0)
    if bool(real_BK.all()):
        item = Ragged.sized(item_BK.flatten(), torch.full((len(item_BK),), item_BK.shape[1]))
        return Candidates(item, scores={"score": score_BK.reshape(-1, 1)})
    item = Ragged.sized(item_BK[real_BK], real_BK.sum(1))
    return Candidates(item, scores={"score": score_BK[real_BK].unsqueeze(1)})


def without(all_found: Candidates, exclude: Ragged, most: int) -> Candidates:
    """At most ``most`` of each row, none excluded."""
    if len(exclude.values):
        all_found = all_found.take(torch.nonzero(~all_found.item_id.within(exclude))[:, 0])
    return all_found.first(torch.full((len(exclude),), most))
