"""How fast a world lives: 20 M events of 1 M items, generated and written as a log.

    python -m benchmarks.world [--events 20000000] [--items 1000000] [--users 20000] [--save]

``seconds`` is for making the world and its events (compilation apart), ``write_s`` for turning them
into a log on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

from headrace.log import write_log
from headrace.world import World

RESULT = Path(__file__).parent / "results" / "world.json"


def config(events: int, items: int, users: int) -> World.Config:
    """The preset ``large`` at other sizes."""
    return World.Config.model_validate(
        {
            "preset": "large",
            "catalogue": {"items": items},
            "people": {"users": users, "events_per_user": events / users},
        }
    )


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--save", action="store_true", help=f"also write {RESULT.name}")
    options = parser.parse_args()

    World(config(10_000, 10_000, 100)).raw_log()  # compile
    start = time.perf_counter()
    raw = World(config(options.events, options.items, options.users)).raw_log()
    seconds = time.perf_counter() - start
    peak_mb = _peak_rss_mb()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log = write_log(Path(folder), raw, "benchmark")
    line = json.dumps(
        {
            "events_per_s": round(raw.events.height / seconds),
            "seconds": round(seconds, 1),
            "peak_rss_mb": peak_mb,
            "events": raw.events.height,
            "users": options.users,
            "items": options.items,
            "exposures": 0 if raw.exposures is None else raw.exposures.height,
            "write_s": round(time.perf_counter() - start, 1),
            "write_peak_rss_mb": _peak_rss_mb(),
            "events_in_log": log.manifest.num_events,
            "cpu_count": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
    )
    if options.save:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(line + "\n")
    print(line)


def _peak_rss_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
