"""Numbers that threads share."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from headrace.ops import atomics


@njit(nogil=True)
def count(board, times):
    for _ in range(times):
        atomics.add(board, 3, 2)


@njit(nogil=True)
def claim(board, mine, most):
    """Take numbers below ``most`` by turns; note which."""
    while True:
        at = atomics.load(board, 0)
        if at >= most:
            return
        if atomics.swap(board, 0, at, at + 1):
            mine[at] += 1


@njit
def clock(times):
    first = atomics.ticks()
    total = 0.0
    for n in range(times):
        total += np.sqrt(n)
    return atomics.ticks() - first, total


def test_no_addition_is_lost():
    board = np.zeros(8, np.int64)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: count(board, 50_000), range(4)))
    assert board.tolist() == [0, 0, 0, 400_000, 0, 0, 0, 0]


def test_each_number_is_claimed_once():
    board, mine = np.zeros(1, np.int64), np.zeros((4, 100_000), np.int64)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda t: claim(board, mine[t], 100_000), range(4)))
    assert (mine.sum(0) == 1).all()


def test_what_is_stored_is_loaded_and_swapped_only_from_what_it_was():
    @njit
    def steps(board):
        atomics.store(board, 1, 7)
        return (
            atomics.load(board, 1),
            atomics.swap(board, 1, 8, 9),
            atomics.swap(board, 1, 7, 9),
            atomics.load(board, 1),
        )

    assert steps(np.zeros(2, np.int64)) == (7, False, True, 9)


def test_the_clock_counts_on_where_there_is_one():
    clock(1)
    short, long = clock(1_000)[0], clock(10_000_000)[0]
    assert (short, long) == (0, 0) or 0 < short < long
