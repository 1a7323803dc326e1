"""The greedy kernels against the definitions they are fast versions of."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ops import slate


def similarity(vector, category):
    if vector.shape[1] == 0:
        return (category[:, None] == category[None, :]).astype(float)
    alike = vector @ vector.T
    np.fill_diagonal(alike, 1.0)
    return alike


def naive(gain, relevance, category, quota, cap):
    """Greedy by a gain (None: does not compete), then by place; one row."""
    chosen = []

    def allowed():
        return [
            n
            for n in range(len(category))
            if n not in chosen and sum(category[c] == category[n] for c in chosen) < cap
        ]

    while len(chosen) < quota:
        gains = {n: gain(n, chosen) for n in allowed() if not np.isnan(relevance[n])}
        gains = {n: g for n, g in gains.items() if g is not None}
        if not gains:
            break
        chosen.append(max(gains, key=lambda n: (gains[n], -n)))
    while len(chosen) < quota and allowed():
        chosen.append(allowed()[0])
    return chosen


def naive_mmr(relevance, alike, category, quota, theta, window, cap):
    def gain(n, chosen):
        nearest = max((alike[n, c] for c in chosen[-window:]), default=0.0)
        return theta * relevance[n] - (1 - theta) * nearest

    return naive(gain, relevance, category, quota, cap)


def naive_dpp(log_quality, alike, category, quota, window, cap):
    """Greedy determinant of L over the last chosen and the candidate."""
    quality = np.exp(log_quality)
    kernel = quality[:, None] * alike * quality[None, :]

    def gain(n, chosen):
        held = chosen[-window:]
        before = np.linalg.det(kernel[np.ix_(held, held)]) if held else 1.0
        after = np.linalg.det(kernel[np.ix_([*held, n], [*held, n])])
        left = after / before
        return left if left / kernel[n, n] >= slate.EPSILON else None

    return naive(gain, log_quality, category, quota, cap)


def draw_rows(seed, lengths, width):
    """Candidates of a few requests, best first, some of them broken; vectors of length 1."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    relevance = np.concatenate([np.sort(rng.random(n))[::-1] for n in lengths] + [np.zeros(0)])
    for low, high in pairwise(offsets):
        broken = rng.integers(0, 3)
        relevance[max(low, high - broken) : high] = np.nan
    vector = rng.normal(size=(offsets[-1], width))
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    return relevance, vector, rng.integers(1, 5, offsets[-1]), offsets


row_lengths = st.lists(st.integers(0, 9), min_size=1, max_size=4)
limits = st.sampled_from([1, 2, 3, slate.UNLIMITED])


@given(st.integers(0, 2**32), row_lengths, st.integers(-1, 12), limits, limits, st.data())
@settings(max_examples=60, deadline=None)
def test_mmr_is_the_definition_row_by_row(seed, lengths, quota, window, cap, data):
    width = data.draw(st.sampled_from([0, 4]))
    theta = data.draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    relevance, vector, category, offsets = draw_rows(seed, lengths, width)
    quotas = np.full(len(lengths), quota)
    got = slate.mmr(relevance, vector, category, offsets, quotas, theta, window, cap)
    wanted = []
    for low, high in pairwise(offsets):
        row = slice(low, high)
        alike = similarity(vector[row], category[row])
        chosen = naive_mmr(relevance[row], alike, category[row], quota, theta, window, cap)
        wanted += [low + n for n in chosen]
    assert got.tolist() == wanted


@given(st.integers(0, 2**32), row_lengths, st.integers(-1, 12), limits, limits, st.data())
@settings(max_examples=60, deadline=None)
def test_dpp_is_the_greedy_determinant_row_by_row(seed, lengths, quota, window, cap, data):
    width = data.draw(st.sampled_from([0, 20]))
    relevance, vector, category, offsets = draw_rows(seed, lengths, width)
    quotas = np.full(len(lengths), quota)
    got = slate.dpp(2 * relevance, vector, category, offsets, quotas, window, cap)
    wanted = []
    for low, high in pairwise(offsets):
        row = slice(low, high)
        alike = similarity(vector[row], category[row])
        chosen = naive_dpp(2 * relevance[row], alike, category[row], quota, window, cap)
        wanted += [low + n for n in chosen]
    assert got.tolist() == wanted


