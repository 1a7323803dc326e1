"""What every plan would have shown to logged requests, from one run of the widest.

Channels answer best first and scorers look at one candidate at a time, so a narrower plan sees
prefixes of what the widest saw: the channels' lists are cut, merged again by the cascade's own
merge, cut again, and ordered by scores that are there already. A channel that works less for less
is asked again; what it finds then and the widest did not, counts as not found. What the ranker says
of items under the widest plan is what a slate is worth, whichever plan made it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..allocation.actions import Actions, Quota, smooth
from ..allocation.features import Describer
from ..allocation.logged import Logged, statistics
from ..behavior import BehaviorStore
from ..data import Candidates, Ragged, Requests
from ..errors import DataError
from ..ops import ragged
from ..pipeline.train import without_seen
from ..samples import Samples
from ..serving.cascade import Cascade
from ..stages import (
    EFFORT,
    PRERANKER,
    RANKING,
    RERANKER,
    TIER,
    Adjustable,
    Effortful,
    Plainly,
    Plan,
    Selector,
)

Array = NDArray[Any]
CHUNK = 32  # requests at a time
TOGETHER = 8  # requests of a pass, where costs under load are measured
MARGIN = 2  # of the merge's quota: items scored, for narrower merges to find theirs among
PRICE = "price"


@dataclass(frozen=True)
class Widest:
    """Requests with everything scored."""

    requests: Requests
    found: Mapping[str, Candidates]
    merged: Candidates
    own_rough_NT: Tensor  # before blending
    own_fine_NT: Mapping[str | None, Tensor]  # of the ranker (None) and of tiers
    value_N: Tensor  # by the ranker


def replay(
    cascade: Cascade,
    samples: Samples,
    rows: Array,
    actions: Actions,
    describe: Describer,
    progress: Callable[[int], None] = lambda done: None,
    *,
    new_share: float = 0.0,
) -> Logged:
    """Every action on logged requests ``rows``, of which a share asks for what is new to its user.

    Raises DataError without any.
    """
    if not len(rows):
        raise DataError("no request of the period took anything; nothing to replay")
    parts: list[Logged] = []
    for at in range(0, len(rows), CHUNK):
        chunk = rows[at : at + CHUNK]
        requests = asked(samples, chunk, new_share)
        wide = widest(cascade, requests, actions.widest, samples.store, actions.tiers)
        truth = samples.truth(chunk)
        told = [narrow(cascade, wide, quota, truth) for quota in _families(actions)]
        of_family = {at: each for at, each in enumerate(told)}
        slates = [
            of_family[int(f)](quota)
            for f, quota in zip(actions.family, actions.quotas, strict=True)
        ]
        parts.append(
            Logged(
                describe(requests),
                np.stack([each.statistics_BS for each in told], axis=1),
                np.stack([slate.gain_B for slate in slates], axis=1),
                np.stack([slate.real_B for slate in slates], axis=1),
                requests.user.numpy(),
                requests.time_ms.numpy(),
            )
        )
        progress(at + len(chunk))
    return Logged.join(parts)


def asked(
    samples: Samples, rows: Array, new_share: float, sequences: Collection[str] | None = None
) -> Requests:
    """Logged requests, of which a share, always the same, leaves out what the user ever took."""
    requests = samples.features(rows, sequences)
    new_B = rows * 2_654_435_761 % (1 << 32) < new_share * (1 << 32)
    return without_seen(requests, samples, rows, new_B) if new_B.any() else requests


def widest(
    cascade: Cascade,
    requests: Requests,
    quota: Quota,
    store: BehaviorStore,
    tiers: Sequence[str] = (),
) -> Widest:
    """Run channels, merge and all scorers without any cut but the merge's."""
    size = len(requests)

    def all_of(count: int) -> Tensor:
        return torch.full((size,), count)

    found = {
        name: channel.retrieve(requests, all_of(quota[name]))
        for name, channel in cascade.channels.items()
    }
    merged = cascade.merged(found, all_of(MARGIN * quota["retrieval"]))
    merged = cascade.features(requests, merged, store)
    own_rough_NT = cascade.preranker.score(requests, merged)
    merged = cascade.prerank(requests, merged)
    own_fine_NT = {tier: cascade.judged(requests, merged, tier) for tier in (None, *tiers)}
    fine_NT = cascade.blended(own_fine_NT[None], merged)
    return Widest(
        requests, found, merged, own_rough_NT, own_fine_NT, cascade.worth(fine_NT, merged)
    )


