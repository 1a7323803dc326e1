"""What a report says: the keys of ``report.json``, typed. ``docs/report.md`` defines each of them.

The report is a plain dictionary, so that a key here is the key in the file. Keys that are not
required belong to parts a cascade may lack; everything that reads a report copes without them.
"""

from __future__ import annotations

import math
import operator
from typing import Annotated, NotRequired

from pydantic import BeforeValidator, ConfigDict, with_config
from typing_extensions import TypedDict


def _defined(value: float | None) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return float(value) if value is not None and math.isfinite(value) else None


Metric = Annotated[float | None, BeforeValidator(_defined)]
Count = Annotated[int, BeforeValidator(operator.index)]
Errors = dict[str, Metric]  # metric -> standard error over requests

RecallAt = TypedDict(
    "RecallAt",
    {
        "recall@10": Metric,
        "recall@50": Metric,
        "recall@200": Metric,
        "se": NotRequired[Errors],
    },
)

SlateQuality = TypedDict(
    "SlateQuality",
    {
        "recall@10": Metric,
        "ndcg@10": Metric,
        "value": Metric,
        "hit_rate@10": Metric,
        "mrr@10": Metric,
        "coverage@10": Metric,
        "se": NotRequired[Errors],
    },
)


class Interval(TypedDict):
    """From the first to the last moment, ISO 8601, UTC."""

    start: str
    end: str


class Data(TypedDict):
    """What was learnt from and what was asked."""

    name: str
    users: Count
    items: Count
    events: Count
    requests: Count  # evaluated
    requests_new_to_user: Count  # of these, with at least one item that is new to the user
    truth_per_request: Metric
    new_to_user_share: Metric
    value_unit: str
    intervals: dict[str, Interval]  # log, train, test ...
    notes: list[str]


class Merged(RecallAt):
    """The merge of all channels."""

    new_to_user: NotRequired[RecallAt]


class Channel(RecallAt):
    """One channel alone, at its own quota."""

    exclusive_hits: Count
    exclusive_recall: Metric
    coverage: Metric
    items: Metric
    new_to_user: NotRequired[RecallAt]


class Overlap(TypedDict):
    """What channels have in common; rows and columns in the order of ``channels``."""

    channels: list[str]
    jaccard: list[list[Metric]]
    share: list[list[Metric]]


class Retrieval(TypedDict):
    """The first stage."""

    merged: Merged
    channels: dict[str, Channel]
    overlap: NotRequired[Overlap]


class Agreement(TypedDict):
    """What the pre-ranker's first k hold, at one k."""

    hit: Metric
    worth_hit: Metric
    ndcg: Metric
    taken_hit: Metric
    se: Errors


class KindOfItem(TypedDict):
    """Items of one kind, at the cut of all kinds."""

    candidates: Metric  # share of all
    favourites: Count
    taken: Count
    hit: Metric
    worth_hit: Metric
    taken_hit: Metric


class SetValue(TypedDict):
    """What the ranker delivers from the pre-ranker's first k: told beforehand, and true."""

    real: Metric
    predicted: Metric
    error: Metric  # mean absolute, over the mean of what is true
    error_of_sum: Metric  # of the pre-ranker's ten best worths, scaled


class Consistency(TypedDict):
    """The pre-ranker's order beside the ranker's, and beside what was taken."""

    favourites: Count  # of a request: the ranker's best
    requests: Count
    tau: Metric
    at: dict[str, Agreement]  # k -> ...
    cut: Count
    kinds: dict[str, KindOfItem]
    sets: NotRequired[dict[str, SetValue]]  # k -> ...


class Preranking(TypedDict):
    """The second stage, against labels and against the ranker."""

    auc: Metric
    gauc: Metric
    hit: dict[str, Metric]  # m -> share of the ranker's top 10 in the pre-ranker's top m
    consistency: NotRequired[Consistency]


class Bin(TypedDict):
    """A point of a calibration curve."""

    p: Metric
    y: Metric
    se: Metric
    count: Count


class RankingSpread(TypedDict):
    """Standard deviations over seeds."""

    auc: Metric
    gauc: Metric
    logloss: Metric
    pcoc: Metric


class Ranking(TypedDict):
    """One ranker on labelled exposures; with several seeds, the mean over them."""

    auc: Metric
    gauc: Metric
    gauc_users: Count
    gauc_skipped: Count
    logloss: Metric
    normalised_entropy: Metric
    pcoc: Metric
    calibration: list[Bin]
    seeds: NotRequired[Count]
    sd: NotRequired[RankingSpread]


class DCategoryShares(TypedDict):
    """Some items by the days since the user's last event in their category."""

    items: Count
    share: list[Metric]  # of the items, by bin
    known: Metric  # share with any earlier event
    days: Metric  # mean of those


class DCategoryRanker(TypedDict):
    """One ranker by bins of days."""

    shown: DCategoryShares  # its ten best of each request
    taken: DCategoryShares  # of these, what was taken
    auc: list[Metric]
    gauc: list[Metric]


class DCategory(TypedDict):
    """Two rankers side by side; every list is in the order of ``from_days``."""

    from_days: list[Metric]  # where each bin begins; the first, -1, is no earlier event
    exposures: list[Metric]
    positives: list[Count]
    models: dict[str, DCategoryRanker]


class Latency(TypedDict):
    """Quantiles over requests run one at a time."""

    p50: Metric
    p99: Metric


class Cascade(SlateQuality):
    """The slate that leaves the last stage."""

    new_to_user: NotRequired[SlateQuality]
    latency_ms: NotRequired[Latency]
    stage_ms: NotRequired[dict[str, Metric]]
    funnel: NotRequired[dict[str, Metric]]


class Baseline(SlateQuality):
    """One channel's own order, cut to a slate, on the same requests."""

    new_to_user: NotRequired[SlateQuality]
    delta_se: NotRequired[Errors]


class LossPoint(TypedDict):
    """A point of a training curve; ``valid`` is null between validations."""

    step: Count
    train: Metric
    valid: Metric


class Training(TypedDict):
    """How one model was fitted."""

    seconds: Metric
    loss: list[LossPoint]


@with_config(ConfigDict(strict=True, extra="forbid"))
class Report(TypedDict):
    """One evaluation of one cascade on one data set."""

    version: str
    config: str
    created: NotRequired[str]
    data: Data
    retrieval: NotRequired[Retrieval]
    preranking: NotRequired[Preranking]
    ranking: NotRequired[dict[str, Ranking]]
    d_category: NotRequired[DCategory]
    cascade: NotRequired[Cascade]
    baselines: NotRequired[dict[str, Baseline]]
    training: NotRequired[dict[str, Training]]
    seconds: NotRequired[dict[str, Metric]]
    left_out: NotRequired[dict[str, str]]  # part -> why it is absent
