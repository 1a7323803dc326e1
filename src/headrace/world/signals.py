"""The planted signals, each off by default, and world W1.

Strengths are log-odds: what a signal adds to, or takes from, the logit of a view.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..config import Config

Strength = Annotated[float, Field(ge=0, le=20)]


class LongTerm(Config):
    """Lasting tastes that show once in ``ring`` sessions: all evidence lies that far back.

    A user has a ring of categories. Session k ends with a page of the ring's (k mod ring)-th, and
    no other page shows them. The user likes or dislikes each, once and for all, by a fair coin.
    """

    strength: Strength = 0.0
    """Half the distance between liked and disliked."""
    ring: int = Field(default=64, ge=1)
    """Categories visited in turn; groups of them with substitutes."""
    styles: int = Field(default=1, ge=1, le=64)
    """Tastes in a category: each style of items has its own coin, the rest is noise."""
    lifetime_days: float | None = Field(default=None, gt=0)
    """A coin is tossed anew after so long, each at its own time; default: never."""


class Substitutes(Config):
    """Categories of different branches that serve the same need: near vectors, one taste."""

    span: int = Field(default=1, ge=1, le=64)
    """Categories that share a need; 1 is off. long_term shows another one at each visit."""


class Order(Config):
    """A session walks along a ring of categories, one page each; then both ends are offered.

    Which way it went is told by the order of the last views and by nothing else.
    """

    strength: Strength = 0.0
    """Half the distance between going on and turning back."""
    steps: int = Field(default=4, ge=2, le=50)
    """Pages of the walk."""


class Interaction(Config):
    """A taste of each user segment for each make of items that no sum of the two can express."""

    strength: Strength = 0.0
    """Half the distance between liked and disliked."""
    buckets: int = Field(default=32, ge=4, le=1_024, multiple_of=2)
    """Segments of users, and as many makes of items."""


class Dwell(Config):
    """Whether a view engages decides the purchase, and shows in the dwell time, after the event."""

    strength: Strength = 0.0
    """Half the distance between the logits of a purchase, engaged or not."""
    sharpness: float = Field(default=2.0, ge=0, le=20)
    """Weight of the view's utility in the logit of being engaged."""
    separation: float = Field(default=1.0, ge=0, le=5)
    """Half the distance of log dwell, engaged or not, in units of its sd."""


class Value(Config):
    """Requests of very different worth: some people, at some times, are about to buy."""

    spread: Strength = 0.0
    """Sd over requests of the logit of a purchase."""
    lasting: float = Field(default=0.5, ge=0, le=1)
    """Share of its variance that is the user's own (attribute ``tier``), not the session's."""


class NextItem(Config):
    """World W1: every user has a short history, and one target near a recent item of it."""

    history: int = Field(default=20, ge=1, le=50_000)
    """Items before the target."""
    categories: int = Field(default=3, ge=1)
    """Categories a user draws them from."""
    recent: int = Field(default=10, ge=1)
    """The target's seed is one of this many last items."""
    neighbours: int = Field(default=8, ge=1)
    """The target is one of so many items nearest to the seed."""
    popularity_power: float = Field(default=0.5, ge=0, le=2)
    """Items are drawn in proportion to this power of their popularity."""
    test_users: int = Field(default=1_000, ge=0)
    """The last users, marked ``split = test``; their targets come a day after all others."""
