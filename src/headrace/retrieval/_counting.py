"""What channels that count have in common: which events, tuned on what, and how to count again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..features import FeatureSpace
from ..samples import Samples
from ..samples.split import DAY_MS
from ..stages import Retriever

Array = NDArray[Any]
MOST_REQUESTS = 2_000  # that a setting is tuned on
T = TypeVar("T")


def type_mask(samples: Samples, events: tuple[str, ...] | None) -> int:
    """The event types that count, as bits: those named, or else the samples' targets."""
    return sum(1 << samples.log.type_code(name) for name in events or samples.config.targets)


def counted(samples: Samples, mask: int, until_ms: int) -> Array:
    """Positions of the events of these types before a time, ``(n,) int64``."""
    kind = np.asarray(samples.log.event("type")).astype(np.int64)
    early = np.asarray(samples.log.event("time_ms")) < until_ms
    return np.flatnonzero(early & ((mask >> kind) & 1).astype(bool))


def worth(samples: Samples, event_E: Array, until_ms: int, half_life_days: float) -> Array:
    """What each event counts at a time, half after every half-life; ``(n,) float64``."""
    age_ms = until_ms - np.asarray(samples.log.event("time_ms"))[event_E]
    return np.exp2(-age_ms / (half_life_days * DAY_MS))


def share_of(samples: Samples, event_E: Array, worth_E: Array) -> Array:
    """Each item's share of what these events count, ``(I,) float64``; zeros if there are none."""
    item_E = np.asarray(samples.log.event("item"))[event_E]
    share_I = np.bincount(item_E, worth_E, minlength=samples.log.manifest.num_items)
    share_I[0] = 0
    return share_I / max(share_I.sum(), np.finfo(np.float64).tiny)


def check_sequences(space: FeatureSpace, history: str, skip: str | None = None) -> None:
    """Raise ConfigError unless the schema has these sequences."""
    for setting, name in (("history", history), ("skip", skip)):
        if name is not None and name not in space.schema.sequences:
            known = space.schema.sequences
            raise ConfigError(f"{setting}: no sequence {name!r}; {suggest(name, known)}")


def past(requests: Requests, history: str) -> tuple[Array, Array, Array, Array, Array]:
    """A sequence as kernels read it: offsets, item, type and time of its events, and now."""
    item = requests.ragged(f"{history}.item")
    return (
        item.offsets.numpy(),
        item.values.numpy(),
        requests.ragged(f"{history}.type").values.numpy(),
        requests.ragged(f"{history}.time_ms").values.numpy(),
        requests.time_ms.numpy(),
    )


def scored(offsets: Array, item_N: Array, score_N: Array) -> Candidates:
    """Lists that a kernel made, best first, as candidates."""
    rows = Ragged(torch.from_numpy(item_N), torch.from_numpy(offsets))
    return Candidates(rows).scored("score", torch.from_numpy(score_N).unsqueeze(-1))


def left_out(requests: Requests, skip: str | None) -> tuple[Array, Array]:
    """What each request excludes, and the items of a sequence besides: offsets and items.

    An item may occur twice.
    """
    exclude = requests.exclude
    if skip is None:
        return exclude.offsets.numpy(), exclude.values.numpy()
    own = requests.ragged(f"{skip}.item")
    order = torch.cat([exclude.row, own.row]).argsort(stable=True)
    item = torch.cat([exclude.values, own.values])[order]
    return (exclude.offsets + own.offsets).numpy(), item.numpy()


def tune(
    samples: Samples,
    settings: Sequence[T],
    make: Callable[[T], Retriever],
    *,
    new: bool,
    at: int = 200,
) -> T:
    """The setting whose retriever recalls most on validation requests; the first among equals.

    With ``new`` users' old items are excluded and what they took of them does not count.
    """
    if len(settings) == 1:
        return settings[0]
    rows, truth = samples.first_requests("valid")
    if len(rows) > MOST_REQUESTS:
        rows = np.sort(np.random.default_rng(samples.seed).choice(rows, MOST_REQUESTS, False))
        truth = samples.truth(rows)
    requests = samples.features(rows)
    wanted_N = torch.ones(len(truth.values), dtype=torch.bool)
    if new:
        requests = replace(requests, exclude=samples.seen(rows))
        wanted_N = samples.is_new(rows, truth)
    wanted_B = torch.bincount(truth.row[wanted_N], minlength=len(rows)).clamp(min=1)
    quota_B = torch.full((len(rows),), at)

    def recall(setting: T) -> float:
        found = make(setting).retrieve(requests, quota_B).item_id
        hit_N = truth.within(found) & wanted_N
        return float((torch.bincount(truth.row[hit_N], minlength=len(rows)) / wanted_B).sum())

    return max(settings, key=recall)
