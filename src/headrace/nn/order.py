"""Losses over pairs of a list, weighed by what exchanging the two would change in NDCG.

B  lists    M  candidates of a list, padded
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def swap_weights(gain_BM: Tensor, place_BM: Tensor, real_BM: Tensor) -> Tensor:  # (B, M, M)
    """``|ΔNDCG|`` of exchanging two candidates that stand at these places, counted from 0.

    0 where one of them is padding; a list without any gain has no weights.
    """
    gain_BM = gain_BM * real_BM
    discount_BM = 1 / torch.log2(place_BM.float() + 2) * real_BM
    best_BM = gain_BM.sort(dim=1, descending=True).values
    ideal_M = 1 / torch.log2(torch.arange(gain_BM.shape[1]) + 2.0)
    ideal_B = (best_BM * ideal_M).sum(1).clamp(min=1e-9)
    gap_BMM = gain_BM.unsqueeze(2) - gain_BM.unsqueeze(1)
    shift_BMM = discount_BM.unsqueeze(2) - discount_BM.unsqueeze(1)
    both_BMM = real_BM.unsqueeze(2) & real_BM.unsqueeze(1)
    return (gap_BMM * shift_BMM).abs() / ideal_B.reshape(-1, 1, 1) * both_BMM


def pairwise_logistic(
    score_BM: Tensor, gain_BM: Tensor, weight_BMM: Tensor, row_weight_BM: Tensor
) -> Tensor:
    """``Σ_ij w_i · weight_ij · log(1 + exp(s_j - s_i))`` over pairs in which i has more gain.

    Its gradient is LambdaRank's λ where ``weight_BMM`` is ``|ΔNDCG|`` at the places that the scores
    give. ``row_weight_BM`` is each candidate's own weight in the batch.
    """
    above_BMM = gain_BM.unsqueeze(2) > gain_BM.unsqueeze(1)
    loss_BMM = F.softplus(score_BM.unsqueeze(1) - score_BM.unsqueeze(2))
    return (loss_BMM * weight_BMM * row_weight_BM.unsqueeze(2) * above_BMM).sum()


def places(score_BM: Tensor, real_BM: Tensor) -> Tensor:  # (B, M) int64
    """Each candidate's place in its list by score, padding last; ties keep their order."""
    order_BM = score_BM.masked_fill(~real_BM, -torch.inf).argsort(
        dim=1, descending=True, stable=True
    )
    return order_BM.argsort(dim=1)
