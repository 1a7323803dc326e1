"""A shop of 30 items whose cascade is made by hand: every score can be told beforehand."""

import numpy as np
import polars as pl
import torch

from headrace.allocation.policies.fixed import Fixed
from headrace.app import Serving
from headrace.behavior.journal import Journal
from headrace.behavior.stores.local import LocalStore
from headrace.behavior.stores.memory import MemoryStore
from headrace.calibration import Calibration
from headrace.data import Candidates, Ragged
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.log import RawLog, write_log
from headrace.reranking.top import Top
from headrace.retrieval._base import leave_out
from headrace.schema import Schema
from headrace.serving.blend import Blend
from headrace.serving.cascade import Cascade
from headrace.serving.service import CHANGES, Service
from headrace.serving.shelf import KIND
from headrace.serving.wire import Ask
from headrace.value import Value

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000 // DAY_MS * DAY_MS
USERS, ITEMS, DAYS = 6, 30, 20
TYPES = ("view", "buy")
SCHEMA = {
    "default_dim": 4,
    "features": {
        "user": {"of": "user", "encode": "id"},
        "store": {"of": "context"},
        "item": {"of": "item", "encode": "id"},
        "user_item_count": {"of": "cross"},
        "exposed": {"of": "cross"},
    },
    "sequences": {"history": {"length": 20}, "unread": {"length": 500}},
}
QUOTA = {"popular": 12, "own": 12, "retrieval": 20, "preranking": 8, "reranking": 4}


def raw_log(groups="place"):
    """Each user comes once a day to a store; what is shown there changes by week.

    Nobody ever took the last item. With ``groups="request"`` every visit was shown a list of its own.
    """
    rng = np.random.default_rng(5)
    visit = np.arange(USERS * DAYS)
    user, day = visit % USERS, visit // USERS
    store = user % 2
    group = store * 10 + day // 7 if groups == "place" else visit
    requests = pl.DataFrame(
        {
            "request": visit,
            "user": [f"u{u}" for u in user],
            "time_ms": START_MS + day * DAY_MS + user * 1000,
            "group": group,
            "store": [f"s{s}" for s in store],
        }
    )
    events = requests.select("request", "user", "time_ms").with_columns(
        item=pl.Series([f"i{n}" for n in rng.integers(0, ITEMS - 1, len(visit))]),
        type=pl.Series(rng.choice(TYPES, len(visit))),
    )
    shown = np.unique(group)
    return RawLog(
        events=events,
        items=pl.DataFrame(
            {
                "item": [f"i{n}" for n in range(ITEMS)],
                "category": [f"c{n % 3}" for n in range(ITEMS)],
                "price": [1.0 + n for n in range(ITEMS)],
                "bid": [0.5] * ITEMS,
                "name": [f"Item {n}" for n in range(ITEMS)],
            }
        ),
        requests=requests,
        exposures=pl.DataFrame(
            {
                "group": np.repeat(shown, 5),
                "item": [f"i{(g * 7 + j) % ITEMS}" for g in shown.tolist() for j in range(5)],
            }
        ),
        event_types=TYPES,
    )


def write(path, **how):
    return write_log(path, raw_log(**how), "shop")


class Popular:
    """The same items for all: i0, i1, i2 ..."""

    reads_sequences = ()

    def retrieve(self, requests, quota_B):
        size, order = len(requests), torch.arange(1, ITEMS + 1)
        found = Ragged(order.repeat(size), torch.arange(size + 1) * ITEMS)
        score = 1 / found.values.float().unsqueeze(1)
        return leave_out(Candidates(found, scores={"score": score}), requests, quota_B)

    def arrays(self):
        return {}


class Own:
    """The user's own items, newest first."""

    reads_sequences = ("history",)

    def retrieve(self, requests, quota_B):
        history = requests.ragged("history.item")
        rows = [
            torch.tensor(list(dict.fromkeys(history[b].tolist()[::-1])), dtype=torch.int64)
            for b in range(len(requests))
        ]
        found = Ragged.of(rows)
        score = torch.arange(len(found.values), 0, -1).float().unsqueeze(1)
        return leave_out(Candidates(found, scores={"score": score}), requests, quota_B)

    def arrays(self):
        return {}


class Union:
    """All that channels found, in the order of the channels."""

    is_fitted = True

    def merge(self, found, quota_B, worth=None):
        rows = []
        for b in range(len(quota_B)):
            items = [i for c in found.values() for i in c.item_id[b].tolist()]
            distinct = list(dict.fromkeys(items))[: int(quota_B[b])]
            rows.append(torch.tensor(distinct, dtype=torch.int64))
        score = torch.cat([torch.arange(len(row), 0, -1) for row in rows]).float()
        return Candidates(Ragged.of(rows), scores={"retrieval": score.unsqueeze(1)})


class ByItem:
    """Prefers low numbers."""

    reads_cross = ()
    reads_hits = False
    reads_sequences = ()

    def score(self, requests, candidates):
        buy = 1 / (1 + candidates.item_id.values.float())
        return torch.stack([torch.zeros_like(buy), buy], 1)


class ByEverything:
    """Two probabilities out of item, history, counters, what is on show, context and user."""

    reads_cross = ("user_item_count", "exposed")
    reads_hits = False
    reads_sequences = ("history",)

    def score(self, requests, candidates):
        f = candidates.features
        events = candidates.item_id.spread(requests.ragged("history.item").lengths)
        store = candidates.item_id.spread(requests.tensor("store"))
        user = candidates.item_id.spread(requests.tensor("user"))
        view = f["user_item_count"] + 2 * f["exposed"] + 0.1 * events + 0.3 * store + 0.01 * user
        buy = view - 0.05 * candidates.item_id.values
        return torch.sigmoid(torch.stack([view, buy], 1).float() / 10)


def cascade(log, formula="p_buy + 0.001 * p_view * bid"):
    space = FeatureSpace.fit(Schema.model_validate(SCHEMA), log, log.manifest.last_ms)
    catalogue = space.catalogue
    return Cascade(
        builder=FeatureBuilder(space, log),
        catalogue=catalogue,
        channels={"own": Own(), "popular": Popular()},
        merge=Union(),
        preranker=ByItem(),
        preranking_blend=Blend.identity(2),
        ranker=ByEverything(),
        calibration=Calibration.identity(2),
        ranking_blend=Blend.identity(2),
        value=Value(Value.Config(formula=formula), TYPES, tuple(catalogue.columns)),
        reranker=Top.Config().build(catalogue),
    )


def store_in(log, folder, *, writable=True):
    return LocalStore.Config(map_mb=64).build(log, folder, 200, writable=writable)


def asked(folder):
    """A cascade, a request of every user, and the store that they were made from."""
    made = service(write(folder))
    readings, store = made.reader.read([Ask(user=f"u{n}") for n in range(USERS)])
    return made.shelf.cascade, made.requests(readings, store), store


def service(
    log,
    folder=None,
    formula="p_buy + 0.001 * p_view * bid",
    allocator=None,
    fallback=None,
    **settings,
):
    """A service; with a folder, one whose events and changes are kept there."""
    store = store_in(log, folder) if folder else MemoryStore(log)
    changes = Journal(folder / CHANGES, KIND) if folder else None
    return Service(
        cascade(log, formula),
        allocator or Fixed.Config(quota=QUOTA).build(),
        log,
        store,
        Serving(**{"clock": "log", "max_k": 25, "max_batch": 3, "max_history": 5, **settings}),
        "v1",
        tasks=TYPES,
        targets=("buy",),
        changes=changes,
        fallback=fallback,
    )
