"""A world as the source of a cascade's log."""

import pytest

from headrace.app import App
from headrace.config import parse
from headrace.errors import ConfigError
from headrace.log import ingest
from headrace.log.sources.world import World

SMALL = """
name = "simulated"
[source]
kind = "world"
[source.world]
preset = "shop"
seed = 3
catalogue = { items = 400 }
people = { users = 60, events_per_user = 80 }
[schema.features]
item = { of = "item", encode = "id" }
[samples]
tasks = ["buy"]
[retrieval.popular]
kind = "popular"
[preranking]
kind = "vector"
[ranking]
kind = "lr"
[value]
formula = "p_buy"
[reranking]
kind = "top"
[allocation]
kind = "fixed"
[allocation.quota]
popular = 50
retrieval = 50
preranking = 20
reranking = 10
"""


def test_one_file_says_the_world_and_the_cascade(tmp_path):
    source = parse(SMALL, App).source.build()
    log, changed = ingest(source, tmp_path / "log")
    assert changed
    assert log.manifest.num_users == 61
    assert log.manifest.num_items == 401
    again, changed = ingest(parse(SMALL, App).source.build(), tmp_path / "log")
    assert not changed
    assert again.path == log.path


def test_a_setting_of_the_world_that_does_not_exist_is_named():
    with pytest.raises(
        ConfigError,
        match=r"config.toml:\d+: source.world: preset: no such preset 'shp'; did you mean 'shop'",
    ):
        parse(SMALL.replace('preset = "shop"', 'preset = "shp"'), App)


def test_defaults():
    assert World.Config().build().config.preset == "shop"
