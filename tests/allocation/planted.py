"""Requests whose worth is known, four plans of rising cost, and what a replay of them found."""

import numpy as np
import torch

from headrace.allocation.actions import Actions
from headrace.allocation.features import Describer
from headrace.allocation.logged import Logged, statistics
from headrace.allocation.model import Model
from headrace.allocation.policies.dcaf import Dcaf
from headrace.data import Candidates, Ragged, Requests
from headrace.stages import Trace

QUOTA = {"popular": 40, "tower": 40, "retrieval": 60, "preranking": 20, "reranking": 5}
CHANNELS = ("popular", "tower")
COST = np.array([1.0, 2.0, 4.0, 8.0])
PLANS = [
    {**QUOTA, "tower": 0, "preranking": 5},
    {**QUOTA, "tower": 0, "preranking": 20},
    {**QUOTA, "preranking": 20},
    {**QUOTA, "preranking": 60},
]


class Hand:
    """A clock turned by hand."""

    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


def requests(worth):
    """Requests whose worth stands in a column."""
    size = len(worth)
    zero = torch.zeros(size, dtype=torch.int64)
    empty = Ragged(zero[:0], torch.zeros(size + 1, dtype=torch.int64))
    return Requests(zero, zero + 1_700_000_000_000, {"rank": torch.as_tensor(worth)}, zero, empty)


def worths(size, seed=0):
    return np.random.default_rng(seed).integers(0, 100, size)


def told(worth):
    """Pre-ranking tells a tenth of the worth of each of ten candidates."""
    return Ragged.of([torch.full((30,), 0.1 * float(w)) for w in worth])


def logged(size=3000):
    """What is known beforehand is the worth up to a factor; pre-ranking tells it all."""
    seen = worths(size)
    worth = seen * np.random.default_rng(7).uniform(0.2, 1.8, size)
    gain = worth[:, None] * (1 - np.exp(-0.4 * COST))
    stats = statistics(told(worth))
    return Logged(
        Describer("", ("rank",))(requests(seen)),
        np.stack([stats, stats], axis=1),
        gain,
        gain,
        np.arange(size),
        np.arange(size),
    )


def fitted():
    return Model.fit(Actions.of(PLANS, COST, COST), Describer("", ("rank",)), logged())


def made(model, clock=None, **settings):
    settings = {"pass_ms": 1e9, "explore": 0.0, "log_decisions": False, **settings}
    settings = {"quota": QUOTA, **settings}
    allocator = Dcaf(Dcaf.Config(**settings), clock or Hand())
    allocator.take_up(model)
    return allocator


def drive(allocator, clock, per_s, seconds, seed=1):
    """Requests one at a time at an even pace; what each was planned to cost."""
    spent = []
    for worth in worths(int(per_s * seconds), seed):
        clock.now += 1 / per_s
        spent.append(COST[allocator.plan(requests([worth])).note["action"].item()])
    return np.array(spent)


def trace_of(plan, spent_us):
    items = Ragged.of([torch.arange(2)] * len(plan.note["action"]))
    slate = Candidates(items, scores={"value": torch.ones(len(items.values), 1)})
    return Trace(plan, {"all": spent_us}, {}, {"reranking": slate})
