"""The server under load: latency through HTTP at a given rate of requests.

    python -m benchmarks.serving [--run runs/complete_journey] [--rps 20] [--seconds 30]

Starts ``headrace serve`` on a copy of the run (its log and bundle, but events of its own) and
sends requests from this process at Poisson times, whether or not earlier ones are answered. Latency
counts from when a request was due, so that a server that stalls cannot slow down what it is
measured by. Of ten requests seven are for users of the log, one is anonymous with an inline history
and two send an event; ``p50_ms`` and ``p99_ms`` are those of recommendations.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks import _common
from headrace.errors import HeadraceError
from headrace.log import Log

READY_S = 120  # for the server to start
ANSWER_S = 30  # for one answer
EARLY_S = 0.002  # timers are late by a millisecond: wake before, and look at the clock
HISTORY = 5  # events of an anonymous visitor
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Call:
    """One request, due at a time after the start."""

    due_s: float
    path: str
    body: bytes


@dataclass
class Tally:
    """What came back."""

    recommend_ms: list[float] = field(default_factory=list[float])
    event_ms: list[float] = field(default_factory=list[float])
    errors: int = 0
    seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Rates and quantiles."""
        done = len(self.recommend_ms) + len(self.event_ms)
        return {
            "rps": round(done / self.seconds, 2),
            **_quantiles("", self.recommend_ms),
            **_quantiles("events_", self.event_ms),
            "requests": done,
            "errors": self.errors,
        }


def calls(log: Log, rps: float, seconds: float, seed: int = 0) -> list[Call]:
    """A mixed stream of requests for users and items of a log, at Poisson times."""
    rng = np.random.default_rng(seed)
    users, items = log.users["user"], log.items["item"]
    active = np.flatnonzero(np.diff(log.event("user_offsets")))
    due_N = np.cumsum(rng.exponential(1 / rps, int(rps * seconds)))
    made: list[Call] = []
    for number, due_s in enumerate(due_N.tolist()):
        user = users[int(rng.choice(active))]
        some = [items[int(i)] for i in rng.integers(1, len(items), HISTORY)]
        kind = log.manifest.event_types[-1]
        share = rng.random()
        if share < 0.7:
            path, body = "/v1/recommend", {"user": user}
        elif share < 0.8:
            history = [{"item": item, "type": kind} for item in some]
            path, body = "/v1/recommend", {"history": history}
        else:
            event = {"event_id": f"{seed}-{number}", "user": user, "item": some[0], "type": kind}
            path, body = "/v1/events", event
        made.append(Call(due_s, path, orjson.dumps(body)))
    return made


class Client:
    """Just enough HTTP/1.1 to add nothing to what is measured; connections are kept."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: deque[Connection] = deque()

    async def post(self, path: str, body: bytes) -> int:
        """Send a request and read the whole answer; its status."""
        return (await self.exchange(path, body))[0]

    async def exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The same; its status and body."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode()
        while self._idle:
            connection = self._idle.pop()
            try:
                answer = await self._ask(connection, head + body)
                break
            except (OSError, EOFError):  # the server closes what has been idle for seconds
                connection[1].close()
        else:
            connection = await self._connect()
            answer = await self._ask(connection, head + body)
        reader, _ = connection
        length = re.search(rb"content-length: (\d+)", answer)
        content = await reader.readexactly(int(length[1]) if length else 0)
        self._idle.append(connection)
        return int(answer.split(b" ", 2)[1]), content

    async def _ask(self, connection: Connection, message: bytes) -> bytes:
        reader, writer = connection
        writer.write(message)
        return (await reader.readuntil(b"\r\n\r\n")).lower()

    async def _connect(self) -> Connection:
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        """Drop all connections."""
        for _, writer in self._idle:
            writer.close()


async def load(host: str, port: int, stream: list[Call]) -> Tally:
    """Send every call when it is due and wait for the last answer."""
    client, tally, start = Client(host, port), Tally(), time.perf_counter()

    async def send(call: Call) -> None:
        try:
            status = await asyncio.wait_for(client.post(call.path, call.body), ANSWER_S)
        except (OSError, EOFError, TimeoutError):
            status = 0
        took_ms = (time.perf_counter() - start - call.due_s) * 1000
        if status != 200:
            tally.errors += 1
        elif call.path == "/v1/events":
            tally.event_ms.append(took_ms)
        else:
            tally.recommend_ms.append(took_ms)

    async with asyncio.TaskGroup() as tasks:
        for call in stream:
            await asyncio.sleep(start + call.due_s - time.perf_counter() - EARLY_S)
            while time.perf_counter() < start + call.due_s:
                await asyncio.sleep(0)
            tasks.create_task(send(call))
    tally.seconds = time.perf_counter() - start
    client.close()
    return tally


@contextmanager
def server(run: Path, *options: str) -> Generator[tuple[str, int]]:
    """``headrace serve`` on a copy of the run, ready; stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("log", "bundle"):
            (Path(folder) / part).symlink_to((run / part).resolve())
        if (run / "allocation").exists():  # a copy: decisions are logged into it
            shutil.copytree(run / "allocation", Path(folder) / "allocation")
        command = [sys.executable, "-m", "headrace", "serve", folder, "--port", "0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"http://([^:/]+):(\d+)", process.stdout.readline())
            if found is None:
                raise HeadraceError(f"{run}: the server did not start; train it with `make demo`")
            host, port = found[1], int(found[2])
            _wait(f"http://{host}:{port}/readyz")
            yield host, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _wait(url: str) -> None:
    deadline = time.time() + READY_S
    while time.time() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_S):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise HeadraceError(f"{url}: not ready within {READY_S} s")


def inside(host: str, port: int) -> dict[str, Any]:
    """What the server says of itself: mean time by stage, and memory."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=ANSWER_S) as answer:
        text = answer.read().decode()
    stage = r'headrace_stage_seconds_%s\{stage="(\w+)"\} (\S+)'
    sums, counts = (dict(re.findall(stage % part, text)) for part in ("sum", "count"))
    memory = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    return {
        "stage_ms": {s: round(1000 * float(sums[s]) / float(counts[s]), 2) for s in sums},
        "server_rss_mb": round(float(memory[1]) / 2**20, 1) if memory else None,
    }


def _quantiles(name: str, took_ms: list[float]) -> dict[str, float | None]:
    if not took_ms:
        return {f"{name}p50_ms": None, f"{name}p99_ms": None}
    p50, p99 = np.quantile(took_ms, [0.5, 0.99]).tolist()
    return {f"{name}p50_ms": round(p50, 2), f"{name}p99_ms": round(p99, 2)}


def main() -> None:
    """Serve, load, tell."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/complete_journey"))
    options.add_argument("--rps", type=float, default=20.0, help="requests a second")
    options.add_argument("--seconds", type=float, default=30.0)
    given = options.parse_args()
    try:
        stream = calls(Log.open(given.run / "log"), given.rps, given.seconds)
        with server(given.run) as (host, port):
            tally = asyncio.run(load(host, port, stream))
            within = inside(host, port)
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    offered = {"offered_rps": given.rps, "seconds": round(tally.seconds, 1)}
    _common.finish("serving", {**tally.figures(), **offered, **within}, save=given.save)


if __name__ == "__main__":
    main()
