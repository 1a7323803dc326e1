"""The page needs nothing but itself, shows what there is, and copes with what there is not."""

import copy
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from headrace.evaluation import drawing
from headrace.evaluation.charts import charts
from headrace.evaluation.page import SECTIONS, headlines, render
from headrace.evaluation.tables import tables
from tests.evaluation.conftest import whole_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags, ids and texts of a page, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.texts = [], Counter(), Counter(), []
        self.links, self.pictures = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        values = dict(attributes)
        self.ids.update([values["id"]] if "id" in values else [])
        self.links += [values[k] for k in ("href", "src", "xlink:href") if k in values]
        if values.get("role") == "img":
            self.pictures.append(values["aria-label"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def whole():
    return render(whole_report())


@pytest.fixture
def undrawn(monkeypatch):
    """Charts are built but not drawn, which is what takes the time."""
    monkeypatch.setattr(drawing, "inline_svg", lambda figure, name, alt: alt)


def test_the_page_is_well_formed_and_self_contained(whole):
    page = Page(whole)
    assert not page.open
    assert not page.tags["script"] and not page.tags["img"]
    assert page.tags["link"] == 0
    assert all(link.startswith("#") for link in page.links)
    assert all(link[1:] in page.ids for link in page.links)
    assert not re.findall(r"url\((?!#)|@import", whole)
    assert max(page.ids.values()) == 1


def test_every_chart_and_table_is_shown_once_and_said_in_words(report, whole, undrawn):
    page = Page(whole)
    drawn, made = charts(report), tables(report)
    shown = [part for parts in SECTIONS.values() for part in parts]
    assert sorted(shown) == sorted([*drawn, *made])
    assert page.tags["figure"] == page.tags["figcaption"] == len(page.pictures) == len(drawn)
    assert page.tags["table"] == page.tags["caption"] == len(made)
    assert all(len(words) > 20 for words in page.pictures)
    for chart in drawn.values():
        assert chart.caption.endswith(".") and chart.caption in "".join(page.texts)


def test_headlines_say_how_far_ahead_of_each_baseline(report):
    first, new, *_, latency = headlines(report)
    assert (first.value, first.error) == ("0.183", "± 0.006")
    assert [r.text for r in first.remarks] == [
        "+13.7 % against repurchase",
        "+125.9 % against popular",
    ]
    assert {r.tone for r in first.remarks} == {"good"}
    assert [r.text for r in new.remarks] == ["+42.9 % against popular"]
    assert (latency.value, latency.unit) == ("18.4", "ms")
    report["cascade"]["recall@10"] = 0.1
    assert headlines(report)[0].remarks[0].tone == "bad"


def test_colours_come_from_the_style_sheet_and_text_stays_text(whole):
    svg = whole[whole.index("<svg") : whole.rindex("</svg>")]
    painted = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
    assert painted and all(color.startswith("var(--") for color in painted)
    assert ">retrieval</text>" in svg
    assert "font-family" not in svg


def test_the_same_report_gives_the_same_page(least, report):
    least["training"] = report["training"]
    assert render(least) == render(least)


def without(report, path):
    part = report
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        (("retrieval",), {"channels", "retrieval", "overlap", "exclusive"}),
        (("preranking",), {"hit", "preranking", "consistency", "sets", "kinds"}),
        (("ranking",), {"calibration", "ranking"}),
        (("d_category",), {"reach", "d_category"}),
        (("cascade",), {"standings", "funnel", "latency", "baselines", "stages"}),
        (("training",), {"training"}),
        (("seconds",), {"seconds"}),
        (("baselines",), set()),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_a_missing_stage_leaves_its_charts_and_tables_out(report, path, gone, undrawn):
    without(report, path)
    shown = {part for parts in SECTIONS.values() for part in parts}
    assert shown - {*charts(report), *tables(report)} == gone
    headlines(report)


def test_missing_details_are_done_without(report, undrawn):
    for path in (
        "created",
        "retrieval overlap",
        "retrieval merged new_to_user",
        "retrieval merged se",
        "retrieval channels swing new_to_user",
        "preranking consistency",
        "ranking din sd",
        "ranking din seeds",
        "cascade new_to_user",
        "cascade se",
        "cascade latency_ms",
        "cascade stage_ms",
        "cascade funnel",
        "baselines popular new_to_user",
        "baselines popular delta_se",
    ):
        without(report, path.split())
    page = Page(render(report))
    assert page.tags["figure"] == 7  # of 10: no overlap, funnel and latency
    assert page.tags["table"] == len(tables(report)) == 8


def test_the_least_report_makes_a_page(least):
    page = Page(render(least))
    assert not page.tags["figure"]
    assert page.tags["table"] == 1


def emptied(part):
    """The same report with every number undefined."""
    if isinstance(part, dict):
        return {key: emptied(value) for key, value in part.items()}
    if isinstance(part, list):
        return [emptied(value) for value in part]
    return None if isinstance(part, float) else part


def test_a_report_of_undefined_numbers_makes_a_page(report):
    assert not Page(render(emptied(report))).open


def test_a_part_without_entries_makes_a_page(report):
    hollow = copy.deepcopy(report)
    for key in ("ranking", "baselines", "training", "seconds"):
        hollow[key] = {}
    hollow["retrieval"]["channels"] = {}
    hollow["retrieval"]["overlap"] = {"channels": [], "jaccard": [], "share": []}
    hollow["preranking"]["hit"] = {}
    hollow["cascade"] |= {"stage_ms": {}, "funnel": {}}
    assert not Page(render(hollow)).open


def test_names_are_shown_as_they_are(least, report):
    name = "<b>$a$ & b_c"
    least["config"] = name
    least["retrieval"] = report["retrieval"]
    least["retrieval"]["channels"] = {name: report["retrieval"]["channels"]["swing"]}
    del least["retrieval"]["overlap"]
    page = Page(render(least))
    assert not page.open
    assert page.texts.count(name) == 4  # the head, two charts, one table


@pytest.mark.parametrize(("p", "y"), [(0.0, 0.0), (1e-9, 1.0), (1.0, 0.0)])
def test_extreme_calibration_can_be_drawn(least, report, p, y):
    bins = [{"p": p, "y": y, "se": 0.0, "count": 3}]
    least["ranking"] = {"lr": {**report["ranking"]["lr"], "calibration": bins}}
    assert "<svg" in charts(least)["calibration"].svg
