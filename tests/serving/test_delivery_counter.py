"""The server counts what becomes of candidates, and what it wrote lasts."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headrace.errors import DataError
from headrace.features import FeatureBuilder
from headrace.features.delivery import Delivery
from headrace.log.delivery import DeliveryFiles
from headrace.serving import delivery
from headrace.serving.delivery import DeliveryCounter, tally
from headrace.serving.wire import Ask, Filters
from headrace.stages import Plan
from tests.serving import shop
from tests.serving.conftest import ready, served

TODAY = shop.START_MS // shop.DAY_MS + 100


class Day:
    """A clock that is put forward by hand."""

    def __init__(self):
        self.day = TODAY

    def __call__(self):
        return self.day * shop.DAY_MS + 5


@pytest.fixture
def world(tmp_path):
    """A log of its own, a trace of six requests, a clock."""
    log = shop.write(tmp_path)
    made = shop.service(log)
    readings, store = made.reader.read([Ask(user=f"u{n}") for n in range(shop.USERS)])
    requests, cascade = made.requests(readings, store), made.shelf.cascade
    trace = cascade.run(requests, Plan.constant(shop.QUOTA, len(requests)), store)
    return SimpleNamespace(log=log, cascade=cascade, trace=trace, clock=Day())


def counter(world):
    return DeliveryCounter(world.log, world.cascade.builder, world.clock)


def counted(world, day=TODAY):
    """On disk, as counts of every item."""
    told = DeliveryFiles(world.log).read(day)
    count_3I = np.zeros((3, world.log.manifest.num_items), np.int64)
    count_3I[:, told.item] = told.count_3n
    return count_3I


def expected(trace):
    stages = ("retrieval", "preranking", "reranking")
    return np.stack(
        [np.bincount(trace.after[s].item_id.values, minlength=shop.ITEMS + 1) for s in stages]
    )


def test_a_trace_is_counted_stage_by_stage(world):
    count_3I = np.zeros((3, shop.ITEMS + 1), np.int32)
    tally(count_3I, world.trace)
    assert np.array_equal(count_3I, expected(world.trace))
    assert count_3I.sum(axis=1)[1:].tolist() == [8 * 6, 4 * 6]


def test_requests_without_a_choice_do_not_count(world):
    """Their channels found as many as there are places, or fewer: all were shown."""
    count_3I, quota_B = np.zeros((3, shop.ITEMS + 1), np.int32), torch.full((6,), 4)
    quota_B[2] = 20
    quota = {**world.trace.plan.quota, "reranking": quota_B}
    after = world.trace.after
    tally(count_3I, SimpleNamespace(after=after, plan=Plan(quota)))
    assert count_3I.sum(axis=1)[1:].tolist() == [8 * 5, 4 * 5]
    left_out = np.bincount(after["retrieval"].item_id[2], minlength=shop.ITEMS + 1)
    assert np.array_equal(count_3I[0], expected(world.trace)[0] - left_out)


def test_counts_go_on_after_a_restart(world):
    for times in (1, 2):
        with_counter = counter(world)
        with_counter.observe(world.trace)
        with_counter.close()
        assert np.array_equal(counted(world), times * expected(world.trace))


def test_each_day_has_its_own_counts(world):
    running = counter(world)
    running.observe(world.trace)
    world.clock.day += 1
    running.observe(world.trace)
    running.observe(world.trace)
    running.close()
    assert np.array_equal(counted(world), expected(world.trace))
    assert np.array_equal(counted(world, TODAY + 1), 2 * expected(world.trace))


def test_a_crash_costs_what_was_not_written_and_says_so(world, caplog):
    crashed = counter(world)
    crashed.observe(world.trace)
    crashed.write()
    crashed.observe(world.trace)
    crashed._stop.set()  # the process dies: nothing is written, its lock is dropped
    crashed._thread.join()
    delivery.os.close(crashed._claimed)
    with caplog.at_level(logging.WARNING):
        counter(world).close()
    assert "was not stopped: up to 30 s of its counts are lost" in caplog.text
    assert np.array_equal(counted(world), expected(world.trace))
    caplog.clear()
    counter(world).close()
    assert not caplog.text


def test_one_server_counts_at_a_time(world):
    first = counter(world)
    with pytest.raises(DataError, match=r"delivery: another server is writing it"):
        counter(world)
    first.close()
    counter(world).close()


def test_counts_that_cannot_be_written_wait(world, caplog):
    running, files = counter(world), DeliveryFiles(world.log)
    obstacle = files.folder / f"{np.datetime64(TODAY, 'D')}.parquet" / "in the way"
    obstacle.mkdir(parents=True)
    for _ in range(2):
        running.observe(world.trace)
        running.write()
    assert caplog.text.count("the counts are kept in memory") == 1
    obstacle.rmdir()
    obstacle.parent.rmdir()
    running.observe(world.trace)
    running.close()
    assert np.array_equal(counted(world), 3 * expected(world.trace))


def test_a_finished_day_enters_the_features(world):
    builder = FeatureBuilder(
        world.cascade.builder.space, world.log
    )  # of a schema that reads none: give it some by hand
    builder.delivery = Delivery.none(world.log.manifest.num_items)
    running = DeliveryCounter(world.log, builder, world.clock)

    def rate(day):
        column = "item_delivery_1"
        return builder.delivery.rate(column, np.array([1]), np.array([day * shop.DAY_MS]))[0]

    running.observe(world.trace)
    running.write()
    assert np.isnan(rate(TODAY + 1))  # the day goes on
    world.clock.day += 1
    running.write()
    assert rate(TODAY + 1) > 0
    assert np.isnan(rate(TODAY))
    running.close()


def test_old_days_are_forgotten(world):
    running, files = counter(world), DeliveryFiles(world.log)
    running.observe(world.trace)
    running.write()
    world.clock.day += delivery.KEPT_DAYS
    running.observe(world.trace)
    running.write()
    assert files.days() == [TODAY, world.clock.day]
    world.clock.day += 1
    running.write()
    assert files.days() == [world.clock.day - 1]
    running.close()


def test_the_server_counts_what_it_serves_and_not_its_warm_up(tmp_path):
    log = shop.write(tmp_path)
    service = shop.service(log)
    running = DeliveryCounter(log, service.shelf.cascade.builder, service.clock.now_ms)
    service.delivery = running
    with served(service) as client:
        ready(client)
        for _ in range(3):
            assert client.post("/v1/recommend", json={"user": "u1"}).status_code == 200
    day = service.clock.now_ms() // shop.DAY_MS
    counts = DeliveryFiles(log).read(day).count_3n.sum(axis=1).tolist()
    assert counts == [3 * 20, 3 * 8, 3 * 4]


def test_a_search_that_is_widened_counts_once(tmp_path):
    log = shop.write(tmp_path)
    service = shop.service(log)
    traces = []
    service.add_observer(traces.append)
    service.answer([Ask(user="u1", filters=Filters(categories=["c0"]), k=10)])
    count_3I = np.zeros((3, shop.ITEMS + 1), np.int32)
    for trace in traces:
        tally(count_3I, trace)
    assert len(traces) > 1
    assert count_3I[0].max() <= 1
