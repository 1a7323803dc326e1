"""The fused scores against the formula in float64."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import attention_score
from headrace.ops.lanes import padded


def halved(x):
    """The upper halves of float32, and what they are worth."""
    high = (np.ascontiguousarray(x).view(np.uint32) >> 16).astype(np.uint16)
    return high, (high.astype(np.uint32) << 16).view(np.float32)


class Case:
    """A request and a table of items, at random."""

    def __init__(self, rng, items, heads, depth, keys, vector, hidden, spread, relu, groups):
        def some(*shape):
            return rng.standard_normal(shape).astype(np.float32)

        self.hidden, first = hidden, hidden[0] if hidden else 0
        self.width = first
        self.product, self.half, self.bonus = some(vector), some(first), some(items)
        self.key, self.bias = some(heads, depth, keys), spread * some(heads, keys)
        self.value, self.count = some(heads, keys, first), some(heads, first)
        self.layers = [
            (None if relu else some(a), some(b, a) / a, some(b))
            for a, b in pairwise((*hidden, 1) if hidden else ())
        ]
        self.life, long = None, 0
        if groups:
            long, length_P = 3, rng.integers(1, 4, groups)
            code_P = 20 + np.sort(rng.choice(10, groups, replace=False))
            start_P, events = np.cumsum(length_P) - length_P, length_P.sum()
            self.life = attention_score.Lifetime(
                rng.integers(0, 10, items),
                *(20, code_P, start_P, length_P),
                *(some(events, long), some(events), some(events, 5), some(6)),
                padded(some(6, first)),
            )
        self.table = some(items, first + heads * depth + long + vector)
        self.heads, self.depth, self.long = heads, depth, long

    def unit(self):
        attention = (self.key, self.bias, self.value, self.count) if self.heads else None
        return attention_score.unit(
            self.product, self.half, attention, attention_score.net(self.layers), self.life
        )

    def plain(self, table, item):
        """One score, number by number."""
        row = table[item].astype(np.float64)
        score = row[len(row) - len(self.product) :] @ self.product + self.bonus[item]
        if not self.layers:
            return score
        x = row[: self.width] + self.half
        for a in range(self.heads):
            query = row[self.width + a * self.depth :][: self.depth]
            logit = query @ self.key[a] + self.bias[a]
            top = logit.max()
            share = np.exp(logit - top)
            x = x + share @ self.value[a] / share.sum()
            x = x + (top + np.log(share.sum())) * self.count[a]
        if self.life is not None:
            x = (
                x
                + self.told(row[self.width + self.heads * self.depth :], item)
                @ self.life.out_XH[:, : self.width]
            )
        for slope, weight, bias in self.layers:
            x = np.where(x > 0, x, x * (0 if slope is None else slope))
            x = weight @ x + bias
        return score + x[0]

    def told(self, query, item):
        life = self.life
        at = np.flatnonzero(life.code_P == life.code + life.category_I[item])
        if not len(at):
            return life.nothing_X
        events = slice(life.start_P[at[0]], life.start_P[at[0]] + life.length_P[at[0]])
        logit = life.key_ED[events] @ query[: self.long] + life.bias_E[events]
        share = np.exp(logit - logit.max())
        said = share @ life.value_EW[events] / share.sum()
        return np.append(said, logit.max() + np.log(share.sum()))


cases = st.builds(
    lambda seed, *shape: Case(np.random.default_rng(seed), *shape),
    st.integers(0, 10_000),
    st.integers(1, 150),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 35),
    st.integers(1, 20),
    st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    st.sampled_from([1.0, 40.0, 400.0]),
    st.booleans(),
    st.sampled_from([0, 1, 4]),
)


def scorer(case, table, threads=1):
    items = attention_score.catalogue(table, case.bonus, case.width)
    return attention_score.Scorer(case.unit(), items, threads)


def scores(case, items, table=None, threads=1):
    """By the kernel."""
    table = case.table if table is None else table
    return scorer(case, table, threads)(items)


@given(cases, st.booleans(), st.integers(1, 2))
def test_scores_equal_the_formula(case, low, threads):
    items = np.random.default_rng(0).permutation(len(case.table)).astype(np.int32)
    table, worth = halved(case.table) if low else (case.table, case.table)
    got = scores(case, items, table, threads)
    want = np.array([case.plain(worth, i) for i in items])
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-4)


def one(*, heads=1, hidden=(40, 20), items=4000):
    rng = np.random.default_rng(1)
    return Case(rng, items, heads, 8, 20, 16, hidden, 1.0, True, 3 if heads else 0)


def test_a_score_does_not_depend_on_what_else_is_asked():
    case, every = one(), np.arange(4000, dtype=np.int32)
    whole = scores(case, every)
    for threads, cut in ((2, 4000), (1, 1), (1, 5), (1, 47), (1, 333)):
        some = every[-cut:]
        got = scores(case, some, threads=threads)
        assert np.array_equal(got, whole[-cut:])


def test_without_net_or_attention():
    items = np.arange(60, dtype=np.int32)
    for hidden in ((), (7, 3)):
        case = one(heads=0, hidden=hidden, items=60)
        got = scores(case, items)
        want = [case.plain(case.table, i) for i in items]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_no_items():
    case = one(items=5)
    none = np.zeros(0, np.int32)
    got = scores(case, none, threads=2)
    assert got.shape == (0,)


def test_rows_that_are_no_numbers_spoil_no_others():
    case = one(items=50)
    items = np.arange(50, dtype=np.int32)
    want = scores(case, items)
    case.table[13] = np.nan
    got = scores(case, items)
    assert np.flatnonzero(~np.isfinite(got)).tolist() == [13]
    assert np.array_equal(np.delete(got, 13), np.delete(want, 13))
