"""From a ranker's scores to probabilities that can be multiplied by money.

P points of the calibration curve, summed over the T tasks; the other letters as in ``data.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from .errors import DataError

MIN_EACH = 50  # positives, and negatives, that a point of the curve must rest on
_NEAREST = 1e-12  # probabilities are kept this far from 0 and 1, where the logit is infinite
_FAR = 27.0  # a logit just short of that
_FLATTEST = 0.05  # slope: even of a ranker that orders no better than chance
_ROUNDS = 20  # of the correction of the mean; each leaves a fraction of the error before


@final
@dataclass(frozen=True, slots=True)
class Calibration:
    """A strictly rising piecewise linear map of logits, one a task.

    Two steps, each from data. A straight line of logits (Platt 1999) sets level and slope right
    everywhere, also where there are few positives. An isotonic regression on top of it (Zadrozny
    and Elkan, KDD 2002) mends what is not straight: each of its blocks gives one point, mean
    prediction and observed rate. Departures: blocks are joined until each rests on 50 positives
    and 50 negatives; the map is linear between the points and follows the line beyond them, where
    isotonic regression has steps, which would tie whole blocks of candidates. So ranking and AUC
    stay as they were.
    """

    predicted: Tensor  # (P,) float64: logits a ranker gives, rising within a task
    observed: Tensor  # (P,) float64: the logits they stand for, rising within a task
    offsets: Tensor  # (T + 1,) int64: the points of each task

    @classmethod
    def identity(cls, num_tasks: int, keep_rate: float = 1.0) -> Calibration:
        """No curve; only what undoes training on negatives kept at rate w = ``keep_rate``.

        p = p' / (p' + (1 - p') / w), which multiplies odds by w (He et al., ADKDD 2014).
        """
        return cls._of([_straight(keep_rate) for _ in range(num_tasks)])

    @classmethod
    def fit(
        cls,
        probability_NT: Tensor,
        label_NT: Tensor,
        weight_N: Tensor | None = None,
        *,
        keep_rate: float = 1.0,
    ) -> Calibration:
        """Fit to predictions on data that the ranker was not trained on.

        ``weight_N`` says how many exposures a row stands for: 1 / w for negatives kept at rate w.
        A task with fewer than 50 positives or 50 negatives gets no curve but only what undoes the
        sampling under which the *ranker was trained*, ``keep_rate`` (1 if its loss was weighted).

        Raises DataError on predictions outside [0, 1], labels other than 0 and 1, weights that are
        negative or not finite.
        """
        weights = torch.ones(len(label_NT)) if weight_N is None else weight_N
        _check(probability_NT, label_NT, weights, keep_rate)
        counted = weights > 0
        return cls._of(
            [
                _curve(p_N[counted].double(), y_N[counted].double(), weights[counted], keep_rate)
                for p_N, y_N in zip(probability_NT.T, label_NT.T, strict=True)
            ]
        )

    def apply(self, probability_NT: Tensor) -> Tensor:
        """Calibrated probabilities ``(N, T) float32``; NaN stays NaN."""
        tasks = len(self.offsets) - 1
        if probability_NT.dim() != 2 or probability_NT.shape[1] != tasks:
            raise ValueError(
                f"calibrated for {tasks} tasks, got a tensor of shape {tuple(probability_NT.shape)}"
            )
        logit_TN = _logit(probability_NT.T.contiguous().double())
        ends = self.offsets.tolist()
        mapped = [
            _through(logit_N, self.predicted[start:end], self.observed[start:end])
            for logit_N, start, end in zip(logit_TN, ends, ends[1:], strict=False)
        ]
        return torch.stack(mapped, 1).sigmoid().float()

    def arrays(self) -> Mapping[str, Tensor]:
        """Everything needed to restore it."""
        return {"predicted": self.predicted, "observed": self.observed, "offsets": self.offsets}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> Calibration:
        """Restore from :meth:`arrays`; maps as before, bit for bit."""
        return cls(arrays["predicted"], arrays["observed"], arrays["offsets"])

    @classmethod
    def _of(cls, curves: Sequence[tuple[Tensor, Tensor]]) -> Calibration:
        predicted, observed = zip(*curves, strict=True)
        lengths = torch.tensor([0, *(len(x_P) for x_P in predicted)])
        return cls(torch.cat(predicted), torch.cat(observed), lengths.cumsum(0))


def _check(probability_NT: Tensor, label_NT: Tensor, weight_N: Tensor, keep_rate: float) -> None:
    if not 0 < keep_rate <= 1:
        raise DataError(f"calibration: keep_rate must be above 0 and at most 1, got {keep_rate}")
    wrong = int((~((probability_NT >= 0) & (probability_NT <= 1))).sum())  # NaN is wrong too
    if wrong:
        raise DataError(
            f"calibration: {wrong} of {probability_NT.numel()} predictions are not in [0, 1]; "
            "did training diverge?"
        )
    if not bool(((label_NT == 0) | (label_NT == 1)).all()):
        raise DataError("calibration: labels must be 0 or 1")
    if not bool((weight_N.isfinite() & (weight_N >= 0)).all()):
        raise DataError("calibration: weights must be finite and not negative")


def _straight(keep_rate: float) -> tuple[Tensor, Tensor]:
    """The curve of slope 1 that multiplies odds by the keep-rate."""
    ends = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    return ends, ends + math.log(keep_rate)


def _curve(p_N: Tensor, y_N: Tensor, weight_N: Tensor, keep_rate: float) -> tuple[Tensor, Tensor]:
    """The points of one task's curve."""
    if min(y_N.sum(), (1 - y_N).sum()) < MIN_EACH:
        return _straight(keep_rate)
    logit_N = _logit(p_N)
    slope, shift = _platt(logit_N, y_N, weight_N)
    x_P, y_P = _blocks((slope * logit_N + shift).clamp(-_FAR, _FAR).sigmoid(), y_N, weight_N)
    predicted, observed = (_extend(_logit(x_P)) - shift) / slope, _extend(_logit(y_P))
    # a block's mean is not the mean of the curve over it, which bends: set the overall mean right
    mapped_N = _through(logit_N, predicted, observed)
    wanted = _logit(_mean(y_N, weight_N))
    lift = torch.zeros_like(wanted)
    for _ in range(_ROUNDS):
        lift = lift + wanted - _logit(_mean((mapped_N + lift).sigmoid(), weight_N))
    return predicted, observed + lift


def _platt(logit_N: Tensor, y_N: Tensor, weight_N: Tensor) -> tuple[float, float]:
    """Slope and shift of the best straight line of logits; it always rises."""
    # next to no regularisation: enough to stay finite when one threshold separates the labels
    model = LogisticRegression(C=100.0, solver="newton-cholesky")
    model.fit(logit_N[:, None].numpy(), y_N.numpy(), sample_weight=weight_N.numpy())
    slope = min(max(float(np.ravel(model.coef_)[0]), _FLATTEST), 1 / _FLATTEST)
    return slope, float(np.ravel(model.intercept_)[0])


def _blocks(p_N: Tensor, y_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
    """Mean prediction and observed rate of the blocks of an isotonic regression.

    Neighbouring blocks are joined until each rests on enough positives and negatives; the rates
    still rise strictly.
    """
    p, place = np.unique(p_N.numpy(), return_inverse=True)
    y, weight = y_N.numpy(), weight_N.numpy()
    sums = np.stack(
        [np.bincount(place, each) for each in (weight, weight * p[place], weight * y, y, 1 - y)]
    )
    fitted = isotonic_regression(sums[2] / sums[0], sample_weight=sums[0])
    starts = np.flatnonzero(np.diff(fitted, prepend=-1.0) > 0)
    sums = np.add.reduceat(sums, starts, axis=1)
    joined = [0]
    held = np.zeros(2)
    for i, each in enumerate(sums[3:].T):
        if (held >= MIN_EACH).all():
            joined.append(i)
            held = np.zeros(2)
        held = held + each
    if (held < MIN_EACH).any():  # too little is left for a block of its own
        joined.pop()
    total, predicted, observed = np.add.reduceat(sums, joined, axis=1)[:3]
    return torch.from_numpy(predicted / total), torch.from_numpy(observed / total)


def _extend(logit_P: Tensor) -> Tensor:
    """One more point on either side, where a curve of such points goes on with slope 1."""
    return torch.cat([logit_P[:1] - 1, logit_P, logit_P[-1:] + 1])


def _through(logit_N: Tensor, predicted: Tensor, observed: Tensor) -> Tensor:  # (N,)
    """Linear between the points, and on beyond the ends."""
    right_N = torch.searchsorted(predicted, logit_N).clamp(1, len(predicted) - 1)
    left_N = right_N - 1
    slope_N = (observed[right_N] - observed[left_N]) / (predicted[right_N] - predicted[left_N])
    return observed[left_N] + (logit_N - predicted[left_N]) * slope_N


def _logit(probability: Tensor) -> Tensor:
    return probability.logit(eps=_NEAREST)


def _mean(value_N: Tensor, weight_N: Tensor) -> Tensor:
    return (value_N * weight_N).sum() / weight_N.sum()
