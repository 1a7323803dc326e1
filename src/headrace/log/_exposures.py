"""What each group of requests was shown, as ragged columns: items ascend in a group."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..errors import DataError
from . import _order
from ._draft import Draft
from ._ids import codes, vocabulary
from ._order import Array
from .format import Log
from .raw import Notes

MAX_VALUES = 2**16  # an attribute's codes are uint16


def write(
    draft: Draft,
    exposures: pl.DataFrame | None,
    items: pl.DataFrame,
    vocab: dict[str, list[str]],
    old: Log | None,
    notes: Notes,
) -> tuple[int, tuple[str, ...], pl.DataFrame | None]:
    """Write old and new groups, old ones first.

    Returns how many groups there are, their attributes, and the row of each new group's key.
    """
    attributes = old.manifest.exposure if old else ()
    offsets = np.asarray(old.exposure("offsets") if old else np.zeros(1, np.int64))
    before = {c: np.asarray(old.exposure(c)) for c in ("item", *attributes)} if old else {}
    fresh: dict[str, Array] = {}
    keys = None
    if exposures is not None and exposures.height:
        names = exposures["group"].unique().sort()
        first = len(offsets) - 1
        keys = pl.DataFrame({"group": names, "row": np.arange(len(names), dtype=np.int32) + first})
        fresh, cuts = _encode(exposures, keys, items, vocab, notes)
        offsets = np.concatenate([offsets, offsets[-1] + cuts[1:]])
        attributes = tuple(dict.fromkeys((*attributes, *(c for c in fresh if c != "item"))))
    for name in ("item", *attributes):
        draft.array("exposures", name, _append(name, before, fresh))
    draft.array("exposures", "offsets", offsets)
    return len(offsets) - 1, attributes, keys


def _encode(
    exposures: pl.DataFrame,
    keys: pl.DataFrame,
    items: pl.DataFrame,
    vocab: dict[str, list[str]],
    notes: Notes,
) -> tuple[dict[str, Array], Array]:
    place = pl.DataFrame({"group": keys["group"]}).with_row_index("place")
    group = exposures.select("group").join(place, on="group", how="left", maintain_order="left")
    item = codes(exposures["item"], items, "item")
    least = np.zeros(len(item), np.uint8)
    order, offsets, repeats = _order.sort_rows(
        group["place"].to_numpy(), keys.height, item, item, least
    )
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
