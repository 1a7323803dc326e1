"""Worlds to start from. Each is what it changes against the plain shop; your own settings win.

The planted ones are silent but for their signal: no tastes, no quality, no prices to please.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

_SILENT: Settings = {
    "interests": {"lasting": 0.0, "session": 0.0, "seasonal": 0.0, "quality": 0.0, "price": 0.0}
}

# A session is 20 feed pages and one page of the ring, about 47 events: one round of the ring is
# 5,600 events, and the evidence for a page lies at least one round back.
_LONG_TERM: Settings = {
    "catalogue": {"items": 20_000, "tree": (16, 16), "zipf": 0.7},
    "people": {"users": 500, "events_per_user": 17_000.0, "activity_sd": 0.0, "days": 180},
    "interests": {
        "lasting": 0.0,
        "session": 2.0,
        "loyalty": 0.0,
        "seasonal": 0.0,
        "quality": 0.0,
        "price": 0.0,
    },
    "slate": {"pages": 20, "pool": 10, "skill": 0.0, "lasting": 0.0, "seasonal": 0.0},
    "funnel": {"view": 0.2, "delay_minutes": 5.0},
    "long_term": {"strength": 1.2, "ring": 120},
}

PRESETS: Mapping[str, Settings] = {
    # an ordinary platform, nothing planted
    "shop": {},
    # retrieval.md §0.2
    "w1": {
        "catalogue": {
            "items": 4_096,
            "tree": (64,),
            "category_skew": 0.0,
            "dim": 12,
            "spread": 0.6,
            "zipf": 1.0,
        },
        "people": {"users": 81_000},
        "next_item": {},
    },
    # a million items, 20 M events
    "large": {
        "catalogue": {"items": 1_000_000, "tree": (20, 10, 10)},
        "people": {"users": 20_000, "events_per_user": 1_000.0},
        "slate": {"exposure_days": 2.0},
    },
    # evidence thousands of events back, in the same category
    "long_term": _LONG_TERM,
    # ... of which only items of the same style tell
    "styles": {**_LONG_TERM, "long_term": {"strength": 1.2, "ring": 120, "styles": 4}},
    # ... in other categories that serve the same need; the own one not shown before. A round is
    # 4,600 events, and there are not quite four of them
    "substitutes": {
        **_LONG_TERM,
        "catalogue": {"items": 20_000, "tree": (8, 24), "category_skew": 0.2, "zipf": 0.7},
        "slate": {"pages": 60, "pool": 10, "skill": 0.0, "lasting": 0.0, "seasonal": 0.0},
        "long_term": {"strength": 1.2, "ring": 36},
        "substitutes": {"span": 4},
    },
    # ... that grows stale: nine rounds of 1,900 events, of which the last three or so still hold
    "decay": {**_LONG_TERM, "long_term": {"strength": 1.2, "ring": 40, "lifetime_days": 60.0}},
    "order": {
        **_SILENT,
        "catalogue": {"items": 2_000, "tree": (40,)},
        "people": {"users": 2_000, "events_per_user": 300.0, "activity_sd": 0.0},
        "slate": {"pages": 0},
        "funnel": {"view": 0.25, "delay_minutes": 1.0},
        "order": {"strength": 1.5},
    },
    "interaction": {
        **_SILENT,
        "catalogue": {"items": 2_000, "zipf": 0.3},
        "people": {"users": 2_000, "activity_sd": 0.0},
        "slate": {"skill": 0.0, "popular": 1.0, "lasting": 0.0, "session": 0.0, "seasonal": 0.0},
        "interaction": {"strength": 1.2},
    },
    "dwell": {"funnel": {"buy": 0.1}, "dwell": {"strength": 1.5}},
    "value": {"value": {"spread": 1.5}},
}
