"""How good predictions are, and how sure we are of a mean. Lists are judged in ``lists.py``.

  N  predictions     B  requests

Each prediction has a weight, the inverse of the keep-rate of a sampled exposure, so that a sample
of the negatives answers for all of them. What is undefined (the AUC of a single class, the recall
of a request without a true item) is NaN; means and standard errors pass over it.

Sources: GAUC as in "Deep Interest Network" (Zhou et al. 2018, there called AUC); normalised entropy
as in "Practical Lessons from Predicting Clicks on Ads at Facebook" (He et al. 2014).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from .structure import Bin

Floats = NDArray[np.float64]
Values = NDArray[Any] | Tensor
SMALLEST_P = 1e-7  # a sure and wrong prediction costs 16 nats, not infinity


class Gauc(NamedTuple):
    """AUC within users, averaged by their impressions."""

    gauc: float
    users: int  # with both classes, hence in the mean
    skipped: int  # with one class only


def auc(label_N: Values, score_N: Values, weight_N: Values | None = None) -> float:
    """Chance that a positive outscores a negative, ties counting half; NaN for a single class."""
    label_N, score_N, weight_N = _columns(label_N, score_N, weight_N)
    if np.all(label_N == label_N[:1]):
        return float("nan")
    return float(roc_auc_score(label_N, score_N, sample_weight=weight_N))


def gauc(user_N: Values, label_N: Values, score_N: Values, weight_N: Values | None = None) -> Gauc:
    """AUC within each user, averaged by the users' weights (impressions when all weigh 1).

    Users of a single class have no AUC: they are skipped, and counted.
    """
    label_N, score_N, weight_N = _columns(label_N, score_N, weight_N)
    user_N = to_numpy(user_N)
    order_N = np.lexsort((score_N, user_N))
    total, weight, users, skipped = _gauc(
        user_N[order_N], label_N[order_N], score_N[order_N], weight_N[order_N]
    )
    return Gauc(total / weight if users else float("nan"), users, skipped)


def logloss(label_N: Values, p_N: Values, weight_N: Values | None = None) -> float:
    """Mean negative log-likelihood in nats, predictions clipped to [1e-7, 1 - 1e-7]."""
    label_N, p_N, weight_N = _columns(label_N, p_N, weight_N)
    p_N = p_N.clip(SMALLEST_P, 1 - SMALLEST_P)
    loss_N = -(label_N * np.log(p_N) + (1 - label_N) * np.log1p(-p_N))
    return float(np.average(loss_N, weights=weight_N))


def normalised_entropy(label_N: Values, p_N: Values, weight_N: Values | None = None) -> float:
    """Logloss over that of always predicting the base rate; below 1 is better than knowing none."""
    label_N, p_N, weight_N = _columns(label_N, p_N, weight_N)
    rate = float(np.average(label_N, weights=weight_N))
    if rate in (0.0, 1.0):
        return float("nan")
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return logloss(label_N, p_N, weight_N) / float(entropy)


def pcoc(label_N: Values, p_N: Values, weight_N: Values | None = None) -> float:
    """Predicted over observed positives: 1 is calibrated, above 1 promises too much."""
    label_N, p_N, weight_N = _columns(label_N, p_N, weight_N)
    observed = float(weight_N @ label_N)
    return float(weight_N @ p_N) / observed if observed else float("nan")


def calibration(
    label_N: Values, p_N: Values, weight_N: Values | None = None, num_bins: int = 10
) -> list[Bin]:
    """Mean prediction and mean label in bins of equal weight, by rising prediction.

    Equal predictions share a bin (the one of their middle), so the order of the input does not
    matter and a step-wise calibrator gives fewer bins. ``se`` is the standard error of the mean
    label, linearised: ``sqrt(sum w^2 (y - mean)^2) / sum w``.
    """
    label_N, p_N, weight_N = _columns(label_N, p_N, weight_N)
    _, level_N = np.unique(p_N, return_inverse=True)
    weight_level = np.bincount(level_N, weights=weight_N)
    middle_level = (weight_level.cumsum() - weight_level / 2) / weight_level.sum()
    bin_N = (middle_level * num_bins).astype(np.int64).clip(max=num_bins - 1)[level_N]
    bins: list[Bin] = []
    for b in np.unique(bin_N):
        w, y, p = (column[bin_N == b] for column in (weight_N, label_N, p_N))
        mean_y = np.average(y, weights=w)
        se = float(np.sqrt(np.sum((w * (y - mean_y)) ** 2)) / w.sum())
        mean_p = float(np.average(p, weights=w))
        bins.append({"p": mean_p, "y": float(mean_y), "se": se, "count": len(y)})
    return bins


def mean(value_B: Floats) -> float:
    """Mean over the requests where the value is defined; NaN when there are none."""
    defined_B = value_B[~np.isnan(value_B)]
    return float(defined_B.mean()) if len(defined_B) else float("nan")


def standard_error(value_B: Floats, seed: int = 0, num_resamples: int = 1000) -> float:
    """Standard deviation of the mean over bootstrap samples of the requests.

    For the difference of two systems on the same requests pass the difference per request: the
    pairing removes what makes requests easy or hard for both.
    """
    defined_B = value_B[~np.isnan(value_B)]
    if len(defined_B) == 0:
        return float("nan")
    rng = np.random.default_rng(seed)
    size = len(defined_B)
    means = [defined_B[rng.integers(0, size, size)].mean() for _ in range(num_resamples)]
    return float(np.std(means))


def to_numpy(values: Values) -> NDArray[Any]:
    """A column as NumPy sees it, whatever it came as."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _columns(label_N: Values, score_N: Values, weight_N: Values | None) -> list[Floats]:
    """Labels, scores and weights as float64; a diverged model must not pass for a bad one."""
    columns = [label_N, score_N, np.ones(len(label_N)) if weight_N is None else weight_N]
    label, score, weight = (to_numpy(c).astype(np.float64) for c in columns)
    if not len(label) == len(score) == len(weight) > 0:
        raise ValueError(f"{len(label)} labels, {len(score)} scores, {len(weight)} weights")
    if not np.isfinite(score).all():
        raise ValueError(f"{(~np.isfinite(score)).sum()} of {len(score)} scores are not finite")
    return [label, score, weight]


@njit(cache=True, nogil=True)
def _gauc(
    user_N: NDArray[Any], label_N: Floats, score_N: Floats, weight_N: Floats
) -> tuple[float, float, int, int]:
    """Sum of weight times AUC, sum of weights, users and skipped users; sorted by user, score."""
    total, weight, users, skipped = 0.0, 0.0, 0, 0
    size = len(user_N)
    n = 0
    while n < size:
        user = user_N[n]
        wins, positive, negative = 0.0, 0.0, 0.0
        while n < size and user_N[n] == user:
            score = score_N[n]
            positive_here, negative_here = 0.0, 0.0
            while n < size and user_N[n] == user and score_N[n] == score:
                positive_here += weight_N[n] * label_N[n]
                negative_here += weight_N[n] * (1 - label_N[n])
                n += 1
            wins += positive_here * (negative + negative_here / 2)
            positive += positive_here
            negative += negative_here
        if positive > 0 and negative > 0:
            total += (positive + negative) * wins / (positive * negative)
            weight += positive + negative
            users += 1
        else:
            skipped += 1
    return total, weight, users, skipped
