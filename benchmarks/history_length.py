"""What a request costs as the user's history grows: SIM's hard search, and DIN over all of it.

    python -m benchmarks.history_length [--users 20] [--rounds 200] [--save]

One log holds users of 1,000, 10,000 and 50,000 events. A request is timed from the bare facts to
scores as a server does it: sequences that the ranker reads and the user's events in the candidates'
categories out of the embedded store, which has later events of everyone in its tail, then the score
of 200 candidates, on one thread. Weights are random: they cost the same. Candidates fall into ten
categories in which every user has at least 100 events, the most that are read of each, so that
what SIM reads is the same at any length. Lengths and models take turns, and each round draws users
and candidates anew: ``ratio`` and ``added_ms`` are medians over rounds, of what was timed in the
same round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from benchmarks._common import finish, parser
from headrace.behavior import EventStore, RawEvent
from headrace.behavior.stores.local import LocalStore
from headrace.config import Kinds
from headrace.data import Candidates, Ragged
from headrace.features import FeatureBuilder, FeatureSpace
from headrace.features.build import Asked
from headrace.log import Log, RawLog, write_log
from headrace.nn.pointwise import Pointwise
from headrace.schema import Schema

Array = NDArray[Any]
LENGTHS = (1_000, 10_000, 50_000)
CATEGORIES, ITEMS, BRANDS = 10, 100_000, 1_000
CANDIDATES, HITS, TAIL = 200, 100, 20
FIRST_MS, SPAN_MS = 1_700_000_000_000, 365 * 86_400_000
SCHEMA = {
    "tables": {"item": {"dim": 16}},
    "default_dim": 8,
    "features": {
        "user": {"of": "user", "encode": "id"},
        "hour": {"of": "context"},
        "item": {"of": "item", "encode": "id"},
        "category": {"of": "item"},
        "brand": {"of": "item"},
        "item_popularity_7": {"of": "cross"},
    },
    "sequences": {"history": {"length": 100}, "lifetime": {"length": 100_000}},
    "key_events": HITS,
}
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "sim": ("sim", {"hits": HITS}),
    "din_100": ("din", {}),
    "din": ("din", {"history": "lifetime"}),
}


def write(folder: Path, users: int) -> Log:
    """A log with ``users`` users of each length, each in every category by turns."""
    rng = np.random.default_rng(0)
    length_U = np.repeat(LENGTHS, users)
    user_E = np.repeat(np.arange(len(length_U)), length_U)
    turn_E = np.concatenate([np.arange(length) % CATEGORIES for length in length_U])
    item_E = rng.integers(0, ITEMS // CATEGORIES, len(user_E)) * CATEGORIES + turn_E
    raw = RawLog(
        events=pl.DataFrame(
            {
                "user": user_E,
                "item": item_E,
                "time_ms": FIRST_MS + rng.integers(0, SPAN_MS, len(user_E)),
            }
        ),
        items=pl.DataFrame(
            {
                "item": np.arange(ITEMS),
                "category": np.arange(ITEMS) % CATEGORIES,
                "brand": rng.integers(0, BRANDS, ITEMS),
            }
        ),
        event_types=("view",),
    )
    return write_log(folder, raw, "benchmark")


def append(store: EventStore, users: int) -> None:
    """Later events of every user."""
    rng = np.random.default_rng(1)
    store.append(
        [
            [
                RawEvent(f"{user}-{at}", str(user), str(item), "view", FIRST_MS + SPAN_MS + at, 1.0)
                for at, item in enumerate(rng.integers(0, ITEMS, TAIL).tolist())
            ]
            for user in range(users * len(LENGTHS))
        ]
    )


@dataclass(frozen=True)
class Requester:
    """Makes requests of users, and times them."""

    builder: FeatureBuilder
    store: EventStore
    models: Mapping[str, Pointwise]

    def ms(self, name: str, user: int, item_N: Array) -> float:
        """One request, from its bare facts to scores."""
        model, start = self.models[name], time.perf_counter()
        user_B = np.array([user])
        store = self.store.snapshot(user_B)
        time_B = np.array([FIRST_MS + 2 * SPAN_MS])
        asked = Asked(user_B, time_B, {}, np.array([-1]))
        requests = self.builder.requests(asked, store, model.reads_sequences)
        found = Candidates(Ragged(torch.from_numpy(item_N), torch.tensor([0, len(item_N)])))
        found = self.builder.candidates(requests, found, store, hits=model.reads_hits)
        score_NT = model.score(requests, found)
        spent_ms = (time.perf_counter() - start) * 1e3
        if found.hits is not None:
            assert found.hits.item.lengths.tolist() == [HITS] * CATEGORIES
        assert len(score_NT) == CANDIDATES
        return spent_ms


def build(builder: FeatureBuilder) -> dict[str, Pointwise]:
    """Rankers as a bundle holds them, but for their weights."""
    torch.manual_seed(0)
    models: dict[str, Pointwise] = {}
    for name, (kind, settings) in MODELS.items():
        made = Kinds("headrace.ranking").find(kind).Config(**settings)
        models[name] = made.build(builder.space, ("view",))
        models[name].freeze()
    return models


def measure(requester: Requester, log: Log, rounds: int, long_rounds: int) -> dict[str, Any]:
    """Time all models at all lengths, in turns whose order is drawn anew each round.

    DIN over the whole history takes part in ``long_rounds`` of them.
    """
    rng = np.random.default_rng(2)
    length_U = np.diff(log.event("user_offsets"))
    items_CX = 1 + np.argsort(log.item_category[1:], kind="stable").reshape(CATEGORIES, -1)
    short = [("sim", length) for length in LENGTHS] + [("din_100", LENGTHS[-1])]
    long = [("din", length) for length in LENGTHS]
    spent: dict[tuple[str, int], list[float]] = {turn: [] for turn in short + long}
    for number in range(-5, rounds):  # the first compile and fill caches
        turns = short + long if -2 <= number < long_rounds else short
        item_N = rng.choice(items_CX, CANDIDATES // CATEGORIES, replace=False, axis=1).ravel()
        for at in rng.permutation(len(turns)).tolist():
            name, length = turns[at]
            user = rng.choice(np.flatnonzero(length_U == length))
            ms = requester.ms(name, int(user), item_N)
            if number >= 0:
                spent[turns[at]].append(ms)
    sim_TR = np.array([spent["sim", length] for length in LENGTHS])
    din_100_R = np.array(spent["din_100", LENGTHS[-1]])
    return {
        "sim_ms": _medians(spent, "sim"),
        "din_ms": _medians(spent, "din"),
        "ratio": round(float(np.median(sim_TR[-1] / sim_TR[0])), 3),
        "din_100_ms": round(float(np.median(din_100_R)), 3),
        "added_ms": round(float(np.median(sim_TR[-1] - din_100_R)), 3),
    }


def _medians(spent: Mapping[tuple[str, int], list[float]], name: str) -> dict[str, float]:
    return {str(length): round(float(np.median(spent[name, length])), 3) for length in LENGTHS}


def main() -> None:
    """Measure and print one JSON line."""
    options = parser(__doc__)
    options.add_argument("--users", type=int, default=20, help="of each length")
    options.add_argument("--rounds", type=int, default=300)
    options.add_argument("--long-rounds", type=int, default=5, help="of DIN over all of it")
    given = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        log = write(Path(name) / "log", given.users)
        store = LocalStore.Config().build(log, Path(name), HITS, writable=True)
        append(store, given.users)
        space = FeatureSpace.fit(Schema.model_validate(SCHEMA), log, FIRST_MS + SPAN_MS)
        builder = FeatureBuilder(space, log)
        requester = Requester(builder, store, build(builder))
        figures = measure(requester, log, given.rounds, given.long_rounds)
        store.close()
    about = {
        "users": given.users,
        "rounds": given.rounds,
        "candidates": CANDIDATES,
        "categories": CATEGORIES,
        "hits": HITS,
    }
    finish("history_length", {**about, **figures}, save=given.save)


if __name__ == "__main__":
    main()
