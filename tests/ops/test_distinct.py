"""Columns of items as places in one list without repeats."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.ops.distinct import distinct

COLUMNS = st.lists(
    st.lists(st.one_of(st.integers(0, 9), st.integers(0, 10_000)), max_size=30),
    min_size=1,
    max_size=4,
)


@given(COLUMNS)
def test_columns_are_places_in_a_list_without_repeats(columns):
    items_U, places = distinct(*(torch.tensor(c, dtype=torch.int64) for c in columns))
    assert sorted(items_U.tolist()) == sorted({i for c in columns for i in c})
    assert [items_U[place].tolist() for place in places] == columns
