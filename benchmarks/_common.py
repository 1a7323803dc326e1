"""What every benchmark says beside its figures, and how it says it."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("headrace", "torch", "numpy", "numba", "polars")
T = TypeVar("T")


def parser(about: str | None) -> argparse.ArgumentParser:
    """A command line with ``--save``; add the benchmark's own options to it."""
    made = argparse.ArgumentParser(description=about)
    kept = "keep the line in benchmarks/results, as NAME.json if other settings have a file already"
    made.add_argument("--save", nargs="?", const="", metavar="NAME", help=kept)
    return made


def machine() -> dict[str, Any]:
    """Facts that figures depend on. No names of hosts or users."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
        "load": round(os.getloadavg()[0], 1),  # above 1 a core: others were working too
    }


def peak_rss_mb() -> float:
    """The most memory this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # the peak of this program alone, not of the one that started it
        lines = status.read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    else:
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kilobytes //= 1024 if sys.platform == "darwin" else 1
    return round(kilobytes / 1024, 1)


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """Run ``work`` in a fresh process, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def times_ms(
    work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """How long each of several calls took, after one that compiles and warms up."""
    work()
    times: list[float] = []
    for _ in range(repeats):
        begun = clock()
        work()
        times.append(1000 * (clock() - begun))
    return times


def finish(name: str, figures: Mapping[str, Any], *, save: str | None) -> None:
    """Print the figures as the last line; unless ``save`` is None also write results/NAME.json.

    NAME is ``save``, or the benchmark's own where that is empty.
    """
    every = {"benchmark": name, **figures, "commit": _commit(), "machine": machine()}
    line = json.dumps(_finite(every), allow_nan=False)
    if save is not None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{save or name}.json").write_text(line + "\n")
    print(line, flush=True)


def _finite(figure: Any) -> Any:
    """With null for what is no number, which JSON does not know."""
    if isinstance(figure, Mapping):
        return {name: _finite(each) for name, each in figure.items()}
    if isinstance(figure, list | tuple):
        return [_finite(each) for each in figure]
    return None if isinstance(figure, float) and not math.isfinite(figure) else figure


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
