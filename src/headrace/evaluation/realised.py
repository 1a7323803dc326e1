"""What users did with the slates that they were shown: realised worth, by the value formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ..allocation import experience
from ..allocation.experience import EVER, Correction, Experience
from ..allocation.model import Model
from ..behavior import BehaviorStore
from ..behavior.intake import NEW
from ..data import Candidates, Ragged
from ..errors import DataError
from ..log import Log
from ..ops import ragged
from ..serving.cascade import Cascade
from ..serving.reader import ANONYMOUS

Array = NDArray[Any]
CHUNK = 1024  # users whose events are read at a time, decisions foretold


@dataclass(frozen=True)
class Learnt:
    """What decisions and events taught, and what could not be used."""

    correction: Correction
    left_out: dict[str, int]  # decisions by reason

    def __str__(self) -> str:
        c = self.correction
        told = (
            f"{c.compared:,} decisions compared, {c.explored:,} of them explored: more computation "
            f"brought {c.ratio:.2f} ± {c.error:.2f} of what the replay said"
        )
        return f"{told}; {_left_out(self.left_out)}" if self.left_out else told


def learn(
    model: Model,
    lived: Experience,
    cascade: Cascade,
    store: BehaviorStore,
    log: Log,
    tasks: Sequence[str],
    *,
    until_ms: int,
    within_ms: int,
) -> Learnt:
    """Correct a model's steps by what decisions brought within a time after them.

    ``until_ms`` is how far events are known. Raises DataError where nothing can be compared.
    """
    why_N = np.select(
        [
            (lived.user_N == 0) | ((lived.user_N >= ANONYMOUS) & (lived.user_N < NEW)),
            lived.time_ms_N + within_ms > until_ms,
            (lived.first_N < 0) | (lived.widest_N < 0),
            (lived.share_N <= 0) | (lived.share_N >= 1),
            lived.first_N >= lived.widest_N,
        ],
        ["of nobody known", "too recent", "of plans gone", "without a lot", "at the widest anyway"],
        "",
    )
    left_out = Counter(lived.left_out) + Counter(why_N[why_N != ""].tolist())
    rows = np.flatnonzero(why_N == "")
    if not len(rows) or not lived.explored_N[rows].any() or lived.explored_N[rows].all():
        lots = f"{len(rows)} decisions with a lot, {int(lived.explored_N[rows].sum())} explored"
        raise DataError(
            f"decisions: nothing to compare; {lots}; {_left_out(left_out)}; serve for longer"
        )
    real_N = realised(lived, cascade, store, log, tasks, within_ms)
    correction = experience.correct(
        np.concatenate([model.before.steps(lived.feature_NF[part]) for part in _parts(rows)]),
        lived.first_N[rows],
        lived.widest_N[rows],
        lived.explored_N[rows],
        lived.share_N[rows],
        real_N[rows],
    )
    return Learnt(correction, dict(left_out))


def realised(
    lived: Experience,
    cascade: Cascade,
    store: BehaviorStore,
    log: Log,
    tasks: Sequence[str],
    within_ms: int,
) -> Array:  # (N,)
    """The value formula of each slate, with what happened in the place of its probabilities.

    An event counts for the last slate before it, within the time, that showed its user the item.
    """
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in lived.items])])
    flat = np.concatenate([np.zeros(0, np.int64), *lived.items])
    item = Ragged(torch.from_numpy(flat), torch.from_numpy(offsets.astype(np.int64)))
    row_K = item.row.numpy()
    shown = pl.DataFrame(
        {
            "at": np.arange(len(row_K)),
            "user": lived.user_N[row_K],
            "item": item.values.numpy(),
            "time_ms": lived.time_ms_N[row_K],
        }
    )
    label_KT = torch.zeros(len(row_K), len(tasks))
    for task, name in enumerate(tasks):
        done = _events(store, lived, 1 << log.type_code(name))
        credited = done.join_asof(
            shown,
            on="time_ms",
            by=["user", "item"],
            strategy="backward",
            tolerance=within_ms,
            allow_exact_matches=False,
            check_sortedness=False,  # both are, by time
        )
        label_KT[torch.from_numpy(credited["at"].drop_nulls().unique().to_numpy().copy()), task] = 1
    worth_K = cascade.worth(label_KT, Candidates(item)).double()
    return ragged.segment_sum(worth_K, item.offsets).numpy()


def _events(store: BehaviorStore, lived: Experience, mask: int) -> pl.DataFrame:
    """What the users of decisions did since the first of them, by time."""
    users, since_ms = np.unique(lived.user_N), int(lived.time_ms_N[0])
    parts: list[pl.DataFrame] = []
    for some in _parts(users):
        told = store.latest(some, np.full(len(some), EVER), EVER, mask)
        part = pl.DataFrame(
            {
                "user": np.repeat(some, np.diff(told.offsets)),
                "item": told.item.astype(np.int64),
                "time_ms": told.time_ms,
            }
        )
        parts.append(part.filter(pl.col("time_ms") > since_ms))
    return pl.concat(parts).sort("time_ms")


def _parts(rows: Array) -> Iterator[Array]:
    for at in range(0, len(rows), CHUNK):
        yield rows[at : at + CHUNK]


def _left_out(reasons: Counter[str] | dict[str, int]) -> str:
    return "left out " + ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items()))
