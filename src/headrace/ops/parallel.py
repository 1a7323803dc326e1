"""Work on long arrays shared out among threads, for kernels that hold no lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

Span = tuple[int, int]  # from and to
T = TypeVar("T")


def spread(work: Callable[[int, int], None], size: int, share: int, threads: int) -> None:
    """Call ``work(first, last)`` for spans that make up ``range(size)``, on up to ``threads``.

    Each has at least ``share`` of them; what is less than two shares is done right here.
    """
    count = max(1, min(threads, size // share))
    cuts = [size * at // count for at in range(count + 1)]
    each(lambda span: work(*span), list(pairwise(cuts)))


def each(work: Callable[[Span], T], spans: Sequence[Span]) -> list[T]:
    """What ``work`` makes of each span, a thread each, the first right here.

    The threads are kept: new ones often begin on the core of the one that waits for them. The first
    error that a span raises is raised, once all have ended.
    """
    first, *others = spans
    waiting = [_pool(os.getpid()).submit(work, span) for span in others]
    try:
        made = [work(first)]
    finally:
        errors = [future.exception() for future in waiting]
    for error in errors:
        if error is not None:
            raise error
    return made + [future.result() for future in waiting]


@contextmanager
def beside(work: Callable[[], None], count: int, end: Callable[[], None]) -> Generator[None]:
    """Have ``count`` of the kept threads do ``work`` meanwhile; ``end`` makes it return.

    Work that has not begun by then never does. Raises what it raised.
    """
    helping = [_pool(os.getpid()).submit(work) for _ in range(count)]
    try:
        yield
    finally:
        end()
    for future in helping:
        if not future.cancel():
            future.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Of this process: threads do not outlive a fork."""
    del process
    return ThreadPoolExecutor(os.cpu_count(), "headrace-spread")
