"""Everything that can be said about a world; the planted signals are in signals.py.

Strengths are log-odds: what an interest adds to the logit of a view.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from ..config import Config
from ..errors import suggest
from .presets import PRESETS
from .signals import Dwell, Interaction, LongTerm, NextItem, Order, Substitutes, Value


class CatalogueConfig(Config):
    """What is for sale."""

    items: int = Field(default=20_000, ge=2, le=2_000_000)
    """How many items."""
    tree: tuple[int, ...] = Field(default=(10, 5, 4), min_length=1, max_length=5)
    """Branches at each level of the category tree; the leaves are the log's categories."""
    category_skew: float = Field(default=0.5, ge=0, le=3)
    """Log-sd of the number of items in a category; 0 makes all alike."""
    dim: int = Field(default=16, ge=2, le=256)
    """Width of the latent item vectors."""
    spread: float = Field(default=0.6, ge=0, le=10)
    """Sd of items about the centre of their category; centres have sd 1."""
    zipf: float = Field(default=1.0, ge=0, le=2)
    """Exponent of popularity; ranks are assigned at random."""
    price_sd: float = Field(default=0.5, ge=0, le=3)
    """Log-sd of prices inside a category; as much again between categories."""
    bid_sd: float = Field(default=0.5, ge=0, le=3)
    """Log-sd of the items' bids for a click."""

    @property
    def categories(self) -> int:
        """The leaves of the tree."""
        return math.prod(self.tree)

    @model_validator(mode="after")
    def _fits(self) -> CatalogueConfig:
        if min(self.tree) < 1:
            raise ValueError(f"tree: every level needs a branch, got {self.tree}")
        if self.categories > self.items:
            raise ValueError(f"tree: {self.categories} categories for {self.items} items")
        return self


class PeopleConfig(Config):
    """Who comes, how often and for how long."""

    users: int = Field(default=2_000, ge=1, le=20_000_000)
    """How many users."""
    events_per_user: float = Field(default=250.0, gt=0, le=50_000)
    """Mean length of a history; nobody has more than 50,000, or less than a session."""
    activity_sd: float = Field(default=0.7, ge=0, le=3)
    """Log-sd of the length of a history; 0 gives every user the same."""
    days: int = Field(default=60, ge=1, le=3_650)
    """What the log spans."""
    start_ms: int = Field(default=1_672_531_200_000, ge=0)
    """Its first midnight, unix epoch; the default is 2023-01-01 UTC."""


class InterestConfig(Config):
    """What users want without any planted signal. Vectors meet by cosine."""

    count: int = Field(default=3, ge=1, le=16)
    """Lasting interests of a user; the one nearest to an item counts."""
    lasting: float = Field(default=2.0, ge=0, le=20)
    """Strength of lasting interests."""
    session: float = Field(default=3.0, ge=0, le=20)
    """Strength of what the user came for this time."""
    loyalty: float = Field(default=0.5, ge=0, le=1)
    """Share of sessions about a lasting interest."""
    seasonal: float = Field(default=1.0, ge=0, le=20)
    """Strength of an interest that comes and goes with the calendar."""
    season_days: float = Field(default=365.0, gt=0)
    """Length of the calendar's circle."""
    quality: float = Field(default=0.4, ge=0, le=20)
    """Strength of an item's own appeal to everybody, sd 1, partly known from its popularity."""
    price: float = Field(default=0.3, ge=0, le=20)
    """Strength of price times the user's sensitivity, mean 1."""


class SlateConfig(Config):
    """What the platform of the log shows, and how it is looked at."""

    size: int = Field(default=10, ge=1, le=200)
    """Items a page."""
    pages: int = Field(default=5, ge=0, le=200)
    """Feed pages a session; long_term and order add their own pages."""
    pool: int = Field(default=20, ge=1, le=1_000)
    """Candidates from which the feed picks a page, at least ``size``."""
    skill: float = Field(default=0.5, ge=0, le=20)
    """Weight of the true utility in the old ranker; the rest is noise."""
    lasting: float = Field(default=0.25, ge=0)
    """Share of candidates from the categories of lasting interests."""
    session: float = Field(default=0.4, ge=0)
    """... from the session's category."""
    seasonal: float = Field(default=0.1, ge=0)
    """... from the seasonal interest's category."""
    popular: float = Field(default=0.25, ge=0)
    """... from the whole catalogue, by popularity."""
    position_bias: float = Field(default=0.4, ge=0, le=5)
    """Place p is looked at with probability (1 + p)^-position_bias."""
    exposure_days: float | None = Field(default=None, gt=0)
    """Write requests and exposures of the last days only; default: all."""

    @model_validator(mode="after")
    def _fits(self) -> SlateConfig:
        if self.pool < self.size:
            raise ValueError(f"pool: {self.pool} candidates cannot fill a page of {self.size}")
        if self.lasting + self.session + self.seasonal + self.popular <= 0:
            raise ValueError("popular: all shares of candidates are 0; give one of them a share")
        return self


