"""What a searchable scorer is trained for: the items that requests took, and a graph's liking.

B  requests    N  positives, summed over requests    P  most positives of a request
M  negatives, shared by the batch's requests         n = M + P  items of a request's list
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from .. import config
from ..data import Batch
from ..nn.losses import mixed_log_q
from ..ops import ragged
from ..ops.embedding_rows import take_rows
from ._split import SplitModule


class Negatives(config.Config):
    """Items that every request of a batch is scored against."""

    in_batch: int = Field(default=128, ge=0, le=100_000)
    """What other requests of the batch took: drawn as often as they are popular."""
    uniform: int = Field(default=128, ge=0, le=100_000)
    """Drawn evenly from the catalogue."""

    @model_validator(mode="after")
    def _some(self) -> Negatives:
        if not self.in_batch + self.uniform:
            raise ValueError("in_batch and uniform are both 0; a softmax needs negatives")
        return self


class Adversary(config.Config):
    """Keeps scores even along the graph: a list scored at perturbed item vectors stays as it is."""

    epsilon: float = Field(default=0.03, ge=0, le=10)
    """Step, as a share of the spread of item vectors."""
    weight: float = Field(default=1.0, ge=0, le=1000)
    """Of the term in the loss."""
    stop: Literal["clean", "perturbed", "none"] = "clean"
    """The side of the divergence that gets no gradient."""


@final
class Objective(nn.Module):
    """Sampled softmax over a request's list, and the adversarial term.

    Each positive competes with negatives of the batch and of the catalogue, corrected under one
    mixture proposal (as in the two-tower channel, see ``nn.in_batch``); other positives of its
    request are left out. A positive of several types of events counts as its weightiest.

    Adversarial term (NANN, arXiv:2202.10226, section 4.2): ``ẽ = e + ε s sign(∇_e L)`` with s the
    standard deviation of item vectors, and ``KL(softmax(list at e) ‖ softmax(list at ẽ))``. The
    step is relative, since an absolute one is dodged by inflating the vectors. Every pair of a
    request and an item has a step of its own.
    """

    def __init__(
        self,
        scorer: SplitModule[Any],
        negatives: Negatives,
        adversary: Adversary | None,
        type_weights: Mapping[str, float],
        log_q_weight: float,
        frequency_I: Tensor,
    ) -> None:
        """``frequency_I`` says how often each item is a positive in training."""
        super().__init__()
        self.scorer = scorer
        self._negatives, self._adversary = negatives, adversary
        self._type_weights, self._log_q_weight = type_weights, log_q_weight
        self._frequency_I = frequency_I

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """``softmax`` and, where there is an adversary, ``adversarial``."""
        item = batch.candidates.item_id
        lists = _Lists(self._draw(batch), item.values, item.offsets, item.row)
        bias_BN = lists.counts - self._log_q_weight * self._log_q(lists.item_BN)
        weight_N = batch.weight * self._weight(batch)
        users, vector_UV, place_BN = self.scorer.batch(batch.requests, lists.item_BN)
        if self._adversary is None:
            row_BNX = _take(self.scorer.rows(vector_UV), place_BN)
            score_BN = self.scorer.cross(users, lists.item_BN, row_BNX)
            return {"softmax": _softmax(lists.logits(score_BN + bias_BN), weight_N)}
        vector_BNV = _take(vector_UV, place_BN)
        score_BN = self.scorer.cross(users, lists.item_BN, self.scorer.rows(vector_BNV))
        clean_NX = lists.logits(score_BN + bias_BN)
        softmax = _softmax(clean_NX, weight_N)
        (of_vector_BNV,) = torch.autograd.grad(softmax, vector_BNV, retain_graph=True)
        step = self._adversary.epsilon * vector_UV.detach().std(0).mean()
        moved_BNX = self.scorer.rows(vector_BNV + step * of_vector_BNV.sign())
        moved_NX = lists.logits(self.scorer.cross(users, lists.item_BN, moved_BNX) + bias_BN)
        apart = _divergence(clean_NX, moved_NX, weight_N, self._adversary.stop)
        return {"softmax": softmax, "adversarial": self._adversary.weight * apart}

    def _draw(self, batch: Batch) -> Tensor:  # (M,)
        """Negatives, repeats included: some of the batch's positives, and the pool."""
        item_N = batch.candidates.item_id.values
        drawn = torch.randperm(len(item_N))[: self._negatives.in_batch]
        return torch.cat([item_N[drawn], batch.pool])

    def _log_q(self, item: Tensor) -> Tensor:
        """Log of how likely items are as negatives."""
        frequency_I, wanted = self._frequency_I, self._negatives
        total = round(float(frequency_I.sum()))
        count = frequency_I[item]
        return mixed_log_q(count, total, len(frequency_I), wanted.in_batch, wanted.uniform)

    def _weight(self, batch: Batch) -> Tensor:  # (N,)
        """Of each positive, by the types of its events."""
        if not self._type_weights:
            return torch.ones(len(batch.candidates))
        columns = [
            self._type_weights.get(kind, 1.0) * label_N for kind, label_N in batch.labels.items()
        ]
        return torch.stack(columns).amax(0)


