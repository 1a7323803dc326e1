"""The plans to choose from, and what each costs on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LinearRegression

from ..errors import ConfigError, DataError, suggest
from ..stages import EFFORT, PRERANKER, RANKING, RERANKER, TIER, Plan

Array = NDArray[Any]
Quota = Mapping[str, int]
SHARES = (1.0, 0.25)  # of the quotas of channels and merge, besides what the widest has
RANKED = (4, 8, 16, 24, 32, 48, 64, 96, 128, 200, 256, 400)  # items that the ranker may score
STAGES = ("retrieval", "preranking", "reranking")
OPTIONAL = (RANKING,)  # keys that every cascade obeys
AFTER = ("preranking", "reranking", RANKING, RERANKER)  # pre-ranking does not depend on these
EFFORTS = (100, 25)  # per cent of a channel's effort
FEWEST = 4  # counts of ranked items that a grid has at least


@dataclass(frozen=True)
class Actions:
    """J plans, cheapest first."""

    quotas: tuple[Quota, ...]  # of each plan, by channel and stage
    cost_ms: Array  # (J,) wall time a request
    cpu_ms: Array  # (J,) processor time a request
    shared: Array  # (J,) part of both that all requests of one pass share; the rest is each's own

    def __len__(self) -> int:
        return len(self.quotas)

    @classmethod
    def of(
        cls,
        quotas: Sequence[Quota],
        cost_ms: ArrayLike,
        cpu_ms: ArrayLike,
        shared: ArrayLike | None = None,
    ) -> Actions:
        """Plans with their costs for a request alone, in any order; by default none is shared."""
        shared = np.zeros(len(quotas)) if shared is None else shared
        cost, cpu, part = (np.asarray(x, np.float64) for x in (cost_ms, cpu_ms, shared))
        if not len(quotas) or not len(quotas) == len(cost) == len(cpu) == len(part):
            raise DataError(f"actions: {len(quotas)} plans, {len(cost)} and {len(cpu)} costs")
        if not (np.isfinite(cost) & np.isfinite(cpu) & (cost >= 0) & (cpu >= 0)).all():
            raise DataError("actions: costs must be finite and at least 0; profile again")
        if not ((part >= 0) & (part <= 1)).all():
            raise DataError("actions: what is shared is a part, from 0 to 1; profile again")
        order = np.argsort(cpu, kind="stable")
        return cls(tuple(quotas[int(j)] for j in order), cost[order], cpu[order], part[order])

    def together(self, alone: float) -> Array:  # (J,)
        """How many times its cost alone a request costs in passes of several.

        ``alone`` is one over how many requests share a pass, on average over requests.
        """
        return 1 - self.shared * (1 - alone)

    def cpu_ms_in(self, size: int) -> Array:  # (J,)
        """Processor time a request in passes of ``size``."""
        return self.cpu_ms * self.together(1 / size)

    def under(self, size: int) -> Actions:
        """The same plans at what requests cost in passes of ``size``, cheapest first again."""
        wall_ms = self.cost_ms * self.together(1 / size)
        return Actions.of(self.quotas, wall_ms, self.cpu_ms_in(size))

    def check(self, channels: Iterable[str], options: Collection[str] | None = OPTIONAL) -> None:
        """Verify that plans are of this cascade, which obeys ``options``. Raises ConfigError."""
        known = (*STAGES, *channels)
        named = {name for quota in self.quotas for name in quota}
        for at, quota in enumerate(self.quotas):
            for name in quota:
                if name not in known:
                    _check_option(f"plan {at}", name, known, options)
            for name in (*known, *sorted(named)):
                if name not in quota:
                    raise ConfigError(f"plan {at}: {name} is missing; profile again")

    def take(self, kept: Array) -> Actions:
        """Some of them, in order."""
        quotas = tuple(self.quotas[int(j)] for j in kept)
        costs = {n: getattr(self, n)[kept] for n in ("cost_ms", "cpu_ms", "shared")}
        return replace(self, quotas=quotas, **costs)

    def plan(self, choice_B: Array) -> Plan:
        """The plan of one action a request."""
        return Plan({n: torch.from_numpy(quota_J[choice_B]) for n, quota_J in self._table.items()})

    @cached_property
    def _table(self) -> Mapping[str, Array]:
        names = self.quotas[0]
        return {name: np.array([quota[name] for quota in self.quotas]) for name in names}

    @cached_property
    def family(self) -> Array:  # (J,) int64
        """A number for all that happens before the ranker: alike where only that differs."""
        keys = [_before_ranker(quota) for quota in self.quotas]
        number = {key: at for at, key in enumerate(dict.fromkeys(keys))}
        return np.array([number[key] for key in keys])

    @cached_property
    def keys(self) -> tuple[str, ...]:  # (J,)
        """What each plan is called wherever its place may have changed."""
        plans = [orjson.dumps(dict(q), option=orjson.OPT_SORT_KEYS) for q in self.quotas]
        return tuple(hashlib.blake2b(plan, digest_size=6).hexdigest() for plan in plans)

    @property
    def widest(self) -> Quota:
        """The least plan that holds all of them.

        It need not be among them: one that brings no more than a cheaper one is not kept. The
        ranker itself ranks, not a tier: its word is what slates are judged by.
        """
        most = {name: max(quota[name] for quota in self.quotas) for name in self.quotas[0]}
        tiers = dict.fromkeys(filter(is_tier, most), 0)
        return {**most, **tiers, **({RANKING: 1} if any(self.tiers) else {})}

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the rankers that at least one plan puts in the ranker's place."""
        names = [name for name in self.quotas[0] if is_tier(name)]
        return tuple(n.removeprefix(TIER) for n in names if any(q[n] for q in self.quotas))

    def index(self, quota: Quota) -> int:
        """The place of a plan. Raises ConfigError where it is not among them."""
        for at, other in enumerate(self.quotas):
            if dict(other) == dict(quota):
                return at
        raise ConfigError("allocation.quota: not among the profiled plans; profile again")

    def write(self, path: Path) -> None:
        """Keep as JSON."""
        rows = [
            {"quota": dict(quota), "cost_ms": cost, "cpu_ms": cpu, "shared": part}
            for quota, cost, cpu, part in zip(
                self.quotas,
                self.cost_ms.tolist(),
                self.cpu_ms.tolist(),
                self.shared.tolist(),
                strict=True,
            )
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))

    @classmethod
    def read(cls, path: Path) -> Actions:
        """Take up what ``write`` left. Raises DataError."""
        try:
            rows = orjson.loads(path.read_bytes())
            quotas = [{str(k): int(v) for k, v in row["quota"].items()} for row in rows]
            costs = [[row[name] for row in rows] for name in ("cost_ms", "cpu_ms", "shared")]
        except OSError as error:
            remedy = "run `headrace allocate profile` first"
            raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not a list of plans ({error}); profile again") from None
        return cls.of(quotas, *costs)


