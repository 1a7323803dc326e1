"""What users did: a store of events, read by user and by (user, category), as of a time."""

from .base import EVERY_TYPE, BehaviorStore, Events
from .mapped import MappedLog

__all__ = ["EVERY_TYPE", "BehaviorStore", "Events", "MappedLog"]
