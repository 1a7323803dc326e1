"""Raw ids are found whatever they look like."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from headrace.behavior.ids import RawIds


@given(st.lists(st.text(max_size=4), unique=True, max_size=30), st.lists(st.text(max_size=4)))
def test_it_is_a_dict(known, asked):
    ids = ["<unknown>", *(i for i in known if i != "<unknown>")]
    rows = dict(zip(ids, range(len(ids)), strict=True))
    found = RawIds(pl.Series(ids, dtype=pl.String))
    assert len(found) == len(ids)
    assert found.rows([*ids, *asked]).tolist() == [rows.get(i, 0) for i in [*ids, *asked]]


def test_a_slice_of_a_longer_column():
    column = pl.Series(["b", "<unknown>", "b", "ä", "a"])[1:4]
    assert RawIds(column).rows(["a", "b", "ä", ""]).tolist() == [0, 1, 2, 0]


def test_one_id_is_found_as_many_are():
    ids = RawIds(pl.Series(["", *(f"u{i}" for i in range(200))]))
    some = [*(f"u{i}" for i in range(0, 200, 7)), "u200", "nobody"]
    assert [ids.row(raw) for raw in some] == ids.rows(some).tolist()
    assert ids.rows([]).tolist() == []