def grid(
    quota: Quota, ms: Mapping[str, float], options: Collection[str] = (), widen: float = 1.0
) -> list[Quota]:
    """Plans from one channel without any model up to the widest, which comes last.

    Channels go in nested sets, cheapest first by ``ms``, and each alone; they and the merge at
    ``widen`` times their quota, whole, or at a quarter; the ranker scores none, or from as many
    items as are shown to as many as the merge keeps. With ``options`` those that can search less
    hard do so or not, each tier ranks in turn, slates are re-ranked or not, and where nobody ranks
    pre-ranking may be left out, too; the more of them, the fewer counts of ranked items.
    """
    order = sorted((name for name in ms if quota[name]), key=lambda name: ms[name])
    sets = [*(order[:n] for n in range(1, len(order) + 1)), *([name] for name in order[1:])]
    shares = sorted({widen, *SHARES}, reverse=True)
    tiers = [name for name in options if is_tier(name)]
    skips = [{RERANKER: 1}, {RERANKER: 0}] if RERANKER in options else [{}]
    rankers = [{RANKING: 1, **{name: int(name == by) for name in tiers}} for by in (None, *tiers)]
    nobody = {**rankers[0], RANKING: 0}
    known = [{PRERANKER: 1}, {PRERANKER: 0}] if PRERANKER in options else [{}]
    plans: list[Quota] = []
    for on, share in product(sets, shares):
        channels = {name: max(1, int(quota[name] * share)) if name in on else 0 for name in ms}
        efforts = _efforts(options, on)
        ways = len(efforts) * len(rankers) * len(skips)
        counts = _ranked(quota, share, ways)
        for effort, skip in product(efforts, skips):
            same = {**channels, "retrieval": counts[-1], "reranking": counts[0], **effort, **skip}
            plans += [{**same, "preranking": counts[0], **nobody, **judged} for judged in known]
            plans += [{**same, **known[0], "preranking": n, **by} for by in rankers for n in counts]
    wide = {name: int(quota[name] * widen) for name in (*ms, "retrieval")}
    widest = {**whole(quota, options), **wide, "preranking": wide["retrieval"]}
    return [*(plan for plan in plans if plan != widest), widest]


