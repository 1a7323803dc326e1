"""What goes over the wire: requests, checked strictly by pydantic, and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

LATEST_MS = 2**53  # JSON numbers are exact up to here


def _as_text(raw: Any) -> Any:
    """Ids may be given as integers: 17 is the id "17"."""
    return str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw


def _is_unicode(text: str) -> str:
    """Refuse halves of surrogate pairs, which JSON can say and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid Unicode; half of a surrogate pair") from None
    return text


Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_is_unicode)]
Id = Annotated[
    Text,
    BeforeValidator(_as_text),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": 256}, {"type": "integer"}]}),
]
TimeMs = Annotated[int, Field(ge=0, le=LATEST_MS)]


class Wire(BaseModel):
    """Base of all requests: frozen, strict, closed to unknown fields and to NaN."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class PastEvent(Wire):
    """One event of an anonymous visitor's history."""

    item: Id
    type: str | None = None
    """Event type. It may be left out if the log has only one."""
    time_ms: TimeMs | None = None
    """When. Without it, just before the request, in the order given."""
    value: float = 0.0
    """Money paid, a rating, seconds stayed: whatever it is in the log."""


class Filters(Wire):
    """Which items may be shown."""

    exclude: list[Id] = []
    """Items to leave out."""
    new_to_user: bool = False
    """Leave out what the user ever took."""
    categories: list[str] | None = None
    """Only these categories."""
    not_categories: list[str] = []
    """None of these categories."""
    price_max: float | None = Field(default=None, ge=0)
    """Nothing above this price."""


class Ask(Wire):
    """One request for a slate."""

    user: Id | None = None
    """Who asks. Without it the visitor is anonymous."""
    history: list[PastEvent] | None = None
    """What an anonymous visitor did, oldest first. Events of users go to /v1/events."""
    k: int | None = Field(default=None, ge=1)
    """Length of the slate. Default: as configured."""
    context: Mapping[str, str | int | float] = {}
    """Context columns of the log, such as store or device. Default: those of the user's last
    request."""
    filters: Filters = Field(default_factory=Filters)  # a default that is an object is copied
    """Which items may be shown."""
    explain: bool = False
    """Tell which channels found each item, at which rank."""
    time_ms: TimeMs | None = None
    """As of when. Default: now, and after all events of the user."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user": "1", "k": 5, "explain": True},
                {"history": [{"item": "25671"}], "filters": {"price_max": 5.0}},
            ]
        }
    )


class AskBatch(Wire):
    """Several requests, answered together."""

    requests: list[Ask] = Field(min_length=1)


class Event(Wire):
    """Something that a user did."""

    event_id: Text
    """Your own id of it: sent again, it counts once."""
    user: Id
    """Who. A user not seen before is new from now on."""
    item: Id
    type: str
    """An event type of the log."""
    time_ms: TimeMs | None = None
    """When. Default: now."""
    value: float = 0.0
    """Money paid, a rating, seconds stayed: whatever it is in the log."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            "examples": [{"event_id": "a1", "user": "1", "item": "25671", "type": "buy"}]
        }
    )


class Events(Wire):
    """Several events, kept all together or not at all."""

    events: list[Event] = Field(min_length=1)


def _one_or_many(body: Any) -> str:
    return "many" if isinstance(body, dict) and "events" in body else "one"


OneOrMany = Annotated[
    Annotated[Event, Tag("one")] | Annotated[Events, Tag("many")], Discriminator(_one_or_many)
]


class Change(Wire):
    """What is new about an item, from now on and after a restart."""

    available: bool | None = None
    """false withdraws it, true puts it back on sale."""
    numbers: Mapping[str, Annotated[float, Field(ge=0)]] = {}
    """New numbers for the value formula, such as price or bid, by column of the items."""

    @model_validator(mode="after")
    def _says_something(self) -> Change:
        if self.available is None and not self.numbers:
            raise ValueError("nothing to change; give available, numbers or both")
        return self

    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={"examples": [{"available": False}, {"numbers": {"price": 1.99}}]}
    )


@dataclass(frozen=True, slots=True)
class Found:
    """Where a channel had an item."""

    rank: int  # 1 is best
    score: float  # by the channel's own measure


@dataclass(frozen=True, slots=True)
class Item:
    """One place of a slate."""

    item: str
    name: str | None
    category: str
    price: float | None
    value: float  # by the value formula
    scores: Mapping[str, float]  # by stage, and p_<task> for every task, calibrated
    found_by: Mapping[str, Found] = field(default_factory=dict[str, Found])  # if explained


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to one request."""

    user: str | None
    user_known: bool  # by the log or by events
    time_ms: int
    version: str  # of the bundle
    items: list[Item]  # best first
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Recommendations:
    """The answers to a batch, in its order."""

    answers: list[Recommendation]


@dataclass(frozen=True, slots=True)
class ItemState:
    """How an item stands."""

    item: str
    available: bool
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, where, and what to do."""

    code: str
    message: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Every answer that is not 2xx."""

    error: Problem
