"""Delivery rates: smoothed shares of whole days before the request, the same for all who ask."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.behavior.stores.memory import MemoryStore
from headrace.data import Candidates, Ragged
from headrace.errors import DataError
from headrace.features import FeatureBuilder
from headrace.features.delivery import DOUBT, Delivery
from headrace.log.delivery import Counts, DeliveryFiles
from headrace.schema import RATES
from tests import tiny

FIRST = tiny.START_MS // tiny.DAY_MS
WITH_RATES = {
    **tiny.SCHEMA,
    "features": {
        **tiny.SCHEMA["features"],
        "item_delivery_7": {"of": "cross"},
        "passing": {"of": "cross", "column": "item_passing_28"},
    },
}


@pytest.fixture
def log(tmp_path):
    """The tiny log with counts of a day in three."""
    log, rng = tiny.write(tmp_path, tiny.raw_log()), np.random.default_rng(3)
    files, items = DeliveryFiles(log), np.arange(1, 61)
    items = items[items % 5 > 0]  # the others never got that far
    for day in range(FIRST, FIRST + tiny.DAYS, 3):
        entered = rng.integers(1, 200, len(items))
        passed = rng.integers(0, entered + 1)
        files.write(day, Counts(items, np.stack([entered, passed, rng.integers(0, passed + 1)])))
    return log


def rates_of(log, item_N, time_ms, column="item_delivery_7"):
    item_N = np.asarray(item_N)
    return Delivery.read(log).rate(column, item_N, np.full(len(item_N), time_ms))


table = st.dictionaries(
    st.tuples(st.integers(0, 9), st.integers(1, 4)),  # day, item
    st.tuples(*[st.integers(0, 9)] * 3).map(lambda c: sorted(c, reverse=True)),
    max_size=20,
)


@given(table, st.sampled_from(sorted(RATES)), st.integers(0, 40), st.integers(0, 5))
def test_the_rate_is_its_formula(table, column, day, item):
    rows = [(d, i, *c) for (d, i), c in table.items()]
    for d in range(10):
        of_day = [c for (at, _), c in table.items() if at == d]
        rows.append((d, 0, *np.sum([(0, 0, 0), *of_day], axis=0)))
    day_n, item_n, *count_3n = np.array(rows, np.int64).T
    delivery = Delivery._of(item_n, day_n, np.array(count_3n), 6)
    what, days = RATES[column]
    k = {"passing": 1, "delivery": 2}[what]
    own = [c for (d, i), c in table.items() if i == item and day - days <= d < day]
    every = [c for (d, _), c in table.items() if day - days <= d < day]
    entered = sum(c[0] for c in own)
    got = delivery.rate(column, np.array([item]), np.array([day * tiny.DAY_MS + 5]))[0]
    if item == 0 or entered == 0:
        assert item == 0 or np.isnan(got)
        return
    usual = sum(c[k] for c in every) / sum(c[0] for c in every)
    assert got == pytest.approx((sum(c[k] for c in own) + DOUBT * usual) / (entered + DOUBT))


@pytest.mark.parametrize("column", sorted(RATES))
def test_counts_of_the_day_and_of_later_ones_are_invisible(log, column):
    """Whatever happens from the request's day on, no rate as of it changes; a day later it does."""
    day, items = FIRST + 30, np.arange(61)
    before = rates_of(log, items, day * tiny.DAY_MS + 7, column)
    files = DeliveryFiles(log)
    for later in (day, day + 1, day + 20):
        files.write(later, Counts(items[1:], np.full((3, 60), 10_000)))
    assert np.array_equal(before, rates_of(log, items, day * tiny.DAY_MS + 7, column), True)
    last_ms = (day + 1) * tiny.DAY_MS - 1
    assert np.array_equal(before, rates_of(log, items, last_ms, column), True)
    assert (rates_of(log, items, last_ms + 1, column)[1:] > 0.9).all()


