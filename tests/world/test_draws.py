"""Random numbers by name, alias tables and the clock."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from headrace.world import catalogue as catalogues
from headrace.world import clock, rng
from headrace.world.catalogue import Catalogue
from tests.world.shown import config

KEY = np.uint64(17)


@njit
def draws(key: np.uint64, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    keys, uniform = np.empty(size, np.uint64), np.empty(size)
    normal, logistic = np.empty(size), np.empty(size)
    for i in range(size):
        keys[i] = rng.mix(key, i)
        uniform[i] = rng.uniform(keys[i])
        normal[i] = rng.normal(keys[i])
        logistic[i] = rng.logistic(keys[i])
    return keys, uniform, normal, logistic


@njit
def session_of_pages(
    key: np.uint64, window_ms: float, session: int, pages: int, start_ms: int
) -> np.ndarray:
    start, page_ms = clock.begin(key, window_ms, session, pages, start_ms)
    found = np.empty(pages, np.int64)
    for page in range(pages):
        found[page] = clock.session_at(start + page * page_ms, start_ms, window_ms)
    return found


@njit
def there_and_back(busy: float) -> tuple[float, float]:
    wall = clock.wall_ms(busy)
    return wall, clock.busy_ms(wall)


def test_numbers_by_name_are_repeatable_and_well_spread():
    keys, uniform, normal, logistic = draws(KEY, 20_000)
    assert np.array_equal(keys[:5], draws(KEY, 5)[0]) and len(np.unique(keys)) == len(keys)
    assert uniform.min() > 0 and uniform.max() < 1
    counts = np.histogram(uniform, 20, (0, 1))[0]
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 45  # chi-square, 19 degrees of freedom
    assert abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 0.03
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03
    assert abs(logistic.mean()) < 0.05 and abs(logistic.std() - np.pi / np.sqrt(3)) < 0.05


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60), st.integers(0, 5))
def test_alias_table_holds_its_weights(weights: list[float], before: int):
    weight = np.array([1.0] * before + weights)
    offsets = np.array([0, before, len(weight)])
    offsets = offsets[1:] if before == 0 else offsets
    table = np.zeros(len(weight), rng.ALIAS)
    rng.alias_table(weight, offsets, np.arange(len(weight)), table)
    part = table[before:]
    chance = np.zeros(len(weight))
    np.add.at(chance, part["value"], part["keep"] / len(part))
    np.add.at(chance, part["other"], (1 - part["keep"]) / len(part))
    exact = weight / weight[before:].sum()
    assert np.allclose(chance[before:], exact[before:], atol=1e-6) and not chance[:before].any()


def test_items_are_drawn_by_popularity():
    catalogue = Catalogue.make(config())
    keys = draws(KEY, 200_000)[0]
    counts = np.bincount(catalogues.draw_items(catalogue.shelf, keys), minlength=2_000)
    expected = catalogue.popularity * len(keys)
    head = expected > 50
    assert ((counts - expected)[head] ** 2 / expected[head]).sum() < 1.5 * head.sum()


@given(st.floats(0, 4e10))
def test_the_busy_clock_runs_back(busy: float):
    wall, back = there_and_back(busy)
    assert abs(back - busy) < 1 and there_and_back(busy + 1_000.0)[0] > wall


@given(st.integers(0, 2**63), st.floats(2e4, 1e10), st.integers(0, 1_000), st.integers(1, 8))
def test_a_session_is_found_from_any_of_its_pages(
    key: int, window: float, session: int, pages: int
):
    assert (session_of_pages(np.uint64(key), window, session, pages, 1_000_000) == session).all()


def test_catalogue_is_what_the_config_says():
    settings = config(catalogue={"category_skew": 1.0, "items": 5_000})
    catalogue = Catalogue.make(settings)
    frame = catalogue.frame
    assert frame["category"].n_unique() == 64 and frame["department"].n_unique() == 8
    sizes = frame["category"].value_counts()["count"]
    assert sizes.min() >= 1 and sizes.std() / sizes.mean() > 0.5
    assert frame.select("category", "department").n_unique() == 64  # a branch each
    per_make = np.bincount(frame["make"], catalogue.popularity)
    assert len(per_make) == 32 and (frame["make"].value_counts()["count"] >= 5_000 // 32).all()
    assert frame["price"].min() > 0 and frame["bid"].min() > 0
    unit = catalogue.shelf.unit
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    same = (
        catalogue.shelf.goods["category"][:500, None]
        == catalogue.shelf.goods["category"][None, :500]
    )
    cosine = unit[:500] @ unit[:500].T
    assert cosine[same].mean() > cosine[~same].mean() + 0.3


def test_substitutes_are_near_and_in_other_branches():
    settings = config(substitutes={"span": 4})
    shelf = Catalogue.make(settings).shelf
    category = shelf.goods["category"]
    assert shelf.num_groups == 16
    first = np.array([shelf.unit[category == c].mean(axis=0) for c in range(64)])
    cosine = (
        first @ first.T / np.outer(np.linalg.norm(first, axis=1), np.linalg.norm(first, axis=1))
    )
    groups = np.arange(64) % 16
    together = (groups[:, None] == groups[None, :]) & ~np.eye(64, dtype=bool)
    assert cosine[together].mean() > 0.7 and cosine[~together].mean() < 0.3
    assert (shelf.root[:, None] != shelf.root[None, :])[together].all()
