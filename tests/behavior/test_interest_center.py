"""Interest centers: each event counts once, whatever is delivered twice, rolled out or rolled back."""

import itertools
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import lmdb
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.behavior import StoreError
from headrace.behavior.interest_center import NEVER, InterestCenter, Step
from headrace.errors import DataError

EVER = np.iinfo(np.int64).max


class Folded:
    """A state that tells the order of all events; ``advanced`` counts the steps made."""

    def __init__(self, version="v1", factor=3.0):
        self.version, self.factor, self.advanced = version, factor, 0

    def start(self):
        return np.array([0, 1], np.float32)

    def advance(self, state_BZ, item_E, offsets):
        self.advanced += len(item_E)
        out = state_BZ.copy()
        for b, (a, z) in enumerate(itertools.pairwise(offsets)):
            for item in item_E[a:z]:
                out[b] = (out[b, 0] * self.factor + item) % 1009, out[b, 1] + 1
        return out


def folded(items, **how):
    encoder = Folded(**how)
    return encoder.advance(encoder.start()[None], np.array(items), np.array([0, len(items)]))[0]


def opened(path, *encoders, **how):
    return InterestCenter(path, encoders or [Folded()], map_mb=1, **how)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "center"


@pytest.fixture
def center(path):
    center = opened(path)
    center.activate("v1")
    yield center
    center.close()


def step(user, seq, item=None):
    return Step(user, seq, seq if item is None else item, 1_000 * seq)


def state(center, user, before=EVER):
    found = center.look_up(np.array([user]), np.array([before]))
    return found.state_BZ[0].tolist() if found.real_B[0] else None


