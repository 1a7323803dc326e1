"""One list of what all channels found, by how likely an item at such places is taken.

Scores of different channels cannot be compared; places can. Of an item, f_c says whether channel c
found it and n_c how near to the top of its list, 1 at the first place and 0 at the thousandth.
On validation requests a logistic regression learns

    logit p(taken | item) = zᵀ W z,   z = (1, f_1, n_1, ..., f_C, n_C)

that is, of single facts and of every two together: a high place among what is popular means one
thing for an item that the user had before and another for one that they had not. Unfitted, the
lists take turns. Those are kept that are worth most: where prices or bids count, not the likeliest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..data import Candidates, Ragged, Requests
from ..ops import ragged, union
from ..stages import Retriever

Array = NDArray[Any]
Worth = Callable[[Candidates], Tensor]  # (N,), of candidates with the score "retrieval"
MAX_PLACES = 1_000  # later places are as far as the last one
NEARNESS_P = 1 - np.log1p(np.arange(MAX_PLACES)) / np.log(MAX_PLACES)
MIN_HITS = 20  # a fit on less says nothing
MAX_UNTAKEN = 400_000  # items that were not taken in a fit; of more, a sample
MAX_CHANNELS = 62  # that ``found_by`` has bits for


@final
@dataclass(frozen=True)
class Merge:
    """What places are worth, together and alone, in the order of the cascade's channels."""

    weight: Tensor  # (Z, Z) float64, upper triangle; not numbers if not fitted

    @classmethod
    def interleave(cls, channels: int) -> Merge:
        """No fit: first places first, earlier channels before later ones."""
        size = 1 + 2 * channels
        return cls(torch.full((size, size), torch.nan, dtype=torch.float64))

    @property
    def is_fitted(self) -> bool:
        """Whether its scores are probabilities."""
        return not bool(self.weight[0, 0].isnan())

    @classmethod
    def fit(cls, passes: Sequence[tuple[Mapping[str, Candidates], Ragged]], seed: int = 0) -> Merge:
        """Learn from what channels found and what was taken, over one or more sets of requests.

        Requests come once as they are and once with the user's old items excluded: one fit serves
        both. With fewer than ``MIN_HITS`` items found that were taken, there is no fit.
        """
        unions = [collect(found) for found, _ in passes]
        place_MC = np.concatenate([place_MC for _, place_MC in unions])
        taken_M = np.concatenate(
            [
                item.within(truth).numpy()
                for (item, _), (_, truth) in zip(unions, passes, strict=True)
            ]
        )
        if taken_M.sum() < MIN_HITS or taken_M.all():
            return cls.interleave(len(passes[0][0]))
        rate = min(1.0, MAX_UNTAKEN / np.count_nonzero(~taken_M))
        kept_M = taken_M | (np.random.default_rng(seed).random(len(taken_M)) < rate)
        stands_for = np.where(taken_M[kept_M], 1.0, 1 / rate)
        return cls(torch.from_numpy(_regress(place_MC[kept_M], taken_M[kept_M], stands_for)))

    def merge(
        self, found: Mapping[str, Candidates], quota_B: Tensor, worth: Worth | None = None
    ) -> Candidates:
        """At most ``quota_B`` distinct items a request, best first.

        The best are those worth most, and of equal ones (not told, not fitted: of all) the
        likeliest, and then those mentioned first: earlier channel, earlier place. Score
        ``"retrieval"`` ``(N, 1)`` is the probability that the item is taken (not fitted: one over
        its turn); feature ``"found_by"`` ``(N,)`` is the set of channels as bits, by position.
        """
        item, place_MC = collect(found)
        if not self.is_fitted:
            turn_MC = np.where(
                place_MC >= 0, place_MC * len(found) + np.arange(len(found)), 1 << 30
            )
            score_M = torch.from_numpy(1 / (1 + turn_MC.min(axis=1, initial=1 << 30)))
        else:
            logit_M = union.quadratic(place_MC, NEARNESS_P, self.weight.numpy())
            score_M = torch.from_numpy(logit_M).sigmoid()
        bits_M = ((place_MC >= 0) * (1 << np.arange(len(found)))).sum(axis=1)
        merged = Candidates(item, {"found_by": torch.from_numpy(bits_M)})
        merged = merged.scored("retrieval", score_M.float().unsqueeze(-1))
        if worth is None or not self.is_fitted:
            return merged.take(ragged.top(score_M, item.offsets, quota_B))
        likely_M = ragged.top(score_M, item.offsets, item.lengths)
        best = ragged.top(worth(merged)[likely_M], item.offsets, quota_B)
        return merged.take(likely_M[best])

    def arrays(self) -> Mapping[str, Tensor]:
        """The weights."""
        return {"weight": self.weight}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> Merge:
        """Take up a merge."""
        return cls(arrays["weight"])


def retrieve(
    channels: Mapping[str, Retriever], requests: Requests, quota: Mapping[str, int]
) -> dict[str, Candidates]:
    """What each channel finds at its own quota."""
    size = len(requests)
    return {
        name: channel.retrieve(requests, torch.full((size,), quota[name]))
        for name, channel in channels.items()
    }


def collect(found: Mapping[str, Candidates]) -> tuple[Ragged, Array]:
    """The distinct items and their place in every list ``(M, C)``, -1 none."""
    lists = [candidates.item_id for candidates in found.values()]
    starts = np.cumsum([0, *(len(x.values) for x in lists[:-1])])
    item_N = np.concatenate([x.values.numpy() for x in lists])
    offsets_CX = np.stack([x.offsets.numpy() for x in lists]) + starts[:, None]
    slots = np.zeros(1 + int(item_N.max(initial=0)), np.int32)
    offsets, item, place_MC = union.collect(item_N, offsets_CX, slots)
    return Ragged(torch.from_numpy(item), torch.from_numpy(offsets)), place_MC


def _regress(place_MC: Array, taken_M: Array, weight_M: Array) -> Array:
    """The weights of all products of two entries of z, ``(Z, Z)``."""
    found_MC = place_MC >= 0
    nearness_MC = NEARNESS_P[place_MC.clip(0, MAX_PLACES - 1)] * found_MC
    z_MZ = np.ones((len(place_MC), 1 + 2 * place_MC.shape[1]))
    z_MZ[:, 1::2], z_MZ[:, 2::2] = found_MC, nearness_MC
    first, second = np.triu_indices(z_MZ.shape[1])
    # the constant is the intercept; f² = f and f n = n are there already
    doubled = (first % 2 == 1) & (second - first <= 1)
    first, second = first[~doubled][1:], second[~doubled][1:]
    product_MX = z_MZ[:, first] * z_MZ[:, second]
    spread = product_MX.std(axis=0)
    known = spread > 1e-9
    first, second, spread = first[known], second[known], spread[known]
    model = LogisticRegression(C=0.1, solver="newton-cholesky", max_iter=100)
    model.fit(product_MX[:, known] / spread, taken_M, sample_weight=weight_M)
    weight_ZZ = np.zeros((z_MZ.shape[1], z_MZ.shape[1]))
    weight_ZZ[first, second] = np.asarray(model.coef_)[0] / spread
    weight_ZZ[0, 0] = np.asarray(model.intercept_)[0]
    return weight_ZZ
