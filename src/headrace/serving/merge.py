"""One list of what all channels found, by what each channel's finding is worth.

A candidate's log-odds of being taken are a sum over the channels that found it, of a worth learnt
for its place in the channel's list and one for its score there:
``bias + Σ_c (place_c[place] + score_c[bin of score])``. Scores of different channels cannot be
compared; their worths can.

Fitted on validation requests in two steps: isotonic regressions of taken on place and on score, for
each channel, then a logistic regression on the logits of these, which finds how much of each
survives beside the others. Unfitted, lists are interleaved by place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from ..data import Candidates, Ragged
from ..ops import ragged

MAX_PLACES = 1_000  # later places are worth what the last one is
SCORE_BINS = 64
RIDGE = 1e-6
MIN_HITS = 20  # a fit on less says nothing


@final
@dataclass(frozen=True)
class Merge:
    """What places and scores are worth, in log-odds; channels in the order of the cascade's."""

    place_CP: Tensor  # (C, P) float32
    edge_CS: Tensor  # (C, S - 1) float32, the scores at which the next bin begins
    score_CS: Tensor  # (C, S) float32
    bias: Tensor  # () float32

    @classmethod
    def interleave(cls, channels: int) -> Merge:
        """No fit: first places first, earlier channels before later ones."""
        place = torch.arange(MAX_PLACES, dtype=torch.float32)
        first = torch.arange(channels, dtype=torch.float32).unsqueeze(1) / max(channels, 1)
        no_edges = torch.full((channels, SCORE_BINS - 1), torch.inf)
        worth = 8 * (1 - (place + first) / MAX_PLACES)
        return cls(worth, no_edges, torch.zeros(channels, SCORE_BINS), torch.tensor(0.0))

    @classmethod
    def fit(cls, passes: Sequence[tuple[Mapping[str, Candidates], Ragged]]) -> Merge:
        """Learn from what channels found, and what was taken, over one or more sets of requests."""
        num_channels = len(passes[0][0])
        unions = [_Union.of(found) for found, _ in passes]
        taken_N = torch.cat(
            [u.taken(truth) for u, (_, truth) in zip(unions, passes, strict=True)]
        ).numpy()
        place_NC = torch.cat([u.place_NC for u in unions])
        score_NC = torch.cat([u.score_NC for u in unions])
        if taken_N.sum() < MIN_HITS or taken_N.all():
            return cls.interleave(num_channels)
        edge_CS = _edges(place_NC, score_NC)
        bin_NC = torch.searchsorted(edge_CS, score_NC.T.contiguous(), right=True).T.numpy()
        known_NC = (place_NC >= 0).numpy()
        place_CP = _curves(place_NC.numpy(), known_NC, taken_N, MAX_PLACES, rising=False)
        score_CS = _curves(bin_NC, known_NC, taken_N, SCORE_BINS, rising=True)
        logit_NC = np.take_along_axis(place_CP.T, place_NC.numpy().clip(0, MAX_PLACES - 1), 0)
        by_place, by_score, level, bias = _weigh(
            logit_NC * known_NC,
            np.take_along_axis(score_CS.T, bin_NC, 0) * known_NC,
            known_NC,
            taken_N,
        )
        return cls(
            torch.from_numpy((by_place[:, None] * place_CP + level[:, None]).astype(np.float32)),
            edge_CS,
            torch.from_numpy((by_score[:, None] * score_CS).astype(np.float32)),
            torch.tensor(bias, dtype=torch.float32),
        )

    def merge(self, found: Mapping[str, Candidates], quota_B: Tensor) -> Candidates:
        """At most ``quota_B`` distinct items a request, best first.

        Scores ``"retrieval"`` is the probability that the item is taken; feature ``"found_by"`` is
        the set of channels as bits, by their order.
        """
        union = _Union.of(found)
        known_CN = union.place_NC.T >= 0
        bin_CN = torch.searchsorted(self.edge_CS, union.score_NC.T.contiguous(), right=True)
        worth_CN = self.place_CP.gather(1, union.place_NC.T.clamp(0, MAX_PLACES - 1))
        worth_CN = worth_CN + self.score_CS.gather(1, bin_CN)
        logit_N = self.bias + (worth_CN * known_CN).sum(0)
        bits_C1 = (1 << torch.arange(len(found))).unsqueeze(1)
        merged = Candidates(union.item, {"found_by": (known_CN * bits_C1).sum(0)})
        merged = merged.scored("retrieval", logit_N.sigmoid().unsqueeze(-1))
        return merged.take(ragged.top(logit_N, union.item.offsets, quota_B))

    def arrays(self) -> Mapping[str, Tensor]:
        """The worths."""
        return {
            "place_CP": self.place_CP,
            "edge_CS": self.edge_CS,
            "score_CS": self.score_CS,
            "bias": self.bias,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> Merge:
        """Take up a fitted merge."""
        return cls(**arrays)


@dataclass(frozen=True)
class _Union:
    """The distinct items of each request, with their place and score in every channel's list."""

    item: Ragged  # (N,) int64, ascending within a request
    place_NC: Tensor  # (N, C) int64, -1 where the channel did not find the item
    score_NC: Tensor  # (N, C) float32, 0 there

    @classmethod
    def of(cls, found: Mapping[str, Candidates]) -> _Union:
        lists = [candidates.item_id for candidates in found.values()]
        size = 1 + max((int(x.values.max()) for x in lists if len(x.values)), default=0)
        keys = [x.row * size + x.values for x in lists]
        key_N, at = torch.unique(torch.cat(keys), return_inverse=True)
        place_NC = torch.full((len(key_N), len(lists)), -1)
        score_NC = torch.zeros(len(key_N), len(lists))
        for c, (candidates, here) in enumerate(
            zip(found.values(), at.split([len(k) for k in keys]), strict=True)
        ):
            ids = candidates.item_id
            place_NC[here, c] = torch.arange(len(ids.values)) - ids.offsets[ids.row]
            score_NC[here, c] = candidates.scores["score"][:, 0].float()
        counts = torch.bincount(key_N // size, minlength=len(lists[0]))
        return cls(Ragged.sized(key_N % size, counts), place_NC, score_NC)

    def taken(self, truth: Ragged) -> Tensor:
        """Whether each item is in its request's truth, ``(N,) float64``."""
        size = 1 + int(max(self.item.values.max(), truth.values.max()))
        mine = self.item.row * size + self.item.values
        return torch.isin(mine, truth.row * size + truth.values).double()


def _edges(place_NC: Tensor, score_NC: Tensor) -> Tensor:  # (C, S - 1)
    """Quantiles of each channel's scores."""
    rows: list[Tensor] = []
    for c in range(place_NC.shape[1]):
        scores = score_NC[place_NC[:, c] >= 0, c].numpy()
        cuts = np.linspace(0, 1, SCORE_BINS + 1)[1:-1]
        edges = np.quantile(scores, cuts) if len(scores) else np.full(SCORE_BINS - 1, np.inf)
        rows.append(torch.from_numpy(edges.astype(np.float32)))
    return torch.stack(rows)


def _curves(
    at_NC: np.ndarray, known_NC: np.ndarray, taken_N: np.ndarray, size: int, *, rising: bool
) -> np.ndarray:
    """Logit of the share taken at each place or bin of each channel, monotone; ``(C, size)``."""
    curves: list[np.ndarray] = []
    for at_N, known_N in zip(at_NC.T, known_NC.T, strict=True):
        share = np.full(size, (taken_N.sum() + 1) / (len(taken_N) + 2))
        if known_N.any():
            model = IsotonicRegression(increasing=rising, out_of_bounds="clip")
            share = model.fit(at_N[known_N], taken_N[known_N]).predict(np.arange(size))
        share = share.clip(1e-5, 1 - 1e-5)
        curves.append(np.log(share / (1 - share)))
    return np.stack(curves)


def _weigh(
    place_NC: np.ndarray, score_NC: np.ndarray, known_NC: np.ndarray, taken_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Logistic regression on the channels' logits: slopes of place and of score, level, bias.

    Slopes are held at 0 or above while fitting: a better place or score can never be worth less.
    """
    size = place_NC.shape[1]
    inputs = np.concatenate([place_NC, score_NC, known_NC, np.ones((len(taken_N), 1))], axis=1)
    ridge = np.r_[np.full(3 * size, RIDGE), 0.0]

    def loss(weight: np.ndarray) -> tuple[float, np.ndarray]:
        logit_N = inputs @ weight
        error_N = expit(logit_N) - taken_N
        value = np.mean(np.logaddexp(0, logit_N) - taken_N * logit_N)
        slope = inputs.T @ error_N / len(taken_N)
        return float(value + 0.5 * ridge @ weight**2), slope + ridge * weight

    start = np.r_[np.full(2 * size, 0.5), np.zeros(size + 1)]
    bounds = [(0, None)] * (2 * size) + [(None, None)] * (size + 1)
    weight = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    by_place, by_score, level = weight[:-1].reshape(3, size)
    return by_place, by_score, level, float(weight[-1])
