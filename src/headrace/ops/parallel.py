"""Work on long arrays shared out among threads, for kernels that hold no lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise


def spread(work: Callable[[int, int], None], size: int, share: int, threads: int) -> None:
    """Call ``work(first, last)`` for spans that make up ``range(size)``, on up to ``threads``.

    Each has at least ``share`` of them; what is less than two shares is done right here. The first
    error that a span raises is raised, once all have ended.
    """
    count = max(1, min(threads, size // share))
    cuts = [size * at // count for at in range(count + 1)]
    (first, *others) = pairwise(cuts)
    waiting = [_pool(os.getpid()).submit(work, *span) for span in others]
    try:
        work(*first)
    finally:
        errors = [each.exception() for each in waiting]
    for error in errors:
        if error is not None:
            raise error


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Of this process: threads do not outlive a fork."""
    del process
    return ThreadPoolExecutor(os.cpu_count(), "headrace-spread")
