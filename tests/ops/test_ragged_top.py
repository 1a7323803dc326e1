"""The best of each row, alone and among others."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops import ragged

rows = st.lists(st.lists(st.integers(-3, 3), max_size=60), min_size=1, max_size=4)


@given(rows, st.integers(0, 70))
def test_alone_as_among_others_and_ties_keep_their_order(rows, quota):
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    score_N = torch.tensor([float(x) for row in rows for x in row])
    got_K = ragged.top(score_N, offsets, torch.full((len(rows),), quota)).tolist()
    want: list[int] = []
    for start, row in zip(offsets.tolist(), rows, strict=False):
        best = sorted(range(len(row)), key=lambda at, row=row: (-row[at], at))[:quota]
        want += [start + at for at in best]
        own_N = torch.tensor([float(x) for x in row])
        alone_K = ragged.top(own_N, torch.tensor([0, len(row)]), torch.tensor([quota]))
        assert alone_K.tolist() == best
        own = own_N, torch.tensor([0, len(row)]), torch.tensor([quota])
        assert ragged.top_in_place(*own).tolist() == sorted(best)
    assert got_K == want
    quota_B = torch.full((len(rows),), quota)
    assert ragged.top_in_place(score_N, offsets, quota_B).tolist() == sorted(want)


def test_what_is_no_number_comes_last_alone_as_among_others():
    score_N = torch.tensor([torch.nan, 1.0, torch.nan, 3.0, 2.0])
    alone = score_N, torch.tensor([0, 5]), torch.tensor([4])
    both = score_N.repeat(2), torch.tensor([0, 5, 10]), torch.tensor([4, 2])
    assert ragged.top_in_place(*alone).tolist() == [0, 1, 3, 4]
    assert ragged.top_in_place(*both).tolist() == [0, 1, 3, 4, 8, 9]
    assert ragged.top(*alone).tolist() == [3, 4, 1, 0]
    assert ragged.top(*both).tolist() == [3, 4, 1, 0, 8, 9]
