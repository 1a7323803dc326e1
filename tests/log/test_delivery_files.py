"""Delivery counts on disk: whole or not at all, by raw ids, checked when read."""

import numpy as np
import polars as pl
import pytest

from headrace.errors import DataError
from headrace.log.delivery import Counts, DeliveryFiles
from tests import tiny

DAY = 19_800  # 2024-03-18


@pytest.fixture
def files(tmp_path):
    return DeliveryFiles(tiny.write(tmp_path, tiny.raw_log()))


def counts(**of_item):
    """i3=(5, 2, 1): item row 3 entered 5 times, was passed twice and shown once."""
    item = np.array([int(name[1:]) for name in of_item])
    return Counts(item, np.array(list(of_item.values())).T)


def plain(counts):
    return {int(i): c.tolist() for i, c in zip(counts.item, counts.count_3n.T, strict=True)}


def test_what_is_written_is_read(files):
    files.write(DAY, counts(i3=(5, 2, 1), i7=(4, 0, 0)))
    assert files.days() == [DAY]
    assert (files.folder / "2024-03-18.parquet").exists()
    assert plain(files.read(DAY)) == {3: [5, 2, 1], 7: [4, 0, 0]}
    files.write(DAY, counts(i3=(6, 2, 1)))
    assert plain(files.read(DAY)) == {3: [6, 2, 1]}
    assert [p.name for p in files.folder.iterdir()] == ["2024-03-18.parquet"]
    files.drop(DAY)
    assert files.days() == []


def test_a_day_without_a_file_has_no_counts(files):
    assert plain(files.read(DAY)) == {}
    assert files.days() == []


def test_counts_add_up_item_by_item():
    both = counts(i3=(5, 2, 1), i7=(4, 0, 0)).plus(counts(i2=(1, 1, 1), i7=(2, 2, 0)))
    assert plain(both) == {2: [1, 1, 1], 3: [5, 2, 1], 7: [6, 2, 0]}
    dense = np.zeros((3, 9), np.int32)
    dense[:, 4] = 3, 2, 1
    assert plain(Counts.of(dense)) == {4: [3, 2, 1]}


def test_other_programs_may_write_it_by_raw_ids(files):
    """Numbers as ids, in any order, twice, and an item that the log does not have."""
    files.folder.mkdir()
    pl.DataFrame(
        {"item": [7, 1, 7, 999], "entered": [3, 2, 1, 8], "passed": 1, "shown": [1, 0, 0, 1]}
    ).write_parquet(files.folder / "2024-03-18.parquet")
    ids = files._ids.to_list()
    assert plain(files.read(DAY)) == {ids.index("1"): [2, 1, 0], ids.index("7"): [4, 2, 1]}


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "no column": lambda path: pl.read_parquet(path).drop("passed").write_parquet(path),
    "more slates than requests": lambda path: (
        pl.read_parquet(path).with_columns(shown=pl.col("entered") + 1).write_parquet(path)
    ),
    "no numbers": lambda path: (
        pl.read_parquet(path).with_columns(shown=pl.lit(None, pl.Int64)).write_parquet(path)
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_in_one_line_with_the_remedy(damage, files):
    files.write(DAY, counts(i3=(5, 2, 1)))
    path = files.folder / "2024-03-18.parquet"
    DAMAGE[damage](path)
    with pytest.raises(DataError, match=r"damaged .*; remove it, or count that day again") as told:
        files.read(DAY)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_failed_write_leaves_the_old_counts(files):
    files.write(DAY, counts(i3=(5, 2, 1)))
    old = (files.folder / "2024-03-18.parquet").rename(files.folder / "kept")
    (files.folder / "2024-03-18.parquet" / "in the way").mkdir(parents=True)
    with pytest.raises(DataError, match=r"2024-03-18.parquet: cannot be written"):
        files.write(DAY, counts(i3=(9, 9, 9)))
    assert not [p for p in files.folder.iterdir() if p.name.startswith(".")]
    assert old.exists()
