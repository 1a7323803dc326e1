"""What users did: a store of events, read by user and by (user, category), as of a time."""

from .base import EVERY_TYPE, BehaviorStore, Events
from .live import LiveStore, RawEvent, Receipt, export
from .mapped import MappedLog
from .overlay import Overlay, Tail

__all__ = [
    "EVERY_TYPE",
    "BehaviorStore",
    "Events",
    "LiveStore",
    "MappedLog",
    "Overlay",
    "RawEvent",
    "Receipt",
    "Tail",
    "export",
]