class FunnelConfig(Config):
    """How often a look becomes a view, and a view more. Defaults: Taobao UserBehavior's ratios."""

    view: float = Field(default=0.12, gt=0, lt=1)
    """Views an exposure, over the pages of the log and their positions."""
    cart: float = Field(default=5_292 / 85_774, gt=0, lt=1)
    """Carts a view."""
    favourite: float = Field(default=2_959 / 85_774, gt=0, lt=1)
    """Favourites a view."""
    buy: float = Field(default=2_144 / 85_774, gt=0, lt=1)
    """Purchases a view."""
    depth: float = Field(default=0.5, ge=0, le=5)
    """Weight of the view's utility in the later steps."""
    delay_minutes: float = Field(default=30.0, ge=0)
    """Mean time from view to purchase; what falls after the end of the log is not in it."""


class WorldConfig(Config):
    """A synthetic platform. ``preset`` fills in whatever is not given; default: a plain shop."""

    preset: str = "shop"
    """Where to start from; see presets.py."""
    seed: int = Field(default=0, ge=0)
    """Same seed, same world, same events, whatever the number of threads."""
    catalogue: CatalogueConfig = CatalogueConfig()
    """What is for sale."""
    people: PeopleConfig = PeopleConfig()
    """Who comes."""
    interests: InterestConfig = InterestConfig()
    """What they want."""
    slate: SlateConfig = SlateConfig()
    """What they are shown."""
    funnel: FunnelConfig = FunnelConfig()
    """What they do."""
    long_term: LongTerm = LongTerm()
    """Planted: evidence thousands of events back."""
    substitutes: Substitutes = Substitutes()
    """Planted: evidence in other categories."""
    order: Order = Order()
    """Planted: the order of events counts."""
    interaction: Interaction = Interaction()
    """Planted: pure user × item taste."""
    dwell: Dwell = Dwell()
    """Planted: a signal after the event."""
    value: Value = Value()
    """Planted: value spread across requests."""
    next_item: NextItem | None = None
    """Instead of pages and funnels: world W1."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        name = given.get("preset", "shop")
        if name not in PRESETS:
            raise ValueError(f"preset: no such preset {name!r}; {suggest(str(name), PRESETS)}")
        return _merge(PRESETS[name], given)

    @model_validator(mode="after")
    def _consistent(self) -> WorldConfig:
        categories, span = self.catalogue.categories, self.substitutes.span
        if categories % span:
            raise ValueError(
                f"substitutes.span: {categories} categories do not part into groups of {span}"
            )
        groups = categories // span
        if self.long_term.strength and self.long_term.ring > groups * 3 // 4:
            raise ValueError(
                f"long_term.ring: {self.long_term.ring} of {groups} leaves too little for the "
                f"other pages; want at most {groups * 3 // 4}, or a larger catalogue.tree"
            )
        if self.order.strength and self.order.steps + 2 > categories:
            raise ValueError(f"order.steps: want at most {categories - 2}, the categories less 2")
        if not (self.slate.pages or self.long_term.strength or self.order.strength):
            raise ValueError("slate.pages: 0, so nothing is shown; want at least 1")
        if self.interaction.strength and self.interaction.buckets > self.catalogue.items:
            raise ValueError("interaction.buckets: more than items")
        return self if self.next_item is None else self._check_next_item(self.next_item)

    def _check_next_item(self, w1: NextItem) -> WorldConfig:
        if w1.categories > self.catalogue.categories:
            raise ValueError(f"next_item.categories: there are {self.catalogue.categories}")
        if w1.neighbours >= self.catalogue.items:
            raise ValueError(f"next_item.neighbours: there are {self.catalogue.items} items")
        if w1.recent > w1.history:
            raise ValueError(f"next_item.recent: {w1.recent} of a history of {w1.history}")
        if w1.test_users > self.people.users:
            raise ValueError(f"next_item.test_users: there are {self.people.users} users")
        return self


def _merge(base: Any, over: Any) -> Any:
    """``over`` wins; tables merge key by key; arrays become tuples, as strict settings want."""
    if isinstance(over, Config):
        over = over.model_dump(exclude_unset=True)
    if isinstance(over, Mapping):
        merged: dict[str, Any] = {**base} if isinstance(base, Mapping) else {}
        for key, value in over.items():
            merged[key] = _merge(merged.get(key), value)
        return merged
    return tuple(over) if isinstance(over, list) else over
