"""The tables that a terminal shows."""

import io

import pytest
from rich.console import Console

from headrace.evaluation import print_report
from headrace.evaluation.cells import gain, number, spread
from headrace.evaluation.tables import tables


def printed(report, width):
    out = io.StringIO()
    print_report(report, Console(file=out, width=width))
    return out.getvalue()


def test_the_terminal_shows_every_table_and_the_figures_that_matter(report):
    text = printed(report, 160)
    for table in tables(report).values():
        assert table.title in text
    for figure in (
        "0.183 ± 0.006",
        "+0.022 ± 0.003 (+13.7 %)",
        "0.0243",
        "0.437",
        "1,318",
        "0.994",
    ):
        assert figure in text
    for figure in ("0.8060 ± 0.0016", "1.011 ± 0.011", "1,611 (117)", "p99 18.4 ms", "1,455,732"):
        assert figure in text


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_is_no_error(report, width):
    assert max(len(line) for line in printed(report, width).splitlines()) <= width


def test_baselines_are_listed_from_the_strongest(report):
    assert [row[0] for row in tables(report)["baselines"].rows] == [
        "cascade",
        "repurchase",
        "popular",
    ]


def test_every_row_has_every_column(report):
    for table in tables(report).values():
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_bins_of_days_are_named_and_end_open(report):
    rows = tables(report)["d_category"].rows
    names = ["never", "0 to 1", "1 to 3", "3 to 7", "7 to 14", "14 to 30", "30 to 90", "90 or more"]
    assert [row[0] for row in rows] == [*names, "ever", "mean days, if ever", "items"]
    assert rows[5][1:5] == ("0.130", "0.100", "0.100", "0.100")
    assert rows[9][1:5] == ("13.3", "11.2", "10.8", "9.9")


def test_what_is_left_out_is_said(report):
    assert ("left out", "some_part: there is nothing to be said of it") in tables(report)[
        "data"
    ].rows


def test_the_total_time_is_the_sum(report):
    *steps, (name, total) = tables(report)["seconds"].rows
    assert name == "total"
    assert float(total) == pytest.approx(sum(float(seconds) for _, seconds in steps))


def test_numbers_for_people():
    assert number(None) == number(None, 1) == "–"
    assert number(1234.5678, 1) == "1,234.6"
    assert spread(0.5, None) == "0.500"
    assert spread(0.5, 0.01, 2) == "0.50 ± 0.01"
    assert gain(0.11, 0.1) == "+10.0 %"
    assert gain(0.09, 0.1) == "-10.0 %"
    assert gain(0.1, 0.0) == gain(None, 0.1) == gain(0.1, None) == "–"