@given(
    st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=8),
)
def test_what_is_delivered_again_changes_nothing(tmp_path_factory, calls):
    """Users' events in their order, with repeats of any earlier stretch."""
    center = opened(tmp_path_factory.mktemp("center"))
    center.activate("v1")
    sent, told, seq = [], 0, itertools.count(1)
    for call in calls:
        batch = [step(user, next(seq), 10 * user) for user in call]
        sent += batch
        again = sent[len(sent) // 2 :]
        told += center.append([*again, *batch])["v1"].applied
        assert center.append(sent)["v1"] == (0, len(sent), 0)
    assert told == len(sent)
    for user in range(1, 6):
        own = [s.item for s in sent if s.user == user]
        assert state(center, user) == folded(own).tolist()
    center.close()


def test_a_step_is_made_for_each_new_event_and_no_other(path):
    encoder = Folded()
    center = opened(path, encoder)
    center.activate("v1")
    for seq in range(1, 50):
        before = encoder.advanced
        center.append([step(1, seq)])
        assert encoder.advanced == before + 1
    before = encoder.advanced
    assert state(center, 1) == folded(range(1, 50)).tolist()
    assert encoder.advanced == before
    center.close()


def test_late_events_wait_for_a_replay(center):
    center.append([step(1, 5)])
    assert center.append([step(1, 4)])["v1"] == (0, 1, 0)
    assert state(center, 1) == folded([5]).tolist()


def test_users_without_events_and_nobody(center):
    assert state(center, 7) == [0, 1]
    assert state(center, 0) is None
    found = center.look_up(np.array([7]), np.array([EVER]))
    assert found.seq_B.tolist() == [NEVER]


def test_a_state_is_not_told_before_its_events(center):
    center.append([step(1, 1), step(1, 2)])
    assert state(center, 1, before=2_001) is not None
    assert state(center, 1, before=2_000) is None
    assert state(center, 1, before=5) is None


def test_what_is_kept_is_there_again(path):
    center = opened(path)
    center.activate("v1")
    center.append([step(1, 1)])
    center.close()
    center = opened(path)
    assert center.versions == {"v1": True}
    assert center.append([step(1, 1), step(1, 2)])["v1"] == (1, 1, 0)
    center.close()


def test_rolling_out_another_encoder(path):
    """Both are written; a replay and live events meet without a gap, and the old one goes."""
    old, new = Folded(), Folded("v2", factor=5.0)
    center = opened(path, old)
    center.activate("v1")
    center.append([step(1, 1), step(2, 1)])
    center.close()

    center = opened(path, old, new)
    assert center.versions == {"v1": True, "v2": False}
    assert center.append([step(1, 2)]) == {"v1": (1, 0, 0), "v2": (0, 0, 1)}
    with pytest.raises(DataError, match="1 users of version v2 wait"):
        center.activate("v2")
    behind = replay(center, {1: [1], 2: [1]})  # read before the event came
    assert behind.tolist() == [1]
    assert replay(center, {1: [1, 2]}).tolist() == []
    assert center.holes("v2").tolist() == []
    assert center.append([step(1, 3), step(3, 1)])["v2"] == (1, 0, 1)
    assert replay(center, {3: [1]}).tolist() == []
    assert replay(center, {1: [1]}).tolist() == []  # knows less than is there
    center.activate("v2")
    center.close()

    center = opened(path, new, old)
    assert state(center, 1) == folded([1, 2, 3], factor=5.0).tolist()
    assert state(center, 2) == folded([1], factor=5.0).tolist()
    assert state(center, 9) == [0, 1]
    center.retire("v1")
    assert center.versions == {"v2": True}
    assert list(center.append([step(1, 4)])) == ["v2"]
    center.close()
    with pytest.raises(DataError, match="no states of encoder version v1, only of v2; back-fill"):
        opened(path, old, writable=False)


def replay(center, histories, version="v2"):
    items = [np.array(h, np.int64) for h in histories.values()]
    offsets = np.cumsum([0, *map(len, items)])
    item = np.concatenate(items)
    seq = np.array([h[-1] for h in histories.values()])
    return center.backfill(version, np.array(list(histories)), seq, item, item * 1_000, offsets)


def test_while_filling_nobody_is_taken_for_new(path):
    center = opened(path)
    assert state(center, 1) is None
    center.append([step(1, 1)])
    assert state(center, 1) is None
    replay(center, {1: [1]}, "v1")
    assert state(center, 1) == folded([1]).tolist()
    assert state(center, 2) is None
    center.close()


def test_rolled_back_and_replayed(center, path):
    sound = [step(user, seq) for user in (1, 2) for seq in (1, 2)]
    center.append(sound)
    center.snapshot("monday")
    center.append([step(1, 3, item=666), step(4, 1, item=666)])
    center.roll_back("monday")
    assert state(center, 1) == folded([1, 2]).tolist()
    assert state(center, 4) == [0, 1]
    assert center.append([*sound, step(1, 4)])["v1"] == (1, 4, 0)
    assert state(center, 1) == folded([1, 2, 4]).tolist()
    with pytest.raises(DataError, match="no snapshot 'mondey'; did you mean 'monday'"):
        center.roll_back("mondey")


def test_a_snapshot_of_before_another_encoder_must_be_filled(path):
    center = opened(path)
    center.activate("v1")
    center.append([step(1, 1)])
    center.snapshot("old")
    center.close()
    center = opened(path, Folded("v2"), Folded())
    replay(center, {1: [1]})
    center.activate("v2")
    center.roll_back("old")
    assert center.versions == {"v1": True, "v2": False}
    assert state(center, 1) is None
    center.close()


def test_the_last_snapshots_stay(center):
    for day in range(12):
        center.snapshot(f"day-{day:02}", keep=7)
    assert center.snapshots() == [f"day-{day:02}" for day in range(5, 12)]
    with pytest.raises(DataError, match="day-05: exists already"):
        center.snapshot("day-05")
    with pytest.raises(DataError, match="make a name"):
        center.snapshot("../up")


def test_a_snapshot_that_cannot_be_written_leaves_nothing(center, path, monkeypatch):
    def full(folder):
        folder.mkdir(parents=True)
        raise StoreError("no room")

    monkeypatch.setattr(center._env, "copy", full)
    with pytest.raises(StoreError, match="no room"):
        center.snapshot("day")
    assert list((path / "snapshots").iterdir()) == []


class Copying:
    """An environment that takes its time to copy, and counts changes of its size meanwhile."""

    def __init__(self, env):
        self.env, self.busy, self.moved, self.begun = env, False, 0, threading.Event()

    def __getattr__(self, name):
        return getattr(self.env, name)

    def copy(self, *how, **named):
        self.busy = True
        self.begun.set()
        time.sleep(0.2)
        self.env.copy(*how, **named)
        self.busy = False

    def set_mapsize(self, size):
        self.moved += self.busy
        self.env.set_mapsize(size)


def test_the_map_stays_where_it_is_while_it_is_copied(center):
    env = center._env
    env._env = watched = Copying(env._env)
    copier = threading.Thread(target=center.snapshot, args=("day",))
    copier.start()
    watched.begun.wait()
    env.write(lambda txn: env.put(txn, "much", "x" * (2 << 20)))  # more than the map has
    copier.join()
    assert watched.moved == 0 and center.snapshots() == ["day"]


def test_a_look_up_is_of_one_moment(path, monkeypatch):
    """A back-fill that ends meanwhile makes nobody a user without events."""
    center = opened(path)
    read, filled = center._env.read, []

    @contextmanager
    def read_and_fill():
        with read() as txn:
            yield txn
        if not filled:
            filled.append(True)
            one = np.array([1])
            center.backfill("v1", np.array([7]), one, one, one, np.array([0, 1]))
            center.activate("v1")

    monkeypatch.setattr(center._env, "read", read_and_fill)
    assert state(center, 7) is None
    assert state(center, 7) == folded([1]).tolist()
    center.close()


def test_mistakes_are_named(center, path):
    with pytest.raises(DataError, match="opened without encoder version v3; known: v1"):
        center.activate("v3")
    with pytest.raises(DataError, match="version v1 serves; serve another one first"):
        center.retire("v1")
    with pytest.raises(DataError, match="no states of encoder version v9"):
        center.retire("v9")
    with pytest.raises(DataError, match="no interest center here"):
        opened(path.with_name("elsewhere"), writable=False)


def test_readers_of_other_processes(center, path):
    center.append([step(1, 1)])
    code = (
        "import sys; from pathlib import Path; from tests.behavior.test_interest_center import *\n"
        "from headrace.behavior import StoreError\n"
        "center = opened(Path(sys.argv[1]), writable=False); print(state(center, 1))\n"
        "try: center.append([step(1, 2)])\n"
        "except StoreError as error: print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert out.stdout.splitlines() == [str([1.0, 2.0]), f"{path}: open for reading only"]


def test_a_newer_format_is_named(path):
    opened(path).close()
    env = lmdb.open(str(path), max_dbs=8)
    with env.begin(write=True) as txn:
        txn.put(b"format", orjson.dumps(2), db=env.open_db(b"meta", txn=txn))
    env.close()
    with pytest.raises(DataError, match="interest center format 2, this program reads 1; remove"):
        opened(path)


def test_the_map_grows(center):
    many = [step(user, 1) for user in range(1, 20_000)]
    assert center.append(many)["v1"].applied == len(many)
    assert state(center, 19_999) == folded([1]).tolist()
