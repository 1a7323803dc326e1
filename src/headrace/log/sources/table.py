"""Your own Parquet or CSV files, by the names of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, final

import polars as pl

from ...config import Config as Settings
from ..raw import RawLog
from ._base import PEEK, FileSource, TimeUnit, find_files, read_table


class Events(Settings):
    """What users did. A row is one event."""

    path: Path
    """A Parquet, CSV or TSV file, or a folder of such files of one shape."""
    user: str = "user"
    """Column of the user's id: integers or text. Ids in CSV are text: 007 stays 007."""
    item: str = "item"
    """Column of the item's id."""
    time: str = "time"
    """Column of the time."""
    time_unit: TimeUnit = "s"
    """s, ms or us since 1970 for numbers; datetime for dates, and for text such as
    2024-12-31T23:59:59Z. A time without a zone is UTC."""
    type: str | None = None
    """Column of the event's type, such as view or buy."""
    type_name: str = "event"
    """What every event is, when there is no such column."""
    value: str | None = None
    """Column of a number: money paid, a rating, seconds stayed."""
    request: str | None = None
    """Column of the request's key, if requests are listed."""


class Items(Settings):
    """What can be recommended. A row is one item; items that only occur in events need none."""

    path: Path
    """A file or folder, as for events."""
    item: str = "item"
    """Column of the item's id."""
    category: str | None = None
    """Column of the category: its name or number. Histories are searched by it."""
    price: str | None = None
    """Column of the price."""
    attributes: tuple[str, ...] | None = None
    """Further columns to keep for features. Default: all."""


class Users(Settings):
    """Who they are. A row is one user; users that only occur in events need none."""

    path: Path
    """A file or folder, as for events."""
    user: str = "user"
    """Column of the user's id."""
    attributes: tuple[str, ...] | None = None
    """Further columns to keep for features. Default: all."""


class Requests(Settings):
    """When users came, and in what context. Default: events of one user at one time are one."""

    path: Path
    """A file or folder, as for events."""
    request: str | None = None
    """Column of the key that events name. Default: they are matched by user and time."""
    user: str = "user"
    """Column of the user's id."""
    time: str = "time"
    """Column of the time."""
    time_unit: TimeUnit = "s"
    """As for events."""
    group: str | None = None
    """Column of the key of what was shown, if exposures are listed."""
    context: tuple[str, ...] | None = None
    """Further columns to keep for features, such as store or device. Default: all."""


class Exposures(Settings):
    """What was shown. A row is one item shown to all requests of one group."""

    path: Path
    """A file or folder, as for events."""
    group: str = "group"
    """Column of the key that requests name."""
    item: str = "item"
    """Column of the item's id."""
    attributes: tuple[str, ...] | None = None
    """Further columns to keep, such as position or banner. Default: all."""


@final
class Table(FileSource):
    """Reads events, and where they are given items, users, requests and exposures."""

    class Config(Settings):
        """Which files, and which of their columns is what."""

        kind: Literal["table"] = "table"
        events: Events
        """What users did."""
        items: Items | None = None
        """What can be recommended."""
        users: Users | None = None
        """Who they are."""
        requests: Requests | None = None
        """When they came."""
        exposures: Exposures | None = None
        """What they were shown."""
        event_types: tuple[str, ...] = ()
        """Types in the order of their codes; others follow by name."""

        def build(self) -> Table:
            """Make the source."""
            return Table(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config

    def files(self) -> Sequence[Path]:
        c = self.config
        tables = (c.events, c.items, c.users, c.requests, c.exposures)
        return [file for t in tables if t is not None for file in find_files(t.path)]

    def read(self) -> RawLog:
        c = self.config
        return RawLog(
            events=_events(c.events),
            items=_items(c.items) if c.items else None,
            users=_users(c.users) if c.users else None,
            requests=_requests(c.requests) if c.requests else None,
            exposures=_exposures(c.exposures) if c.exposures else None,
            event_types=c.event_types,
        )


def _events(events: Events) -> pl.DataFrame:
    table = read_table(
        events.path,
        ids={"user": events.user, "item": events.item, "request": events.request},
        names={"type": events.type},
        numbers={"value": events.value},
        time=events.time,
        time_unit=events.time_unit,
        peek=PEEK,  # events may be many, and only the time's type is to be guessed
    )
    if events.type is None:
        table = table.with_columns(pl.lit(events.type_name, pl.Categorical).alias("type"))
    return table


def _items(items: Items) -> pl.DataFrame:
    return read_table(
        items.path,
        ids={"item": items.item, "category": items.category},
        numbers={"price": items.price},
        others=items.attributes,
    )


def _users(users: Users) -> pl.DataFrame:
    return read_table(users.path, ids={"user": users.user}, others=users.attributes)


def _requests(requests: Requests) -> pl.DataFrame:
    return read_table(
        requests.path,
        ids={"request": requests.request, "user": requests.user, "group": requests.group},
        time=requests.time,
        time_unit=requests.time_unit,
        others=requests.context,
    )


def _exposures(exposures: Exposures) -> pl.DataFrame:
    return read_table(
        exposures.path,
        ids={"group": exposures.group, "item": exposures.item},
        others=exposures.attributes,
    )
