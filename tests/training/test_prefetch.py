from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from headrace.training.prefetch import ahead


def test_items_come_in_order_and_one_early():
    built = threading.Semaphore(0)
    threads: set[str] = set()

    def items() -> Iterator[int]:
        for i in range(4):
            threads.add(threading.current_thread().name)
            built.release()
            yield i

    taken: list[int] = []
    for i in ahead(items()):
        taken.append(i)
        assert built.acquire(timeout=5), "this item"
        if i == 0:
            assert built.acquire(timeout=5), "the next is built while this one is in use"
            built.release()
    assert taken == [0, 1, 2, 3]
    assert threading.current_thread().name not in threads


def test_nothing_in_nothing_out():
    assert list(ahead([])) == []


def test_an_exception_surfaces_at_its_item():
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(coming)


def test_closing_ends_the_thread():
    coming = ahead(iter(range(100)))
    next(coming)
    coming.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("headrace-batches")]
