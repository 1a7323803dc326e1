"""Mistakes in a TOML file are answered with file, line, key and remedy."""

from pathlib import Path

import pytest

from headrace.app import App
from headrace.config import Kinds, load, parse
from headrace.errors import ConfigError

EXAMPLE = Path(__file__).parents[1] / "examples" / "complete_journey.toml"
GOOD = EXAMPLE.read_text()


def line_of(text, part):
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


MISTAKES = {  # what to write instead of what -> message, {line} being that of the second
    "unknown key": (
        'kind = "sim"',
        'kind = "sim"\nhiden = [32, 16]',
        "hiden",
        "shop.toml:{line}: ranking.hiden: no such setting; did you mean 'hidden'?",
    ),
    "unknown kind": (
        'kind = "sim"',
        'kind = "simm"',
        'kind = "simm"',
        "shop.toml:{line}: ranking.kind: no such kind 'simm'; did you mean 'sim'?",
    ),
    "text for a number": (
        "[ranking]",
        '[prerank_training]\nrequests_per_batch = "64"\n\n[ranking]',
        "requests_per_batch",
        "shop.toml:{line}: prerank_training.requests_per_batch: input should be a valid integer, got '64'",
    ),
    "out of range": (
        "test_days = 14",
        "test_days = -1",
        "test_days",
        "shop.toml:{line}: samples.test_days: input should be greater than 0, got -1",
    ),
    "unknown feature": (
        'attend = ["item"',
        'attend = ["itm"',
        "",
        "no item feature 'itm'; did you mean 'item'?",
    ),
    "unknown sequence": (
        'history = "recent"',
        'history = "recnt"',
        "",
        "no sequence 'recnt'; did you mean 'recent'?",
    ),
    "no such side": (
        'brand = { of = "item" }',
        'brand = { of = "itm" }',
        'of = "itm"',
        "shop.toml:{line}: schema.features.brand.of: no such choice 'itm'; did you mean 'item'?",
    ),
    "table nobody reads": (
        "type = { dim = 16 }",
        "typo = { dim = 16 }",
        "",
        "tables.typo: no feature reads it; did you mean 'type'?",
    ),
    "unknown channel in a quota": (
        "swing = 400",
        "swings = 200",
        "",
        "allocation.quota: no such stage or channel 'swings'; did you mean 'swing'?",
    ),
    "unknown tier": (
        'tiers = ["lr"]',
        'tiers = ["mpl"]',
        "",
        "tiers: no ranker 'mpl' in [compare]; did you mean 'mlp'?",
    ),
    "missing": ('tasks = ["buy"]\n', "", "[samples]", "shop.toml:{line}: samples.tasks: required"),
    "formula": ("p_buy", "p_buy +", "", "shop.toml"),
    "not TOML": ("[source]", "[source", "", "shop.toml: not TOML:"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_the_users_terms(name):
    good, bad, at, message = MISTAKES[name]
    assert good in GOOD
    text = GOOD.replace(good, bad, 1)
    with pytest.raises(ConfigError) as error:
        parse(text, App, "shop.toml")
    said = str(error.value)
    assert message.format(line=line_of(text, at)) in said
    assert said.startswith("shop.toml")
    assert "\n" not in said


def test_the_example_is_right():
    app = load(EXAMPLE, App)
    assert app.name == "complete_journey"
    assert app.ranking.kind == "sim"
    assert app.schema_.dim_of("item") == 32


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load(tmp_path / "nowhere.toml", App)


def test_a_kind_of_ones_own(tmp_path, monkeypatch):
    """A dotted kind names a module of the user's; no registration."""
    (tmp_path / "own_ranker.py").write_text(
        """
from typing import Literal, final
from headrace.ranking import Ranker, RankerConfig

@final
class Own(Ranker):
    class Config(RankerConfig):
        kind: Literal["own.ranker"] = "own.ranker"
        depth: int = 3
""".replace("own.ranker", "ours.own_ranker")
    )
    package = tmp_path / "ours"
    package.mkdir()
    (package / "__init__.py").touch()
    (tmp_path / "own_ranker.py").rename(package / "own_ranker.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = GOOD.replace('kind = "sim"', 'kind = "ours.own_ranker"\ndepth = 5', 1)
    settings = 'attend = ["item", "category", "type"]', 'history = "recent"', "attention = [16]"
    for line in (*settings, "interval_dim = 0"):
        text = text.replace(line, "", 1)
    assert parse(text, App).ranking.depth == 5
    with pytest.raises(ConfigError, match="no such module"):
        parse(text.replace("ours.own_ranker", "ours.none"), App)


def test_kinds_are_the_files_of_a_package():
    assert {"din", "lr", "mlp"} <= set(Kinds("headrace.ranking").names())
    assert not [n for n in Kinds("headrace.ranking").names() if n.startswith("_")]


def test_json_schema_describes_every_kind():
    text = str(App.model_json_schema(by_alias=True))
    for part in ("hidden layers", "table_l2", "complete_journey", "two_tower"):
        assert part in text