@pytest.mark.parametrize("window", [3, slate.UNLIMITED])
def test_dpp_on_a_hundred_random_kernels(window):
    size, quota = 30, 12
    for seed in range(100):
        rng = np.random.default_rng(seed)
        factor = rng.normal(size=(size, size + 2))  # L = factor @ factor.T, any PSD kernel
        quality = np.linalg.norm(factor, axis=1)
        order = np.argsort(-quality)
        log_quality, vector = np.log(quality[order]), (factor / quality[:, None])[order]
        category = np.arange(size)
        offsets, quotas = np.array([0, size]), np.array([quota])
        got = slate.dpp(
            log_quality, vector, category, offsets, quotas, window, slate.UNLIMITED
        ).tolist()
        alike = similarity(vector, category)
        assert got == naive_dpp(log_quality, alike, category, quota, window, slate.UNLIMITED)


def test_dpp_with_nothing_alike_sorts_by_relevance():
    quality = np.array([3.0, 2.0, 1.0, 0.5])
    got = slate.dpp(np.log(quality), np.eye(4), np.arange(4), np.array([0, 4]), np.array([4]), 2, 9)
    assert got.tolist() == [0, 1, 2, 3]


def test_dpp_never_chooses_a_copy_while_anything_else_is_left():
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(10, 16))
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    doubled = np.repeat(vector, 2, axis=0)  # 2n and 2n + 1 are copies
    for strength in (0.0, 1.0, 100.0):  # e^100 squared: no overflow, no lost digits
        log_quality = strength * np.sort(rng.random(20))[::-1]
        got = slate.dpp(
            log_quality, doubled, np.arange(20), np.array([0, 20]), np.array([20]), 99, 99
        )
        assert sorted(got[:10] // 2) == list(range(10))
        assert got[10:].tolist() == sorted(set(range(20)) - set(got[:10].tolist()))


def test_dpp_fills_the_places_left_by_relevance_when_nothing_new_is_left():
    rng = np.random.default_rng(1)
    vector = rng.normal(size=(8, 3))  # at most three are independent
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    got = slate.dpp(np.zeros(8), vector, np.arange(8), np.array([0, 8]), np.array([7]), 99, 99)
    assert len(got) == len(set(got.tolist())) == 7
    assert got[3:].tolist() == sorted(set(range(8)) - set(got[:3].tolist()))[:4]


def test_dpp_window_lets_a_copy_return_once_it_is_out_of_sight():
    vector = np.repeat(np.eye(3), 2, axis=0)  # three pairs of copies
    log_quality = np.array([3.0, 3.0, 2.0, 2.0, 1.0, 1.0])
    arguments = (vector, np.arange(6), np.array([0, 6]), np.array([4]))
    assert slate.dpp(log_quality, *arguments, 1, 99).tolist() == [0, 2, 1, 3]
    assert slate.dpp(log_quality, *arguments, 2, 99).tolist() == [0, 2, 4, 1]


def test_cap_holds_even_if_the_slate_comes_out_short():
    category = np.array([1, 1, 1, 2, 1])
    got = slate.first(category, np.array([0, 5]), np.array([5]), 2)
    assert got.tolist() == [0, 1, 3]


def test_rows_are_independent():
    relevance, vector, category, offsets = draw_rows(5, [7, 0, 9, 3], 6)
    quotas = np.array([3, 4, 9, 1])
    together = slate.dpp(relevance, vector, category, offsets, quotas, 4, 2).tolist()
    alone = []
    for b, (low, high) in enumerate(pairwise(offsets)):
        row = slice(low, high)
        chosen = slate.dpp(
            relevance[row],
            vector[row],
            category[row],
            np.array([0, high - low]),
            quotas[b : b + 1],
            4,
            2,
        )
        alone += (chosen + low).tolist()
    assert together == alone
