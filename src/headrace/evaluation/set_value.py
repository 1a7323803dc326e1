"""What the ranker would deliver from a set, told from what pre-ranking knows of the set.

  B  requests    S  numbers told of a set    k  size of the set: the pre-ranker's first k

A set is worth the ranker's ten best of it. A regression tells that from the pre-ranker's worths in
order, how many there are, and which channels found them: the set evaluator of cascades that choose
sets. It is fitted on half of the requests and judged on the other, and the other way round, beside
the plainest evaluator there is, the sum of the pre-ranker's ten best worths, scaled to be right in
the mean. Where it does no better than that, the sum is the evaluator to use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..allocation.gains import Linear
from ..allocation.logged import STATISTICS, statistics
from ..data import Candidates, Ragged
from ..ops import ragged
from .structure import SetValue

Array = NDArray[Any]
SIZES = (10, 20, 50, 100)
DELIVERED = 10  # of a set, the ranker's best
FEWEST = 200  # requests; a fit on less says nothing
SUM = STATISTICS.index("best_10")


@dataclass(frozen=True, slots=True)
class Sets:
    """The sets of some requests, one a size, and what the ranker delivers of each."""

    told: Mapping[int, Array]  # k -> (B, S) float64
    delivered: Mapping[int, Array]  # k -> (B,) float64

    @classmethod
    def of(cls, rough_N: Tensor, fine_N: Tensor, merged: Candidates, channels: int) -> Sets:
        """From both words on candidates, which say what of ``channels`` found them."""
        offsets = merged.item_id.offsets
        told: dict[int, Array] = {}
        delivered: dict[int, Array] = {}
        for k in SIZES:
            kept_K = ragged.top(rough_N, offsets, torch.full((len(merged.item_id),), k))
            lengths_B = merged.item_id.lengths.clamp(max=k)
            rough = Ragged.sized(rough_N[kept_K], lengths_B)
            fine = rough.with_values(fine_N[kept_K].double().clamp(min=0))
            found_by_K = merged.features["found_by"][kept_K]
            share_BC = [
                ragged.segment_mean((found_by_K >> c & 1).double().unsqueeze(1), rough.offsets)
                for c in range(channels)
            ]
            told[k] = np.concatenate([statistics(rough), torch.cat(share_BC, dim=1).numpy()], 1)
            best = ragged.top(fine.values, fine.offsets, torch.full_like(lengths_B, DELIVERED))
            of = Ragged.sized(fine.values[best], lengths_B.clamp(max=DELIVERED))
            delivered[k] = ragged.segment_sum(of.values, of.offsets).numpy()
        return cls(told, delivered)

    @classmethod
    def join(cls, parts: Sequence[Sets]) -> Sets:
        """Those of all requests."""
        return cls(
            {k: np.concatenate([part.told[k] for part in parts]) for k in SIZES},
            {k: np.concatenate([part.delivered[k] for part in parts]) for k in SIZES},
        )


def set_value(sets: Sets) -> dict[str, SetValue] | None:
    """Told and true value of sets by size, for requests not fitted on; None for too few."""
    if len(sets.delivered[SIZES[0]]) < FEWEST:
        return None
    return {str(k): _judged(sets.told[k], sets.delivered[k]) for k in SIZES}


def _judged(told_BS: Array, true_B: Array) -> SetValue:
    first_B = np.random.default_rng(0).permutation(len(true_B)) % 2 == 0
    model_B, sum_B = np.empty_like(true_B), np.empty_like(true_B)
    for judged_B in (first_B, ~first_B):
        known_B = ~judged_B
        model = Linear.fit([told_BS[known_B]], true_B[known_B, None])
        model_B[judged_B] = model.predict(told_BS[judged_B])[:, 0].clip(min=0)
        rough = told_BS[known_B, SUM].sum()
        scale = true_B[known_B].sum() / rough if rough > 0 else 1.0
        sum_B[judged_B] = scale * told_BS[judged_B, SUM]
    mean = max(float(true_B.mean()), 1e-12)
    return {
        "real": float(true_B.mean()),
        "predicted": float(model_B.mean()),
        "error": float(np.abs(model_B - true_B).mean()) / mean,
        "error_of_sum": float(np.abs(sum_B - true_B).mean()) / mean,
    }