def whole(quota: Quota, options: Collection[str] = ()) -> Quota:
    """The plan of these quotas that leaves nothing out, as a grid has it."""
    settled = {RANKING: 1, **{name: 1 for name in (PRERANKER, RERANKER) if name in options}}
    tiers = {name: 0 for name in options if is_tier(name)}
    efforts = {n: 100 * (quota[n.removeprefix(EFFORT)] > 0) for n in options if is_effort(n)}
    return {**quota, **settled, **tiers, **efforts}


def _efforts(options: Iterable[str], on: Collection[str]) -> list[dict[str, int]]:
    """How hard those channels of a set search that can be told so: all alike; 0 if off."""
    names = [name for name in options if is_effort(name)]
    heard = [name for name in names if name.removeprefix(EFFORT) in on]
    each = EFFORTS if heard else EFFORTS[:1]
    return [{name: effort if name in heard else 0 for name in names} for effort in each]


def _ranked(quota: Quota, share: float, ways: int) -> list[int]:
    """How many items the ranker may score: of the usual counts one in so many ways."""
    least = quota["reranking"]
    most = max(least, int(quota["retrieval"] * share))
    between = [n for n in RANKED if least < n < most]
    kept = between[:: max(1, min(ways, len(between) // FEWEST))]
    return sorted({least, most, *kept, *(n for n in (quota["preranking"],) if least < n < most)})


def smooth(quotas: Sequence[Quota], measured_J: ArrayLike) -> Array:  # (J,)
    """Costs without the noise of measuring: non-negative least squares on what plans consist of.

    Methods §18: a channel's cost is that of switching it on and of what it returns, in proportion
    to how hard it searches; the merge's and each ranker's of their items, a ranker's also of
    running at all; re-ranking's of the items that it chooses among.
    """

    def column(name: str) -> Array:
        return np.array([quota[name] for quota in quotas], np.float64)

    names = [name for name in quotas[0] if not is_option(name)]
    parts = {name: column(name) for name in names}
    scored = parts.pop("preranking")
    ranks = np.array([quota.get(RANKING, 1) for quota in quotas], np.float64)
    tiers = [name for name in quotas[0] if is_tier(name)]
    own = ranks * (1 - sum((column(name) for name in tiers), np.zeros(len(quotas))))
    for name, by in ((RANKING, own), *((name, ranks * column(name)) for name in tiers)):
        parts[name] = by * scored
    if RERANKER in quotas[0]:
        parts[RERANKER] = column(RERANKER) * scored
    if PRERANKER in quotas[0]:
        parts[PRERANKER] = column(PRERANKER) * column("retrieval")
    for name in filter(is_effort, quotas[0]):
        parts[name] = column(name) * (column(name.removeprefix(EFFORT)) > 0)
    size = np.column_stack(list(parts.values()))
    part = np.column_stack([size / np.maximum(size.max(axis=0), 1), size > 0])
    model = LinearRegression(positive=True).fit(part, np.asarray(measured_J, np.float64))
    return np.asarray(model.predict(part), np.float64)


def is_tier(name: str) -> bool:
    """Whether a key says that a tier ranks in the ranker's place."""
    return name.startswith(TIER)


def is_effort(name: str) -> bool:
    """Whether a key says how hard a channel is to search."""
    return name.startswith(EFFORT)


def is_option(name: str) -> bool:
    """Whether a plan need not have a key."""
    return name in (PRERANKER, RANKING, RERANKER) or name.startswith((TIER, EFFORT))


def after_preranking(name: str) -> bool:
    """Whether a key says only what happens after pre-ranking."""
    return name in AFTER or is_tier(name)


def _before_ranker(quota: Quota) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((k, n) for k, n in quota.items() if not after_preranking(k)))


def _check_option(
    place: str, name: str, known: Sequence[str], options: Collection[str] | None
) -> None:
    """Raise ConfigError where the cascade would not obey a key."""
    if not is_option(name):
        near = suggest(name, known)
        raise ConfigError(f"{place}: no such stage or channel {name!r}; {near}")
    if options is None or name in options or name == RANKING:
        return
    if is_tier(name):
        tiers = [other.removeprefix(TIER) for other in options if is_tier(other)]
        near = suggest(name.removeprefix(TIER), tiers)
        raise ConfigError(
            f"{place}: the bundle has no tier {name.removeprefix(TIER)!r} ({near}); "
            "name it in `tiers` and train, or profile again"
        )
    skipped = {RERANKER: "re-ranking cannot be skipped", PRERANKER: "the merge was never fitted"}
    what = skipped.get(name, f"no channel obeys {name!r}")
    raise ConfigError(f"{place}: {what} in this cascade; profile again")
