"""What is for sale: a category tree, latent vectors, popularity, prices, bids; and draws of it.

Inside the package items, categories and users count from 0; in a log, and in everything public of
:class:`~headrace.world.World`, they count from 1, because row 0 of a log is the unknown one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .config import WorldConfig
from .jit import SOURCES, entry, leaf
from .rng import ALIAS, alias_draw, alias_table, mix

Array = NDArray[Any]

_QUALITY_FROM_POPULARITY = 0.5  # correlation
_SUBSTITUTE_SD = 0.3  # of centres that share a need, against 1 for strangers
_MEAN_LOG_PRICE = 2.7  # 15 in currency
_MEAN_LOG_BID = -1.2  # 0.30 in currency


#: What the kernels ask of an item, side by side in memory: it is a random place each time.
GOODS = np.dtype(
    [
        ("quality", np.float32),
        ("price_z", np.float32),  # log price within the category, standardised
        ("price", np.float32),
        ("category", np.int32),
        ("style", np.int32),
        ("make", np.int32),  # bucket of the planted interaction
    ]
)


class Shelf(NamedTuple):
    """The catalogue as the kernels read it. I items, C categories."""

    unit: Array  # (I, D) float32, latent vectors of length 1
    goods: Array  # (I,) records of GOODS
    root: Array  # (C,) int32, the top of the category's branch
    num_roots: int
    num_groups: int  # categories c and c + num_groups serve one need
    item_draw: Array  # (I,) records of ALIAS, a segment a category
    item_offsets: Array  # (C+1,) int64 into item_draw
    category_draw: Array  # (C,) records of ALIAS
    walk_ring: Array  # (C,) int32, the circle that planted walks follow


@leaf
def draw_in_category(shelf: Shelf, category: int, key: np.uint64) -> int:
    """Draw an item of a category by popularity."""
    low, high = shelf.item_offsets[category], shelf.item_offsets[category + 1]
    return alias_draw(shelf.item_draw, low, high, key)


@leaf
def draw_category(shelf: Shelf, key: np.uint64) -> int:
    """Draw a category by the popularity of all its items."""
    return alias_draw(shelf.category_draw, 0, shelf.category_draw.shape[0], key)


@leaf
def draw_item(shelf: Shelf, key: np.uint64) -> int:
    """Draw an item of the whole catalogue by popularity."""
    return draw_in_category(shelf, draw_category(shelf, key), mix(key, 1))


@entry
def draw_items(shelf: Shelf, keys: Array, sources: int = SOURCES) -> Array:
    """Draw an item for each key."""
    items = np.empty(keys.shape[0], np.int32)
    for i in range(keys.shape[0]):
        items[i] = draw_item(shelf, keys[i])
    return items


@dataclass(frozen=True)
class Catalogue:
    """The truth about items; arrays of (I,) count items from 0."""

    vector: Array  # (I, D) float32
    popularity: Array  # (I,) float64, sums to 1
    bid: Array  # (I,) float32
    shelf: Shelf

    @classmethod
    def make(cls, config: WorldConfig) -> Catalogue:
        """Draw the catalogue of a world."""
        c = config.catalogue
        rng = np.random.Generator(np.random.PCG64([config.seed, 1]))
        category = _categories(rng, c.items, c.categories, c.category_skew)
        style = rng.integers(config.long_term.styles, size=c.items, dtype=np.int32)
        vector = _vectors(rng, config, category, style)
        rank = rng.permutation(c.items)
        popularity = (rank + 1.0) ** -c.zipf
        popularity /= popularity.sum()
        price_z = rng.standard_normal(c.items)
        between = rng.standard_normal(c.categories)[category]
        price = np.exp(_MEAN_LOG_PRICE + c.price_sd * (between + price_z))
        bid = np.exp(_MEAN_LOG_BID + c.bid_sd * rng.standard_normal(c.items))
        item_at = np.argsort(category, kind="stable").astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(category, minlength=c.categories))])
        mass = np.bincount(category, popularity, minlength=c.categories)
        goods = np.zeros(c.items, GOODS)
        goods["category"], goods["style"] = category, style
        goods["make"] = _buckets(rng, rank, config.interaction.buckets)
        goods["quality"], goods["price_z"] = _quality(rng, rank), price_z
        goods["price"] = np.maximum(np.round(price, 2), 0.01)
        leaves_a_root = c.categories // c.tree[0]
        shelf = Shelf(
            unit=vector / np.linalg.norm(vector, axis=1, keepdims=True),
            goods=goods,
            root=np.arange(c.categories, dtype=np.int32) // np.int32(leaves_a_root),
            num_roots=c.tree[0],
            num_groups=c.categories // config.substitutes.span,
            item_draw=_alias(popularity[item_at], offsets, item_at),
            item_offsets=offsets,
            category_draw=_alias(mass, np.array([0, c.categories]), np.arange(c.categories)),
            walk_ring=rng.permutation(c.categories).astype(np.int32),
        )
        return cls(vector, popularity, bid.astype(np.float32), shelf)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The items of the raw log, one row an item, ids from 1."""
        shelf, goods = self.shelf, self.shelf.goods
        return pl.DataFrame(
            {
                "item": np.arange(1, len(goods) + 1, dtype=np.int32),
                "category": _numbered("c", len(shelf.root), goods["category"]),
                "department": _numbered("d", shelf.num_roots, shelf.root[goods["category"]]),
                "style": goods["style"].copy(),
                "make": goods["make"].copy(),
                "price": goods["price"].copy(),
                "bid": self.bid,
            }
        )