@dataclass(frozen=True)
class Slate:
    """What one plan shows some requests is worth."""

    gain_B: Array  # as the widest plan sees the items
    real_B: Array  # of those that were really taken


@dataclass(frozen=True)
class Family:
    """Plans that differ only in what the ranker scores, on some requests; call one for slates."""

    cascade: Cascade
    wide: Widest
    merged: Candidates  # pre-ranked
    at_N: Tensor  # where each is among the widest's candidates
    truth: Ragged
    statistics_BS: Array

    def __call__(self, quota: Quota) -> Slate:
        cascade, wide, size = self.cascade, self.wide, len(self.truth)
        rough_N = cascade.worth(self.merged.scores["preranking"], self.merged)
        kept_K = ragged.top(
            rough_N, self.merged.item_id.offsets, torch.full((size,), quota["preranking"])
        )
        short, at_K = self.merged.take(kept_K), self.at_N[kept_K]
        if quota.get(RANKING, 1):
            tier = next((t for t in cascade.tiers if quota.get(f"{TIER}{t}")), None)
            fine_NT = cascade.blended(wide.own_fine_NT[tier][at_K], short, tier)
            value_K1 = cascade.worth(fine_NT, short).unsqueeze(-1)
            ranked = short.scored("ranking", fine_NT).scored("value", value_K1)
        else:
            ranked = cascade.unranked(short)
        selector, more = _selector(cascade, quota)
        chosen = selector.select(wide.requests, ranked, torch.full((size,), quota["reranking"]))
        slate, at = ranked.take(chosen).item_id, at_K[chosen]
        worth = wide.value_N[at].double()
        price_I = cascade.catalogue.columns.get(PRICE)
        price = torch.ones(len(slate.values)) if price_I is None else price_I[slate.values]
        real = torch.where(slate.within(self.truth), price.double(), 0.0)
        gain_B, real_B = (ragged.segment_sum(x, slate.offsets).numpy() for x in (worth, real))
        return Slate(more * gain_B, real_B)


def _selector(cascade: Cascade, quota: Quota) -> tuple[Selector, float]:
    """Who makes the slate, and how many times its items' values it is then worth."""
    reranker = cascade.reranker
    if not isinstance(reranker, Plainly):
        return reranker, 1.0
    return (
        (reranker, 1 + (reranker.worth or 0.0))
        if quota.get(RERANKER, 1)
        else (reranker.plain(), 1.0)
    )


def narrow(cascade: Cascade, wide: Widest, quota: Quota, truth: Ragged) -> Family:
    """The candidates of a narrower retrieval, with the scores that the widest gave them."""
    size = len(truth)
    found = {name: _list(cascade, wide, name, quota) for name in cascade.channels}
    merged = cascade.merged(found, torch.full((size,), quota["retrieval"]))
    judged_B = torch.full((size,), quota.get(PRERANKER, 1))
    merged = cascade.narrowed(wide.requests, merged, judged_B)
    at_N = _places(merged.item_id, wide.merged.item_id)
    known = torch.nonzero(at_N >= 0)[:, 0]
    merged, at_N = merged.take(known), at_N[known]  # what was not scored cannot be shown
    own_NT, before_NX = wide.own_rough_NT[at_N], merged.scores["retrieval"]
    rough_NT = before_NX.expand_as(own_NT)
    if quota.get(PRERANKER, 1):
        rough_NT = cascade.preranking_blend.apply(own_NT, before_NX)
    merged = merged.scored("preranking", rough_NT)
    told = statistics(cascade.statistics(merged).worth)
    return Family(cascade, wide, merged, at_N, truth, told)


