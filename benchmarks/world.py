"""How fast a world lives: 20 M events of 1 M items, and what it takes to write them as a log.

``seconds`` is for drawing the world and its events (compilation apart, as it is cached),
``write_s`` for turning them into a log on disk; ``headrace simulate`` does both.

    python -m benchmarks.world [--events 20000000] [--items 1000000] [--users 20000]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._common import apart, finish, parser, peak_rss_mb
from headrace.log import write_log
from headrace.world import World


def config(events: int, items: int, users: int) -> World.Config:
    """The preset ``large`` at other sizes."""
    return World.Config.model_validate(
        {
            "preset": "large",
            "catalogue": {"items": items},
            "people": {"users": users, "events_per_user": events / users},
        }
    )


def measure(events: int, items: int, users: int) -> dict[str, Any]:
    """Generate and write once."""
    World(config(10_000, 10_000, 100)).raw_log()  # compile
    start, cpu = time.perf_counter(), time.process_time()
    raw = World(config(events, items, users)).raw_log()
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    peak_mb = peak_rss_mb()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(Path(folder) / "log", raw, "benchmark")
        write_s = time.perf_counter() - start
    return {
        "events_per_s": round(raw.events.height / seconds),
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),  # both threads; what the wall takes of it depends on the load
        "peak_rss_mb": peak_mb,
        "events": log.manifest.num_events,
        "users": users,
        "items": items,
        "exposures": 0 if raw.exposures is None else raw.exposures.height,
        "write_s": round(write_s, 1),
        "write_peak_rss_mb": peak_rss_mb(),
    }


def main() -> None:
    """Measure in a process of its own, and print one JSON line."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=20_000_000)
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--users", type=int, default=20_000)
    given = options.parse_args()
    figures = apart(measure, given.events, given.items, given.users)
    finish("world", figures, save=given.save)


if __name__ == "__main__":
    main()
