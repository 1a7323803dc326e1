"""What users did: a store of events, read by user and by (user, category), as of a time."""

from .base import (
    EVERY_TYPE,
    BehaviorStore,
    Distant,
    Events,
    EventStore,
    Journaled,
    RawEvent,
    Receipt,
    StoreError,
    newest_ms,
)
from .mapped import MappedLog
from .overlay import Overlay

__all__ = [
    "EVERY_TYPE",
    "BehaviorStore",
    "Distant",
    "EventStore",
    "Events",
    "Journaled",
    "MappedLog",
    "Overlay",
    "RawEvent",
    "Receipt",
    "StoreError",
    "newest_ms",
]
