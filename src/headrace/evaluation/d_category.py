"""How far back two rankers reach: days since the user's last event in an item's category.

  N  items of lists or exposures, summed over requests     B  requests     G  bins of days

A ranker that reads a whole life should find more of what the user comes back to after a long time.
"SIM" (Pi et al. 2020) shows it by d_category, "days till last same category behaviour", of the
clicks that two rankers got online. Offline both answer the same requests: what is compared is the
ten best of each out of all that retrieval found, and those of them that were taken. Departure: how
well each orders exposures is told by the same bins.

Every look-up is strictly before the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..bundle import Bundle
from ..calibration import Calibration
from ..data import Candidates, Ragged, Requests
from ..errors import ConfigError, suggest
from ..nn.pointwise import Pointwise
from ..ops import ragged
from ..pipeline.learning import Predicted
from ..samples import Drawn, Samples
from ..samples.split import DAY_MS
from ..serving.cascade import Cascade
from . import metrics
from .structure import DCategory, DCategoryRanker, DCategoryShares, Metric

Array = NDArray[Any]
Floats = NDArray[np.float64]
NEVER = -1.0
FROM_DAYS = (NEVER, 0.0, 1.0, 3.0, 7.0, 14.0, 30.0, 90.0)  # 14: the paper's threshold
SHOWN = 10


@dataclass(frozen=True)
class Rival:
    """A ranker whose order is compared."""

    model: Pointwise
    calibration: Calibration

    def best(self, cascade: Cascade, requests: Requests, merged: Candidates) -> Ragged:
        """Its ten best candidates of each request by value, best first.

        Unblended, even for the ranker that serves: the two should differ in the model alone.
        """
        p_NT = self.calibration.apply(self.model.score(requests, merged))
        quota_B = torch.full((len(requests),), SHOWN)
        value_N = cascade.worth(p_NT, merged)
        return merged.take(ragged.top(value_N, merged.item_id.offsets, quota_B)).item_id


def rivals(
    bundle: Bundle, samples: Samples, against: str | None
) -> tuple[Mapping[str, Rival], str]:
    """The ranker that serves and another, by name; else none, and why.

    ``against`` names the other, by default the first of ``[compare]``. Raises ConfigError if it is
    not in the bundle.
    """
    others = [name for name in bundle.rankers() if name != "ranking"]
    if against is not None and against not in others:
        raise ConfigError(
            f"--against {against}: no ranker of that name under [compare]; "
            f"{suggest(against, others)}"
        )
    if not others:
        return {}, "there is one ranker; name another under [compare] and train again"
    if len(samples.space.catalogue.category[1:].unique()) < 2:
        return {}, "all items are of one category; name the items' category column in [source]"
    chosen = ("ranking", against or others[0])
    pair = {n: Rival(bundle.ranker(n, samples.space), bundle.calibration(n)) for n in chosen}
    return pair, ""


def days_since(samples: Samples, request_B: Array, item: Ragged) -> Tensor:
    """Days from the user's last event in each item's category to the request, ``(N,) float64``.

    -1 where there was none.
    """
    asked, row_N = samples.asked(request_B), item.row.numpy()
    time_N = asked.time_ms[row_N]
    category_N = samples.space.catalogue.category[item.values].numpy()
    events = samples.store.by_category(asked.user[row_N], category_N, time_N, 1)
    some_N = np.diff(events.offsets) > 0
    days_N = np.full(len(row_N), NEVER)
    days_N[some_N] = (time_N[some_N] - events.time_ms) / DAY_MS
    return torch.from_numpy(days_N)


@dataclass(frozen=True)
class Asked:
    """Requests, what each then took, and what each ranker would have shown."""

    request: Array  # (B,) int64, rows of the log's requests
    truth: Ragged
    best: Mapping[str, Ragged]


def d_category(
    samples: Samples, asked: Asked, tested: list[Drawn], predicted: Mapping[str, Predicted]
) -> DCategory:
    """Compare rankers by bins of days: their lists, and their order of the ``tested`` exposures."""
    bin_N = bins(torch.cat([days_since(samples, d.request, d.item) for d in tested]).numpy())
    models: dict[str, DCategoryRanker] = {}
    for name, items in asked.best.items():
        days_N = days_since(samples, asked.request, items).numpy()
        auc_G, gauc_G = orders(predicted[name], bin_N)
        models[name] = {
            "shown": shares(days_N),
            "taken": shares(days_N[items.within(asked.truth).numpy()]),
            "auc": auc_G,
            "gauc": gauc_G,
        }
    _, label_NT, _, weight_N = predicted[next(iter(models))]
    weight_G = np.bincount(bin_N, weights=weight_N.numpy(), minlength=len(FROM_DAYS))
    positive_G = np.bincount(bin_N, weights=label_NT[:, -1].numpy(), minlength=len(FROM_DAYS))
    return {
        "from_days": list(FROM_DAYS),
        "exposures": (weight_G / weight_G.sum()).tolist(),
        "positives": positive_G.astype(int).tolist(),
        "models": models,
    }


def shares(days_N: Floats) -> DCategoryShares:
    """How items spread over the bins, what share has a last event at all, and how long ago."""
    known_N = days_N > NEVER
    count_G = np.bincount(bins(days_N), minlength=len(FROM_DAYS))
    size = len(days_N)
    return {
        "items": size,
        "share": (count_G / size if size else np.full(len(FROM_DAYS), np.nan)).tolist(),
        "known": float(known_N.mean()) if size else float("nan"),
        "days": float(days_N[known_N].mean()) if known_N.any() else float("nan"),
    }


def bins(days_N: Floats) -> NDArray[np.int64]:
    """The bin of each number of days, ``(N,)``."""
    return np.searchsorted(FROM_DAYS, days_N, side="right") - 1


def orders(predicted: Predicted, bin_N: NDArray[np.int64]) -> tuple[list[Metric], list[Metric]]:
    """AUC and GAUC of the last task among the exposures of each bin."""
    columns = (
        predicted.user_N.numpy(),
        predicted.label_NT[:, -1].numpy(),
        predicted.probability_NT[:, -1].numpy(),
        predicted.weight_N.numpy(),
    )
    auc_G: list[Metric] = [None] * len(FROM_DAYS)
    gauc_G: list[Metric] = [None] * len(FROM_DAYS)
    for g in np.unique(bin_N):
        user_n, label_n, p_n, weight_n = (column[bin_N == g] for column in columns)
        auc_G[g] = metrics.auc(label_n, p_n, weight_n)
        gauc_G[g] = metrics.gauc(user_n, label_n, p_n, weight_n).gauc
    return auc_G, gauc_G