def _list(cascade: Cascade, wide: Widest, name: str, quota: Quota) -> Candidates:
    """What a channel finds for less; one that then works less has to be asked again."""
    channel, count = cascade.channels[name], quota[name]
    quota_B = torch.full((len(wide.requests),), count)
    full = channel.effort_quota if isinstance(channel, Effortful) else None
    effort = quota.get(f"{EFFORT}{name}", 100) if isinstance(channel, Adjustable) else 100
    if count and (effort < 100 or (full is not None and count < full)):
        return cascade.search(name, wide.requests, quota_B, torch.full_like(quota_B, effort))
    whole = wide.found[name]
    return whole.first(quota_B)


def _places(items: Ragged, among: Ragged) -> Tensor:  # (N,) int64
    """Where each item is in the same row of ``among``; -1 where it is not."""
    size = 1 + max((int(x.values.max()) for x in (items, among) if len(x.values)), default=0)
    key, known = items.row * size + items.values, among.row * size + among.values
    order = known.argsort()
    at = torch.searchsorted(known[order], key).clamp(max=len(known) - 1)
    place = order[at] if len(known) else torch.zeros_like(key)
    same = known[place] == key if len(known) else torch.zeros_like(key, dtype=torch.bool)
    return torch.where(same, place, -1)


def _families(actions: Actions) -> Sequence[Quota]:
    """One plan of each family, in the order of their numbers."""
    first: dict[int, Quota] = {}
    for family, quota in zip(actions.family.tolist(), actions.quotas, strict=True):
        first.setdefault(family, quota)
    return [first[at] for at in sorted(first)]


def profile(
    cascade: Cascade,
    samples: Samples,
    rows: Array,
    quotas: Sequence[Quota],
    *,
    new_share: float = 0.0,
) -> Actions:
    """What each plan costs: requests one at a time, then in passes as under load.

    Plans take turns within a pass, in an order that changes, so that what else the machine does
    falls on all alike; the mean leaves out the slowest twentieth. Making the request's features is
    part of the cost, for it is paid under any plan.
    """

    def timed(passes: Sequence[Array]) -> tuple[Array, Array]:  # (J,) wall, (J,) cpu, a request
        wall: list[list[float]] = [[] for _ in quotas]
        cpu: list[list[float]] = [[] for _ in quotas]
        for done, some in enumerate((passes[0], *passes)):
            for j in order.permutation(len(quotas)).tolist():
                plan = Plan.constant(quotas[j], len(some))
                begun, used = time.perf_counter_ns(), time.process_time_ns()
                cascade.run(asked(samples, some, new_share, reads), plan, samples.store)
                used, took = time.process_time_ns() - used, time.perf_counter_ns() - begun
                if done:  # the first compiles
                    wall[j].append(took / 1e6 / len(some))
                    cpu[j].append(used / 1e6 / len(some))
        wall_ms, cpu_ms = (smooth(quotas, [_trimmed(x) for x in times]) for times in (wall, cpu))
        return wall_ms, cpu_ms

    order, reads = np.random.default_rng(0), cascade.reads_sequences
    wall_ms, cpu_ms = timed(np.array_split(rows, len(rows)))
    # as many passes as there are requests for, each of which may be in several
    passes = [np.resize(np.roll(rows, -at), TOGETHER) for at in range(0, len(rows), TOGETHER)]
    _, each_ms = timed(passes)
    spared = (1 - each_ms / np.maximum(cpu_ms, 1e-12)) / (1 - 1 / TOGETHER)
    return Actions.of(quotas, wall_ms, cpu_ms, np.clip(spared, 0.0, 1.0))


def channel_ms(cascade: Cascade, samples: Samples, rows: Array, quota: Quota) -> dict[str, float]:
    """Mean time of each channel at its full quota."""
    spent: dict[str, list[int]] = {name: [] for name in cascade.channels}
    for row in _twice_first(rows):
        trace = cascade.run(
            samples.features(np.array([row])), Plan.constant(quota, 1), samples.store
        )
        for name in spent:
            spent[name].append(trace.spent_us[name])
    return {name: float(np.median(us[1:])) / 1000 for name, us in spent.items()}


def _twice_first(rows: Array) -> Iterator[int]:
    yield int(rows[0])
    yield from rows.tolist()


def _trimmed(values: Sequence[float]) -> float:
    kept = np.sort(values)[: max(1, round(len(values) * 0.95))]
    return float(kept.mean())