def named(names: Sequence[str], codes: Array) -> pl.Series:
    """A column of names by their places in ``names``."""
    return pl.Series(names, dtype=pl.Enum(names)).gather(codes)


def _numbered(letter: str, size: int, codes: Array) -> pl.Series:
    width = len(str(size))
    names = [f"{letter}{code + 1:0{width}d}" for code in range(size)]
    return named(names, codes).cast(pl.String)


def _categories(rng: np.random.Generator, items: int, categories: int, skew: float) -> Array:
    """A category for each item, none of them empty."""
    share = np.exp(skew * rng.standard_normal(categories))
    share *= (items - categories) / share.sum()
    size = 1 + np.floor(share).astype(np.int64)
    rest = np.argsort(share % 1, kind="stable")[::-1][: items - size.sum()]
    size[rest] += 1
    return rng.permutation(np.repeat(np.arange(categories, dtype=np.int32), size))


def _vectors(rng: np.random.Generator, config: WorldConfig, category: Array, style: Array) -> Array:
    """Item vectors: down the tree to the category's centre, to the style's, to the item."""
    c, span = config.catalogue, config.substitutes.span
    centre = np.zeros((1, c.dim))
    for branches in c.tree:
        step = rng.standard_normal((len(centre) * branches, c.dim)) / np.sqrt(len(c.tree))
        centre = np.repeat(centre, branches, axis=0) + step
    groups = len(centre) // span
    if span > 1:
        apart = _SUBSTITUTE_SD * rng.standard_normal(centre.shape)
        centre = np.tile(centre[:groups], (span, 1)) + apart
    item = rng.standard_normal((c.items, c.dim), dtype=np.float32)
    if config.long_term.styles > 1:
        styles = rng.standard_normal((groups, config.long_term.styles, c.dim))
        item = 0.8 * styles[category % groups, style] + 0.6 * item
    return (centre[category] + c.spread * item).astype(np.float32)


def _alias(weight: Array, offsets: Array, value: Array) -> Array:
    table = np.zeros(len(weight), ALIAS)
    alias_table(weight, offsets, value, table)
    return table


def _quality(rng: np.random.Generator, rank: Array) -> Array:
    known = -np.log(rank + 1.0)
    known = (known - known.mean()) / known.std()
    own = rng.standard_normal(len(rank))
    rho = _QUALITY_FROM_POPULARITY
    return (rho * known + np.sqrt(1 - rho**2) * own).astype(np.float32)


def _buckets(rng: np.random.Generator, rank: Array, buckets: int) -> Array:
    """Buckets of equal popularity: dealt out to and fro in the order of popularity."""
    lap, place = np.divmod(rank, buckets)
    place = np.where(lap % 2, buckets - 1 - place, place)
    return rng.permutation(buckets).astype(np.int32)[place]
