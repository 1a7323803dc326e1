import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.data import Candidates, Ragged, Requests, map_tensors
from headrace.ops.ragged import head, pad, segment_mean, segment_softmax, segment_sum, top

rows = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=5)


def ragged(r):
    return Ragged.of([torch.tensor(x, dtype=torch.int64) for x in r])


@given(rows)
def test_ragged_round_trip(r):
    x = ragged(r)
    assert [x[b].tolist() for b in range(len(x))] == r
    assert x.spread(torch.arange(len(x))).tolist() == x.row.tolist()
    assert x.check() is x


@given(rows, st.data())
def test_take_rows_repeats_and_reorders(r, data):
    wanted = data.draw(st.lists(st.integers(0, len(r) - 1), max_size=6))
    taken = ragged(r).take_rows(torch.tensor(wanted, dtype=torch.int64))
    assert [taken[b].tolist() for b in range(len(taken))] == [r[w] for w in wanted]


@given(rows, st.integers(0, 5))
def test_tail_keeps_the_last(r, most):
    last = ragged(r).tail(most)
    assert [last[b].tolist() for b in range(len(last))] == [
        row[max(0, len(row) - most) :] for row in r
    ]


@pytest.mark.parametrize(
    ("offsets", "message"),
    [([0, 2], "do not describe"), ([0, 3, 2, 3], "decrease"), ([1, 3], "do not describe")],
)
def test_broken_ragged_is_refused(offsets, message):
    with pytest.raises(ValueError, match=message):
        Ragged(torch.arange(3), torch.tensor(offsets)).check()


@given(rows)
def test_segment_ops_match_loops(r):
    x = ragged(r)
    v = x.values.double()
    assert segment_sum(v, x.offsets).tolist() == [sum(b) for b in r]
    mean = [sum(b) / len(b) if b else 0.0 for b in r]
    torch.testing.assert_close(
        segment_mean(v.unsqueeze(1), x.offsets)[:, 0], torch.tensor(mean).double()
    )
    want = torch.cat([x[b].double().softmax(0) for b in range(len(x))])
    torch.testing.assert_close(segment_softmax(v, x.offsets), want)


@given(rows, st.integers(0, 4))
def test_top_is_sorted_top_k_per_row(r, k):
    c = Candidates(ragged(r))
    kept = c.take(top(c.item_id.values.double(), c.item_id.offsets, torch.full((len(r),), k)))
    assert [kept.item_id[b].tolist() for b in range(len(r))] == [
        sorted(x, reverse=True)[:k] for x in r
    ]


@given(rows, st.integers(0, 4))
def test_head_is_the_first_k_per_row(r, k):
    c = Candidates(ragged(r))
    kept = c.take(head(c.item_id.offsets, torch.full((len(r),), k)))
    assert [kept.item_id[b].tolist() for b in range(len(r))] == [x[:k] for x in r]


@given(rows, st.one_of(st.none(), st.integers(1, 4)))
def test_pad_keeps_the_newest(r, length):
    x = ragged(r)
    padded, mask = pad(x.values.unsqueeze(1), x.offsets, length)
    size = length or max(1, *(len(b) for b in r))
    for b, row in enumerate(r):
        kept = row[-size:]
        assert padded[b, :, 0].tolist() == kept + [0] * (size - len(kept))
        assert mask[b].tolist() == [i < len(kept) for i in range(size)]


def test_take_must_stay_grouped():
    c = Candidates(ragged([[1, 2], [3]]))
    with pytest.raises(ValueError, match="grouped"):
        c.take(torch.tensor([2, 0]))


def test_a_scorer_cannot_drop_an_item():
    with pytest.raises(ValueError, match="2 in, 1 out"):
        Candidates(ragged([[1, 2]])).scored("rank", torch.zeros(1, 1))


def test_map_tensors_reaches_everything():
    requests = Requests(
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, dtype=torch.int64),
        {"history": ragged([[1], [2, 3]])},
        torch.zeros(2, dtype=torch.int64),
        ragged([[], [4]]),
    )
    meta = map_tensors(lambda t: t.to("meta"), requests)
    assert meta.time_ms.is_meta
    assert meta.ragged("history").values.is_meta
    assert meta.exclude.offsets.is_meta
