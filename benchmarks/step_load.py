"""A step of eight times the load on the live server, under the fixed plan and under DCAF.

    python -m benchmarks.step_load [--run runs/complete_journey] [--rps 30] [--seconds 30 60 60]
                                   [--plot docs/images/step_load.svg]

Wants a run on which ``headrace allocate profile`` and ``replay`` have been done. For each allocator
the server is started afresh and gets recommendation requests at Poisson times: a steady rate, eight
times that, and the steady rate again. Latency counts from when a request was due. ``recovery_s`` is
the time from the step until p99, by two-second stretches, stays at or under the target (null: not
within the step), ``error_rate_after`` the share of errors from then (or from 30 s) to the end of
the step. Value is that of the answered items as the whole cascade sees them, told beforehand for
every user, so that it does not depend on which plan answered; processor time is the server's own.
``swing`` is the range of MaxPower in the second half of the step.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks import _common
from benchmarks.serving import ANSWER_S, EARLY_S, Client, server
from headrace.errors import HeadraceError
from headrace.evaluation.replay import widest
from headrace.log import Log
from headrace.run import Run
from headrace.serving.service import Service
from headrace.serving.wire import Ask

Array = NDArray[Any]
Judge = dict[str, dict[str, float]]  # user -> item -> value
CHUNK = 32  # users judged at a time
TIMES = 8
STRETCH_S = 2.0
ENOUGH_S = 30.0  # to recover in
PATIENCE_S = 1.0  # an answer after this is no answer
KINDS = ("fixed", "dcaf")


@dataclass
class Course:
    """What happened: one row an answer, one row a look at the server."""

    due_s: list[float] = field(default_factory=list[float])
    took_ms: list[float] = field(default_factory=list[float])
    value: list[float] = field(default_factory=list[float])  # NaN is an error
    looks: list[tuple[float, float, float]] = field(  # second, processor seconds, MaxPower
        default_factory=list[tuple[float, float, float]]
    )


def stream(log: Log, rps: float, seconds: list[float], seed: int = 0) -> list[tuple[float, bytes]]:
    """Requests and when they are due, in seconds after the start."""
    rng = np.random.default_rng(seed)
    active = np.flatnonzero(np.diff(log.event("user_offsets")))
    out: list[tuple[float, bytes]] = []
    start = 0.0
    for length, rate in zip(seconds, (rps, TIMES * rps, rps), strict=True):
        due = start + np.cumsum(rng.exponential(1 / rate, int(length * rate * 2) + 20))
        for due_s in due[due < start + length].tolist():
            user = log.users["user"][int(rng.choice(active))]
            out.append((due_s, orjson.dumps({"user": user})))
        start += length
    return out


def judge(run: Path, calls: list[tuple[float, bytes]]) -> Judge:
    """What every item is worth to every user that asks, by the widest plan."""
    out: dict[str, dict[str, float]] = {}
    users = sorted({orjson.loads(body)["user"] for _, body in calls})
    with Service.open(run) as service, torch.inference_mode():
        wide = dict(Run.open(run).app.allocation.quota)  # whichever allocator is configured
        item = service.log.items["item"]
        for at in range(0, len(users), CHUNK):
            some = users[at : at + CHUNK]
            readings, store = service.reader.read([Ask(user=user) for user in some])
            requests = service.requests(readings, store)
            told = widest(service.shelf.cascade, requests, wide, store)
            for row, user in enumerate(some):
                start, end = told.merged.item_id.offsets[row : row + 2].tolist()
                items = told.merged.item_id.values[start:end].tolist()
                values = told.value_N[start:end].tolist()
                out[user] = {item[i]: value for i, value in zip(items, values, strict=True)}
    return out


async def course(host: str, port: int, calls: list[tuple[float, bytes]], worth: Judge) -> Course:
    """Send every call when it is due; look at the server every second."""
    client, done, start = Client(host, port), Course(), time.perf_counter()

    async def send(due_s: float, body: bytes) -> None:
        value = float("nan")
        try:
            work = client.exchange("/v1/recommend", body)
            status, content = await asyncio.wait_for(work, ANSWER_S)
            if status == 200:
                told = orjson.loads(content)
                known = worth.get(told["user"], {})
                value = sum(known.get(item["item"], 0.0) for item in told["items"])
        except (OSError, EOFError, TimeoutError):
            pass
        took_ms = 1000 * (time.perf_counter() - start - due_s)
        done.due_s.append(due_s)
        done.took_ms.append(took_ms)
        done.value.append(value)

    async def look() -> None:
        while True:
            with suppress(OSError):  # under load a look may go unanswered, and the next one not
                cpu_s, power = await asyncio.to_thread(_look, host, port)
                done.looks.append((time.perf_counter() - start, cpu_s, power))
            await asyncio.sleep(1)

    looking = asyncio.create_task(look())
    async with asyncio.TaskGroup() as tasks:
        for due_s, body in calls:
            await asyncio.sleep(max(0.0, start + due_s - time.perf_counter() - EARLY_S))
            tasks.create_task(send(due_s, body))
    looking.cancel()
    client.close()
    return done


def _look(host: str, port: int) -> tuple[float, float]:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=ANSWER_S) as answer:
        text = answer.read().decode()
    cpu = re.search(r"^process_cpu_seconds_total (\S+)", text, re.MULTILINE)
    power = re.search(r"^headrace_allocation_max_power (\S+)", text, re.MULTILINE)
    return float(cpu[1]) if cpu else 0.0, float(power[1]) if power else 1.0


def figures(done: Course, seconds: list[float], target_ms: float) -> dict[str, Any]:
    """The claims of the step test."""
    due, took = np.array(done.due_s), np.array(done.took_ms)
    value = np.array(done.value)
    failed = np.isnan(value) | (took > 1000 * PATIENCE_S)
    up, down = seconds[0], seconds[0] + seconds[1]
    before, during = due < up, (due >= up) & (due < down)
    recovery_s = _recovery(due, np.where(np.isnan(value), np.inf, took), up, down, target_ms)
    settled = during & (due >= up + (ENOUGH_S if recovery_s is None else recovery_s))
    looks = np.array(done.looks)
    late = looks[(looks[:, 0] > (up + down) / 2) & (looks[:, 0] < down), 2]
    cpu_s = float(np.interp(down, looks[:, 0], looks[:, 1]) - np.interp(up, *looks[:, :2].T))
    good = float(np.where(failed, 0.0, value)[during].sum())
    return {
        "p99_ms_before": _p99(took[before & ~failed]),
        "p99_ms_during": _p99(took[during & ~np.isnan(value)]),
        "recovery_s": recovery_s,
        "error_rate_after": round(float(failed[settled].mean()), 5) if settled.any() else None,
        "p99_ms_settled": _p99(took[settled & ~np.isnan(value)]),
        "value_per_cpu_s": round(good / cpu_s, 3) if cpu_s > 0 else None,
        "answered_per_s": round(float((~failed)[during].sum()) / seconds[1], 1),
        "swing": round(float(np.ptp(late)), 3) if len(late) else None,
    }


def _recovery(due: Array, took: Array, up: float, down: float, target_ms: float) -> float | None:
    """Seconds from the step until p99 stays within its target; None where it never does."""
    edges = np.arange(up, down, STRETCH_S)
    over = [
        at
        for at in edges
        if len(part := took[(due >= at) & (due < at + STRETCH_S)])
        and np.quantile(part, 0.99, method="lower") > target_ms
    ]
    if not over:
        return 0.0
    last = float(over[-1]) + STRETCH_S - up
    return None if last >= down - up else round(last, 1)


def _p99(took: Array) -> float | None:
    return round(float(np.quantile(took, 0.99)), 1) if len(took) else None


def plot(courses: dict[str, Course], seconds: list[float], path: Path) -> None:
    """Latency, good answers and MaxPower by the second."""
    figure = Figure((9, 6.5), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    for (kind, done), color in zip(courses.items(), ("#d9822b", "#0b5c77"), strict=False):
        due, took = np.array(done.due_s), np.array(done.took_ms)
        good = ~np.isnan(done.value) & (took <= 1000 * PATIENCE_S)
        edges = np.arange(0, sum(seconds))
        parts = [took[(due >= s) & (due < s + 1)] for s in edges]
        p99 = [np.quantile(part, 0.99) if len(part) else np.nan for part in parts]
        top.semilogy(edges, p99, color=color, label=kind)
        answers = [int(good[(due >= s) & (due < s + 1)].sum()) for s in edges]
        middle.plot(edges, answers, color=color, label=kind)
        looks = np.array(done.looks)
        bottom.plot(looks[:, 0], looks[:, 2], color=color, label=kind)
    for axes, label in ((top, "p99, ms"), (middle, "answers/s in time"), (bottom, "MaxPower")):
        axes.set_ylabel(label)
        axes.axvspan(seconds[0], seconds[0] + seconds[1], color="#eef2f5")
        axes.grid(visible=True, color="#d8dee4")
    top.legend()
    bottom.set_xlabel("seconds; shaded: eight times the load")
    figure.savefig(path)


def main() -> None:
    """Both allocators, one after the other."""
    options = _common.parser(__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/complete_journey"))
    options.add_argument(
        "--rps", type=float, default=30.0, help="requests a second before the step"
    )
    options.add_argument("--seconds", type=float, nargs=3, default=[30.0, 60.0, 60.0])
    options.add_argument("--target-ms", type=float, default=50.0, help="of p99")
    options.add_argument("--plot", type=Path, help="write a chart here")
    given = options.parse_args()
    courses: dict[str, Course] = {}
    try:
        calls = stream(Log.open(given.run / "log"), given.rps, given.seconds)
        worth = judge(given.run, calls)
        for kind in KINDS:
            with server(given.run, "--allocator", kind) as (host, port):
                courses[kind] = asyncio.run(course(host, port, calls, worth))
            print(kind, figures(courses[kind], given.seconds, given.target_ms), flush=True)
    except HeadraceError as error:
        sys.exit(f"error: {error}")
    if given.plot:
        plot(courses, given.seconds, given.plot)
    told = {kind: figures(done, given.seconds, given.target_ms) for kind, done in courses.items()}
    asked = {"rps": given.rps, "seconds": given.seconds, "target_ms": given.target_ms}
    _common.finish("step_load", {**told, **asked}, save=given.save)


if __name__ == "__main__":
    main()
