"""How fast the lifelong behaviour store is: embedded, and Redis on loopback.

    python -m benchmarks.store [--users 1000] [--events 10000] [--save]

Histories of 10,000 events a user are loaded: embedded, they are the log; in Redis, what its caps
leave of them. Then 200,000 events are appended in batches of 1,000, each on disk before the next
(Redis: in the append-only file, synced every second as is its default), and 2,000 requests are
timed over both: 50 (user, category) pairs of a random user, each capped at 100 events. ``loaded_``
is the same before anything was appended; ``later_append_per_s`` is over tails of 200 events a user.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._common import apart, finish, parser
from headrace.behavior import EventStore, RawEvent
from headrace.behavior.stores.local import LocalStore
from headrace.behavior.stores.redis import RedisStore
from headrace.log import Log, RawLog, write_log

CATEGORIES, ITEMS = 80, 100_000
PAIRS, CAP, KEEP = 50, 100, 200
BATCH, BATCHES, QUERIES = 1_000, 200, 2_000
FIRST_MS, SPAN_MS = 1_700_000_000_000, 180 * 86_400_000
SERVERS = ("redis-server", "valkey-server")


def write(folder: Path, users: int, events: int) -> None:
    """A log of uniform behaviour: every user in every category."""
    rng = np.random.default_rng(0)
    size = users * events
    raw = RawLog(
        events=pl.DataFrame(
            {
                "user": np.repeat(np.arange(users), events),
                "item": rng.integers(0, ITEMS, size),
                "time_ms": FIRST_MS + rng.integers(0, SPAN_MS, size),
            }
        ),
        items=pl.DataFrame({"item": np.arange(ITEMS), "category": np.arange(ITEMS) % CATEGORIES}),
        event_types=("view",),
    )
    write_log(folder, raw, "benchmark")


def batches(users: int, seed: int) -> list[list[RawEvent]]:
    """Events of users at random, later than all before."""
    rng = np.random.default_rng(seed)
    start = FIRST_MS + SPAN_MS * (1 + seed)
    return [
        [
            RawEvent(f"{seed}-{b}-{i}", str(u), str(item), "view", start + b * BATCH + i, 1.0)
            for i, (u, item) in enumerate(
                zip(
                    rng.integers(0, users, BATCH).tolist(),
                    rng.integers(0, ITEMS, BATCH).tolist(),
                    strict=True,
                )
            )
        ]
        for b in range(BATCHES)
    ]


def append_per_s(store: EventStore, given: Sequence[Sequence[RawEvent]]) -> int:
    """Append batch by batch."""
    start = time.perf_counter()
    for batch in given:
        (receipt,) = store.append([batch])
        assert receipt.accepted == len(batch)
    return round(BATCH * len(given) / (time.perf_counter() - start))


def query_ms(store: EventStore, users: int) -> tuple[float, float]:
    """Median and 99th percentile of a request."""
    rng = np.random.default_rng(1)
    before_P = np.full(PAIRS, 2**60)
    spent: list[float] = []
    for _ in range(QUERIES + 50):
        user_P = np.full(PAIRS, rng.integers(1, users + 1))
        category_P = 1 + rng.permutation(CATEGORIES)[:PAIRS]
        start = time.perf_counter()
        events = store.by_category(user_P, category_P, before_P, CAP)
        spent.append((time.perf_counter() - start) * 1e3)
        assert len(events) > PAIRS
    p50, p99 = np.quantile(spent[50:], [0.5, 0.99])  # the first compile and fill caches
    return round(float(p50), 3), round(float(p99), 3)


def measure(store: EventStore, users: int) -> dict[str, Any]:
    """All figures of one store but its size."""
    loaded = query_ms(store, users)
    first = append_per_s(store, batches(users, 0))
    p50, p99 = query_ms(store, users)
    second = append_per_s(store, batches(users, 1))
    return {
        "query_p50_ms": p50,
        "query_p99_ms": p99,
        "append_per_s": first,
        "loaded_query_p50_ms": loaded[0],
        "loaded_query_p99_ms": loaded[1],
        "later_append_per_s": second,
        "degraded": sum(store.degraded.values()),
    }


def embedded(folder: Path, users: int) -> dict[str, Any]:
    """The local store."""
    log = Log.open(folder / "log")
    store = LocalStore.Config().build(log, folder, KEEP, writable=True)
    figures = measure(store, users)
    parts = [file for part in ("events", "by_category") for file in (log.path / part).iterdir()]
    size = sum(file.stat().st_size for file in parts)
    facts = store.stats()
    store.close()
    return figures | {
        "bytes_per_event": round(size / log.manifest.num_events, 1),
        "appended_bytes_per_event": round(facts["file_bytes"] / facts["events"], 1),
        "journal_bytes_per_event": round(facts["journal_bytes"] / facts["events"], 1),
    }


def shared(folder: Path, users: int) -> dict[str, Any]:
    """Redis, loaded with the same histories."""
    log = Log.open(folder / "log")
    with redis_server(folder) as url:
        config = RedisStore.Config(url=url, deadline_ms=5_000, write_deadline_ms=60_000)
        store = config.build(log, folder, KEEP, writable=True)
        empty = store.stats()["used_memory_bytes"]
        start = time.perf_counter()
        store.load()
        load_s = time.perf_counter() - start
        held = int(np.minimum(np.diff(log.by_category("key_start")), KEEP).sum())
        size = store.stats()["used_memory_bytes"] - empty
        figures = measure(store, users)
        store.close()
    return figures | {"bytes_per_event": round(size / held, 1), "load_s": round(load_s, 1)}


@contextmanager
def redis_server(folder: Path) -> Generator[str]:
    """A server of its own, on a free port of loopback."""
    program = next(filter(None, map(shutil.which, SERVERS)), None)
    if program is None:
        raise SystemExit(f"none of {', '.join(SERVERS)} is installed; apt-get install redis-server")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    command = [program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([*command, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure each store in a process of its own, and print one JSON line."""
    options = parser(__doc__)
    options.add_argument("--users", type=int, default=1_000)
    options.add_argument("--events", type=int, default=10_000)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        apart(write, folder / "log", given.users, given.events)
        figures = {
            "embedded": apart(embedded, folder, given.users),
            "redis": apart(shared, folder, given.users),
        }
    about = {"users": given.users, "events": given.users * given.events}
    finish("store", {**about, **figures}, save=given.save)


if __name__ == "__main__":
    main()
