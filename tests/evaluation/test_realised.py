"""Events find the slates that they answer, and chance among live requests corrects estimates."""

import numpy as np
import pytest

from headrace.allocation.actions import Actions
from headrace.allocation.experience import Experience
from headrace.allocation.features import Describer
from headrace.allocation.logged import Logged
from headrace.allocation.model import Model
from headrace.behavior import RawEvent
from headrace.behavior.stores.memory import MemoryStore
from headrace.errors import DataError
from headrace.evaluation import realised
from headrace.serving.reader import ANONYMOUS
from tests.serving import shop

HOUR = 3_600_000
TASKS = shop.TYPES


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return shop.write(tmp_path_factory.mktemp("shop"))


def lived(users, times, items, explored=None, first=None, share=0.5):
    size = len(users)
    return Experience(
        np.array(users),
        np.array(times),
        np.zeros(size, bool) if explored is None else np.array(explored),
        np.full(size, share),
        np.zeros(size, np.int64) if first is None else np.array(first),
        np.ones(size, np.int64),
        np.ones((size, 6)),
        [np.array(row, np.int32) for row in items],
        {"torn": 2},
    )


def test_events_answer_the_last_slate_that_showed_the_item(log):
    store = MemoryStore(log)
    start = store.last_ms + HOUR
    u1, u2 = store.user("u1"), store.user("u2")
    i3, i5 = store.items.row("i3"), store.items.row("i5")
    told = lived(
        [u1, u2, u1, u1, u1],
        [start, start, start + 1000, start + 2000, start + 3000],
        [[i3, i5], [i3], [i3], [], [i5]],
    )
    events = [
        ("u1", "i3", "buy", 500),  # of the first
        ("u1", "i3", "buy", 600),  # again: no more than bought
        ("u1", "i3", "view", 1500),  # of the third
        ("u1", "i5", "buy", 3000),  # at the very moment of the fifth, so of the first
        ("u1", "i5", "buy", 3000 + HOUR + 1),  # too late
        ("u1", "i9", "buy", 700),  # never shown
        ("u2", "i3", "buy", -5),  # before
    ]
    rows = [RawEvent(f"{n}", u, i, t, start + at, 1.0) for n, (u, i, t, at) in enumerate(events)]
    store.append([rows])
    cascade = shop.cascade(log, "p_buy * price + 0.1 * p_view")
    real = realised.realised(told, cascade, store, log, TASKS, HOUR)
    assert real == pytest.approx([4 + 6, 0, 0.1, 0, 0])


def made():
    plans = [{**shop.QUOTA, "preranking": n} for n in (4, 8)]
    cost, gain = np.array([1.0, 2.0]), np.ones((200, 1)) * np.array([3.0, 5.0])
    n = np.arange(200)
    logged = Logged(np.ones((200, 4)), np.ones((200, 1, 9)), gain, gain, n, n)
    return Model.fit(Actions.of(plans, cost, cost), Describer("", ("rank",)), logged, "linear")


def learnt(log, store, told, until_ms, **how):
    cascade = shop.cascade(log, "p_buy * price")
    return realised.learn(
        made(), told, cascade, store, log, TASKS, until_ms=until_ms, within_ms=HOUR, **how
    )


def test_it_learns_from_chance_and_tells_what_was_left_out(log):
    store, size = MemoryStore(log), 400
    start = store.last_ms + HOUR
    u1, item = store.user("u1"), store.items.row("i0")  # at price 1
    time = start + 1000 * np.arange(size)
    explored = np.arange(size) % 2 == 0
    bought = [
        RawEvent(f"{n}", "u1", "i0", "buy", int(at) + 1, 1.0)
        for n, at in enumerate(time)
        if explored[n] and n % 4 == 0
    ]
    store.append([bought])
    told = lived([u1] * size, time, [[item]] * size, explored)
    odd = lived(
        [0, ANONYMOUS, u1, u1, u1],
        [*(int(time[-1]) + n for n in range(1, 5)), int(time[-1]) + HOUR],
        [[]] * 5,
        first=[0, 0, 1, -1, 0],
    )
    names = ("user_N", "time_ms_N", "explored_N", "share_N", "first_N", "widest_N", "feature_NF")
    columns = [np.concatenate([getattr(told, n), getattr(odd, n)]) for n in names]
    both = Experience(*columns, [*told.items, *odd.items], {"torn": 2})
    out = learnt(log, store, both, int(time[-1]) + HOUR + 10)
    # half of the explored brought 1 more, where the replay had said 2
    assert out.correction.ratio == pytest.approx(0.25, abs=0.01)
    assert out.correction.scale_J[1] == pytest.approx(0.25, abs=0.05)
    assert (out.correction.compared, out.correction.explored) == (400, 200)
    assert f"{out}".endswith(
        "left out 1 at the widest anyway, 2 of nobody known, 1 of plans gone, 1 too recent, 2 torn"
    )
    assert "400 decisions compared, 200 of them explored" in f"{out}" and "\n" not in f"{out}"


def test_nothing_to_compare_is_one_line(log):
    store = MemoryStore(log)
    user, now = store.user("u1"), store.last_ms
    for told in (
        lived([user] * 3, [now] * 3, [[]] * 3),
        lived([user], [now - 2 * HOUR], [[]], share=0.0),
        lived([user] * 2, [now - 2 * HOUR] * 2, [[]] * 2),  # none explored
        lived([], [], []),
    ):
        with pytest.raises(DataError, match=r"decisions: nothing to compare;.* serve for longer"):
            learnt(log, store, told, now)
