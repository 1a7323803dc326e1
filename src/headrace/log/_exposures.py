"""What each group of requests was shown, as ragged columns: items ascend in a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ..errors import DataError
from . import _order
from ._draft import Draft
from ._ids import UNKNOWN_NAME, codes, vocabulary
from ._order import Array
from .format import NO_GROUP, Log
from .raw import Notes

MAX_VALUES = 2**16  # an attribute's codes are uint16


@dataclass(frozen=True)
class Groups:
    """Who was shown the same."""

    count: int  # of all groups, old ones first
    attributes: tuple[str, ...]  # what is known of an exposure beside its item
    first_new: int  # the number of the first new group
    new: pl.DataFrame  # keys of new groups as text, in order

    def numbers(self, keys: pl.Series) -> Array:  # (N,) int32
        """The group of each key, -1 where nothing is known to have been shown."""
        table = pl.concat([pl.DataFrame({"group": [UNKNOWN_NAME]}), self.new])
        code = codes(keys, table, "group") - np.int32(1)
        return np.where(code >= 0, code + np.int32(self.first_new), np.int32(NO_GROUP))


def write(
    draft: Draft,
    exposures: pl.DataFrame | None,
    items: pl.DataFrame,
    vocab: dict[str, list[str]],
    old: Log | None,
    notes: Notes,
) -> Groups:
    """Write what old and new groups were shown."""
    attributes = old.manifest.exposure if old else ()
    offsets = np.asarray(old.exposure("offsets") if old else np.zeros(1, np.int64))
    before = {c: np.asarray(old.exposure(c)) for c in ("item", *attributes)} if old else {}
    first, fresh, new = len(offsets) - 1, {}, pl.DataFrame(schema={"group": pl.String})
    if exposures is not None and exposures.height:
        new = exposures.select(pl.col("group").unique().sort().cast(pl.String))
        fresh, cuts = _encode(exposures, new, items, vocab, notes)
        offsets = np.concatenate([offsets, offsets[-1] + cuts[1:]])
        attributes = tuple(dict.fromkeys((*attributes, *(c for c in fresh if c != "item"))))
    for name in ("item", *attributes):
        draft.array("exposures", name, _append(name, before, fresh))
    draft.array("exposures", "offsets", offsets)
    return Groups(len(offsets) - 1, attributes, first, new)


def _encode(
    exposures: pl.DataFrame,
    groups: pl.DataFrame,
    items: pl.DataFrame,
    vocab: dict[str, list[str]],
    notes: Notes,
) -> tuple[dict[str, Array], Array]:
    group = codes(exposures["group"], groups, "group")
    item = codes(exposures["item"], items, "item")
    least = np.zeros(len(item), np.uint8)
    order, offsets, repeats = _order.sort_rows(group, groups.height, item, item, least)
    notes.add(repeats, "repeated exposures (same group and item) dropped")
    columns = {"item": _order.take(item, order)}
    for name in exposures.columns:
        if name not in {"group", "item"}:
            code = vocabulary(exposures[name], name, vocab)
            if len(vocab[name]) > MAX_VALUES:
                raise DataError(
                    f"exposures: column {name!r} has {len(vocab[name]):,} values, "
                    f"at most {MAX_VALUES:,}; leave it out or make it coarser"
                )
            columns[name] = _order.take(code.astype(np.uint16), order)
    return columns, offsets


def _append(name: str, before: dict[str, Array], fresh: dict[str, Array]) -> Array:
    """Old values, then new ones; a side without this attribute has code 0, the unknown."""
    dtype = np.int32 if name == "item" else np.uint16
    sides = [side.get(name, np.zeros(len(side["item"]), dtype)) for side in (before, fresh) if side]
    return np.concatenate(sides) if sides else np.zeros(0, dtype)
