"""Worlds are described by a preset and what differs from it; mistakes get one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace import config as settings
from headrace.errors import ConfigError
from headrace.world import PRESETS, Simulation, World, simulate_file
from headrace.world.config import CatalogueConfig
from headrace.world.signals import LongTerm


def parse(text: str) -> World.Config:
    return settings.parse(f'log = "x"\n[world]\n{text}', Simulation, "world.toml").world


def test_every_preset_is_valid_and_described_by_what_it_changes():
    for name in PRESETS:
        config = parse(f'preset = "{name}"')
        assert config == World.Config(preset=name)
        assert (
            config.model_dump(exclude={"preset"}) == World.Config().model_dump(exclude={"preset"})
        ) == (name == "shop")


def test_signals_are_off_unless_asked_for():
    shop = World.Config()
    assert shop.long_term.strength == shop.order.strength == shop.interaction.strength == 0
    assert shop.dwell.strength == shop.value.spread == 0
    assert shop.substitutes.span == 1 and shop.next_item is None


def test_settings_win_over_the_preset_one_by_one():
    config = parse('preset = "long_term"\nseed = 7\nlong_term.ring = 30\ncatalogue.tree = [8, 8]')
    assert (config.seed, config.long_term.ring, config.catalogue.tree) == (7, 30, (8, 8))
    assert config.long_term.strength == 1.2 and config.catalogue.items == 20_000
    in_python = World.Config(
        preset="long_term",
        seed=7,
        long_term=LongTerm(ring=30),
        catalogue=CatalogueConfig(tree=(8, 8)),
    )
    assert in_python == config
    assert World.Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "w2"', r"world.toml:2: world: preset: no such preset 'w2'; .*w1"),
        (
            "order.stepz = 3",
            r"world.toml:3: world.order.stepz: no such setting; did you mean 'steps'",
        ),
        (
            "slate.pool = 5",
            r"world.toml:\d: world.slate: pool: 5 candidates cannot fill a page of 10",
        ),
        ("catalogue.tree = [0, 5]", r"world.catalogue: tree: every level needs a branch"),
        ("catalogue.items = 20", r"world.catalogue: tree: 200 categories for 20 items"),
        (
            "long_term.strength = 1\nlong_term.ring = 200",
            r"long_term.ring: 200 of 200 leaves too little .* want at most 150",
        ),
        ("substitutes.span = 3", r"substitutes.span: 200 categories do not part into groups of 3"),
        ("order.strength = 1\ncatalogue.tree = [5]", r"order.steps: want at most 3"),
        ("slate.pages = 0", r"slate.pages: 0, so nothing is shown"),
        ("interaction.buckets = 7", r"world.interaction.buckets: input should be a multiple of 2"),
        ("funnel.view = 1.5", r"world.funnel.view: input should be less than 1"),
        ('preset = "w1"\nnext_item.recent = 30', r"next_item.recent: 30 of a history of 20"),
        ('preset = "w1"\nnext_item.categories = 65', r"next_item.categories: there are 64"),
        ('preset = "w1"\nnext_item.neighbours = 4096', r"next_item.neighbours: there are 4096"),
        ('preset = "w1"\npeople.users = 10', r"next_item.test_users: there are 10 users"),
    ],
)
def test_mistakes(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_a_file_is_simulated(tmp_path: Path):
    file = tmp_path / "world.toml"
    file.write_text(
        f'log = "{tmp_path / "log"}"\n[world]\npeople = {{ users = 20, events_per_user = 50 }}\n'
        "catalogue = { items = 500, tree = [5, 5] }\n"
    )
    log = simulate_file(file)
    assert log.manifest.num_users == 21 and log.manifest.num_items == 501
    called: list[int] = []
    again = simulate_file(file, progress=lambda done, of: called.append(done))
    assert again.path == log.path and not called  # nothing to do
