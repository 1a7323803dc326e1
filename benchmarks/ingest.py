"""How fast raw events become a log, how much memory that takes, and how large the log is.

Events are generated into Parquet files in the order of time, as they would arrive, and ingested
through the ``table`` source: reading, numbering, sorting, both orders, hashing and syncing to disk
are in the time, making the data and compiling the kernels are not.

    python -m benchmarks.ingest [--events 20000000]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._common import apart, finish, parser, peak_rss_mb
from headrace.log import ingest
from headrace.log.sources.table import Events, Items, Table

EVENTS_PER_USER = 200
ITEMS = 200_000
CATEGORIES = 1_000
TYPES = ("view", "cart", "favourite", "buy")
SHARES = (0.892, 0.055, 0.031, 0.022)  # of Taobao's events
FIRST_MS, DAYS, DAY_MS = 1_700_000_000_000, 90, 86_400_000
CHUNK = 5_000_000


def generate(folder: Path, num_events: int, seed: int) -> None:
    """Write items, 90 days of events, and one later day of 1 % as many."""
    rng = np.random.default_rng(seed)
    num_users = max(1, num_events // EVENTS_PER_USER)
    activity = np.cumsum(rng.lognormal(0, 1, num_users))
    popularity = np.cumsum(1 / np.arange(1, ITEMS + 1))  # Zipf
    ids = rng.permutation(ITEMS * 10)[:ITEMS]

    def write(file: Path, size: int, start_ms: float, span_ms: float) -> None:
        pl.DataFrame(
            {
                "user": np.searchsorted(activity, rng.random(size) * activity[-1]) * 7,
                "item": ids[np.searchsorted(popularity, rng.random(size) * popularity[-1])],
                "time": np.sort((start_ms + rng.random(size) * span_ms).astype(np.int64)),
                "type": pl.Series(TYPES).gather(rng.choice(len(TYPES), size, p=SHARES)),
                "value": rng.gamma(2, 10, size).astype(np.float32),
            }
        ).write_parquet(file)

    (folder / "events").mkdir()
    chunks = -(-num_events // CHUNK)
    span = DAYS * DAY_MS / chunks
    for c in range(chunks):
        size = min(CHUNK, num_events - c * CHUNK)
        write(folder / "events" / f"{c:04}.parquet", size, FIRST_MS + c * span, span)
    write(folder / "later.parquet", max(1, num_events // 100), FIRST_MS + DAYS * DAY_MS, DAY_MS)
    pl.DataFrame(
        {
            "item": ids,
            "category": rng.integers(0, CATEGORIES, ITEMS),
            "price": rng.gamma(2, 10, ITEMS),
        }
    ).write_parquet(folder / "items.parquet")


def source(folder: Path, events: str) -> Table:
    """The generated data as a user would describe them."""
    return Table(
        Table.Config(
            events=Events(path=folder / events, time_unit="ms", type="type", value="value"),
            items=Items(path=folder / "items.parquet", category="category", price="price"),
        )
    )


def measure(folder: Path) -> dict[str, Any]:
    """Ingest, then append the later day."""
    started, worked = time.perf_counter(), time.process_time()
    log, _ = ingest(source(folder, "events"), folder / "log")
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    peak = peak_rss_mb()
    num_events = log.manifest.num_events
    size = sum(file.stat().st_size for file in log.path.rglob("*") if file.is_file())
    started = time.perf_counter()
    later, _ = ingest(source(folder, "later.parquet"), folder / "log", append=True)
    return {
        "events": num_events,
        "users": log.manifest.num_users - 1,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),  # what it costs, were others working or not
        "events_per_s": round(num_events / seconds),
        "bytes_per_event": round(size / num_events, 1),
        "peak_rss_mb": peak,
        "appended_events": later.manifest.num_events - num_events,
        "append_seconds": round(time.perf_counter() - started, 2),
    }


def warm(folder: Path) -> None:
    """Compile the kernels, which then are on disk for all processes to come."""
    generate(folder, 1_000, seed=1)
    measure(folder)


def main() -> None:
    """Generate, ingest and append, each in a process of its own."""
    command = parser(__doc__)
    command.add_argument("--events", type=int, default=20_000_000)
    asked = command.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for part in ("warm", "data"):
            (Path(folder) / part).mkdir()
        apart(warm, Path(folder) / "warm")
        apart(generate, Path(folder) / "data", asked.events, 0)
        figures = apart(measure, Path(folder) / "data")
    finish("ingest", figures, save=asked.save)


if __name__ == "__main__":
    main()