class _Lists:
    """The batch's negatives and each request's positives, padded to one grid."""

    def __init__(self, item_M: Tensor, item_N: Tensor, offsets: Tensor, row_N: Tensor) -> None:
        item_D, count_D = torch.unique(item_M, return_counts=True)
        own_BP, real_BP = ragged.pad(item_N, offsets)
        size, most = real_BP.shape
        self.item_BN = torch.cat([item_D.expand(size, -1), own_BP], dim=1)
        self.counts = torch.cat([count_D.log(), torch.zeros(most)])
        self._row_N, self._shared = row_N, len(item_D)
        self._at_N = len(item_D) + torch.arange(len(item_N)) - offsets[:-1][row_N]
        top = 1 + int(self.item_BN.max())
        code_N, code_BD = row_N * top + item_N, torch.arange(size).unsqueeze(1) * top + item_D
        self._taken_BD = torch.isin(code_BD, code_N)

    def logits(self, score_BN: Tensor) -> Tensor:  # (N, 1 + M)
        """Each positive's, then those of the negatives that its request did not take."""
        lowest = torch.finfo(score_BN.dtype).min  # -inf would give NaN in the divergence
        other_BD = score_BN[:, : self._shared].masked_fill(self._taken_BD, lowest)
        positive_N1 = score_BN[self._row_N, self._at_N].unsqueeze(1)
        return torch.cat([positive_N1, other_BD.index_select(0, self._row_N)], dim=1)


def _take(value_UX: Tensor, place_BN: Tensor) -> Tensor:  # (B, n, X)
    return take_rows(value_UX, place_BN.flatten()).unflatten(0, place_BN.shape)


def _softmax(logit_NX: Tensor, weight_N: Tensor) -> Tensor:
    """Weighted mean over positives of ``-log softmax`` of the first column."""
    loss_N = F.softplus(logit_NX[:, 1:].logsumexp(1) - logit_NX[:, 0])
    return (loss_N @ weight_N) / max(len(loss_N), 1)


def _divergence(clean_NX: Tensor, moved_NX: Tensor, weight_N: Tensor, stop: str) -> Tensor:
    """``KL(clean ‖ moved)`` of the lists' softmaxes, a weighted mean over positives."""
    clean_NX, moved_NX = clean_NX.log_softmax(1), moved_NX.log_softmax(1)
    if stop == "clean":
        clean_NX = clean_NX.detach()
    elif stop == "perturbed":
        moved_NX = moved_NX.detach()
    apart_N = (clean_NX.exp() * (clean_NX - moved_NX)).sum(1)
    return (apart_N @ weight_N) / max(len(apart_N), 1)