def test_items_that_never_got_that_far_are_unknown(log):
    samples = tiny.samples(log, schema=WITH_RATES)
    rows = samples.requests("valid")[:40]
    found = Candidates(samples.truth(rows))
    made = samples.builder.candidates(samples.features(rows), found, samples.store)
    unseen = found.item_id.values % 5 == 0
    assert unseen.any()
    for name in ("item_delivery_7", "passing"):
        ids = made.features[name]
        assert torch.equal(ids == 0, unseen), name
        assert len(ids.unique()) > 3
        assert ids.max() < samples.space.rows_of(name)


def test_training_and_serving_see_the_same(log):
    """Samples of the mapped log, and a builder of its own over a live store."""
    samples = tiny.samples(log, schema=WITH_RATES)
    rows = samples.requests("train")[-30:]
    batch = samples.batch(samples.draw(rows, seed=1))
    builder, store = FeatureBuilder(samples.space, log), MemoryStore(log)
    requests = builder.requests(samples.asked(rows), store)
    live = builder.candidates(requests, Candidates(batch.candidates.item_id), store)
    for name in ("item_delivery_7", "passing"):
        assert torch.equal(batch.candidates.features[name], live.features[name])
        assert len(live.features[name].unique()) > 3


def test_days_before_the_first_asked_for_are_not_read(log):
    day = FIRST + 60
    whole, late = Delivery.read(log), Delivery.read(log, since_day=day - 28)
    assert late.day.min() >= day - 28 > whole.day.min()
    asked = np.arange(61), np.full(61, day * tiny.DAY_MS)
    for column in RATES:
        assert np.array_equal(whole.rate(column, *asked), late.rate(column, *asked), True)


def test_a_feature_without_counts_is_refused_in_one_line(tmp_path):
    log = tiny.write(tmp_path, tiny.raw_log())
    tiny.samples(log)  # who does not ask for it needs none
    with pytest.raises(DataError, match=r"schema.features.item_delivery_7") as told:
        tiny.samples(log, schema=WITH_RATES)
    message = str(told.value)
    assert message.startswith(str(log.folder / "delivery"))
    assert "headrace prerank delivery RUN" in message
    assert "\n" not in message


def test_a_teacher_may_read_rates_that_serving_does_not(log):
    features = {**tiny.SCHEMA["features"], "item_delivery_1": {"of": "privileged"}}
    samples = tiny.samples(log, schema={**tiny.SCHEMA, "features": features})
    rows = samples.requests("train")[-30:]
    batch = samples.batch(samples.draw(rows, seed=1))
    assert len(batch.candidates.features["item_delivery_1"].unique()) > 3


def test_what_an_item_keeps_all_day_is_what_would_be_made_afresh(log):
    """Requests alone are of one day, and take what is kept; several are of several."""
    samples = tiny.samples(log, schema=WITH_RATES)
    names = ["item_popularity_28", "passing", "item_delivery_7"]
    rows = samples.requests("valid")[::9]
    items = Ragged.of([torch.arange(1 + at % 7, 61, 2) for at in range(len(rows))])
    builder, store = samples.builder, samples.store
    afresh = builder.candidates(samples.features(rows), Candidates(items), store, names=names)
    for _ in range(2):
        for at in np.random.default_rng(1).permutation(len(rows)):
            some = names[: 1 + at % 3]
            alone = Candidates(items.take_rows(torch.tensor([at])))
            kept = builder.candidates(samples.features(rows[[at]]), alone, store, names=some)
            for name in some:
                want = items.with_values(afresh.features[name])[at]
                assert torch.equal(kept.features[name], want), name


def test_counts_that_a_server_replaces_are_read_from_then_on(log):
    samples = tiny.samples(log, schema=WITH_RATES)
    builder, requests = samples.builder, samples.features(samples.requests("valid")[[3]])
    found, whole = Candidates(Ragged.of([torch.tensor([6, 7, 8])])), builder.delivery

    def passing():
        made = builder.candidates(requests, found, samples.store, names=["passing"])
        return made.features["passing"].tolist()

    first = passing()
    builder.delivery = Delivery.none(log.manifest.num_items)
    assert passing() == [0, 0, 0] != first
    builder.delivery = whole
    assert passing() == first
