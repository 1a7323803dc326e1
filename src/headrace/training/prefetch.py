"""Build the next batch while this one trains."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Generator[T]:
    """The same items, each taken from ``items`` one step early, in a thread of its own.

    Pays when building an item leaves the GIL, as Numba and PyTorch do. An exception surfaces at
    the item that raised it. Close the generator to end the thread early.
    """
    iterator = iter(items)

    def take() -> list[T]:
        return list(islice(iterator, 1))

    # PyTorch in this thread alone: a second team of threads would spin on the cores of the first
    with ThreadPoolExecutor(1, "headrace-batches", torch.set_num_threads, (1,)) as pool:
        coming = pool.submit(take)
        while item := coming.result():
            coming = pool.submit(take)
            yield item[0]
