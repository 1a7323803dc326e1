"""Search a long history with a candidate as the query, and look closely at what was found.

N candidates, E events of all requests, R rows of found events (a row a candidate or a key), K found
events a row, H heads, D width of target and events, A width of an age.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Ragged
from ..ops import ragged, row_attention
from ..ops.target_attention import Rows
from .age import NUM_AGES
from .embedder import INITIAL_SD

CENTRE_STEP = 0.1  # of the way, each step
INITIAL_SHARPNESS = 10.0  # strangers, whose cosines are about 0 ± .25, weigh next to nothing


@torch.no_grad()
def nearest(
    query_ND: Tensor,
    items: Ragged,
    key_UD: Tensor,
    events: Ragged,
    most: int,
    end_B: Tensor,
    bias_E: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``most`` events of each candidate's request with the largest inner products.

    ``events`` are rows of ``key_UD``: many events share one. ``bias_E`` is added to the products.
    Only events before position ``end_B`` are looked at. Returns positions into the events
    ``(N, K)``, the products ``(N, K)``, and which of them are real ``(N, K) bool``: a short history
    has fewer. Request by request, so that no history is padded to the longest.
    """
    longest = int((end_B - events.offsets[:-1]).max()) if len(events) else 0
    wanted = min(most, longest)
    at_NK = torch.zeros(len(query_ND), max(wanted, 1), dtype=torch.int64)
    near_NK = query_ND.new_zeros(at_NK.shape)
    real_NK = torch.zeros(at_NK.shape, dtype=torch.bool)
    ends = items.offsets.tolist()
    for b, (start, end) in enumerate(zip(events.offsets.tolist(), end_B.tolist(), strict=False)):
        first, last, size = ends[b], ends[b + 1], min(wanted, end - start)
        if first == last or size <= 0:
            continue
        row_L = events.values[start:end]
        if len(key_UD) <= len(row_L):  # a product an item rather than a product an event
            score_ML = (query_ND[first:last] @ key_UD.T).index_select(1, row_L)
        else:
            score_ML = query_ND[first:last] @ key_UD.index_select(0, row_L).T
        if bias_E is not None:
            score_ML += bias_E[start:end]
        top = score_ML.topk(size, dim=1)
        at_NK[first:last, :size] = start + top.indices
        near_NK[first:last, :size] = top.values
        real_NK[first:last, :size] = True
    return at_NK, near_NK, real_NK


def gather(value_E: Tensor, at: Tensor) -> Tensor:
    """``value_E[at]``; zeros where there is no event at all to point at."""
    return value_E[at] if len(value_E) else value_E.new_zeros(*at.shape, *value_E.shape[1:])


@torch.no_grad()
def sim_hash(vector_ND: Tensor, plane_DS: Tensor) -> Tensor:  # (N, S) of ±1
    """On which side of each random plane a vector lies (Charikar 2002)."""
    return torch.where(vector_ND @ plane_DS >= 0, 1.0, -1.0)


def attend(logit_RHK: Tensor, value_RHKV: Tensor, real_RK: Tensor) -> Tensor:  # (R, H * (V + 1))
    """Softmax attention, heads side by side, and each head's ``log Σ exp``.

    A softmax keeps quiet about how much was found; the logarithm of its sum tells: for logits of 0
    it is the log of their number. Where there is no event the logit is -inf: a zero would beat real
    events of negative logit. A row without real events gets some finite vector.
    """
    some_R11 = real_RK.any(1)[:, None, None]
    logit_RHK = logit_RHK.masked_fill(~real_RK.unsqueeze(1) & some_R11, -torch.inf)
    mean_RHV = (logit_RHK.softmax(-1).unsqueeze(2) @ value_RHKV).squeeze(2)
    if not logit_RHK.shape[-1]:
        return torch.cat([mean_RHV, mean_RHV.new_zeros(*mean_RHV.shape[:2], 1)], -1).flatten(1)
    return torch.cat([mean_RHV, logit_RHK.logsumexp(-1, keepdim=True)], dim=-1).flatten(1)


def attend_rows(logit_PH: Tensor, value_PV: Tensor, offsets: Tensor) -> Tensor:  # (N, H * (V + 1))
    """``attend`` over N ragged rows of pairs; an empty row gets some finite vector."""
    row_P = ragged.rows_of(offsets, len(logit_PH))
    lowest = torch.finfo(logit_PH.dtype).min
    top_NH = logit_PH.new_full((len(offsets) - 1, logit_PH.shape[1]), lowest).scatter_reduce(
        0, row_P.unsqueeze(1).expand_as(logit_PH), logit_PH.detach(), "amax"
    )
    exp_PH = (logit_PH - top_NH.index_select(0, row_P)).exp()
    total_NH = ragged.segment_sum(exp_PH, offsets)
    share_PH = exp_PH / total_NH.index_select(0, row_P)
    mean_NHV = ragged.segment_sum(share_PH.unsqueeze(2) * value_PV.unsqueeze(1), offsets)
    some_NH = total_NH > 0
    number_NH = torch.where(some_NH, total_NH, 1).log() + top_NH.where(some_NH, 0)
    return torch.cat([mean_NHV, number_NH.unsqueeze(2)], dim=2).flatten(1)


def direction(vector_ND: Tensor) -> Tensor:
    """Vectors of length 1, by which a cosine is an inner product."""
    return F.normalize(vector_ND, dim=-1)


@final
class Centre(nn.Module):
    """Takes from vectors the running mean of targets.

    While they learn, embeddings drift together; what they then have in common would make all of
    them alike.
    """

    mean: Tensor  # (D,)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))

    @torch.no_grad()
    def follow(self, target_ND: Tensor) -> None:
        """In training: move towards these targets."""
        if self.training and len(target_ND):
            self.mean.lerp_(target_ND.mean(0), CENTRE_STEP)

    def forward(self, vector_ND: Tensor) -> Tensor:
        """Any shape; gradients pass."""
        return vector_ND - self.mean


@final
class ExactSearchUnit(nn.Module):
    """Multi-head target attention over found events, SIM (arXiv:2006.05639), eq. 6 and 7.

    ``z = [e ; age]``, ``s_h = softmax_k(λ_h (cos(W_b z_k, W_a e_a) - 1) + β_h(age_k))``,
    ``head_h = Σ_k s_hk z_k``. A candidate that nothing was found for has a learned vector of its
    own. Departures: a cosine, learned sharpness λ and W_b = W_a at first in place of an inner
    product, so that like attends to like before anything is learned: among inner products of small
    random vectors, which are all about 0, a few events in a hundred never make themselves heard;
    vectors less the targets' mean in W_b and W_a; a bias by age; with each head comes the log of
    its sum, see ``attend``.
    """

    def __init__(
        self, dim: int, age_dim: int, heads: int, head_dim: int, *, found: bool = False
    ) -> None:
        """``age_dim`` 0 leaves ages out; ``found``: the search says how near its events are."""
        super().__init__()
        self.heads = heads
        self.width = heads * (dim + age_dim + 1)
        self.centre = Centre(dim)
        self.age = nn.Parameter(torch.randn(NUM_AGES, age_dim) * INITIAL_SD)
        self.age_bias = nn.Parameter(torch.zeros(NUM_AGES, heads if age_dim else 0))
        self.target = nn.Linear(dim, heads * head_dim, bias=False)
        self.event = nn.Linear(dim + age_dim, heads * head_dim, bias=False)
        with torch.no_grad():
            self.event.weight[:, :dim] = self.target.weight
        self.sharpness = nn.Parameter(torch.full((heads,), INITIAL_SHARPNESS))
        self.trust = nn.Parameter(torch.full((heads if found else 0,), INITIAL_SHARPNESS))
        self.nothing = nn.Parameter(torch.zeros(self.width))

    def forward(
        self,
        target_ND: Tensor,
        event_NKD: Tensor,
        age_NK: Tensor,
        real_NK: Tensor,
        near_NK: Tensor | None = None,
    ) -> Tensor:  # (N, width)
        """Interest of each candidate in its own row of events.

        ``age_NK`` are ids of ``age.buckets``; ``near_NK`` are the search's own cosines.
        """
        self.centre.follow(target_ND)
        z_NKZ, key_NKHD = self._events(event_NKD, age_NK)
        query_NHD, key_NHKD = self._queries(target_ND), key_NKHD.transpose(-3, -2)
        cosine_NHK = (key_NHKD @ query_NHD.unsqueeze(-1)).squeeze(-1)
        logit_NHK = self._logits(cosine_NHK.transpose(1, 2), age_NK).transpose(1, 2)
        if near_NK is not None:
            logit_NHK = logit_NHK + self.trust.unsqueeze(1) * (near_NK - 1).unsqueeze(1)
        value_N1KZ = z_NKZ.unsqueeze(1)
        interest_NX = attend(logit_NHK, value_N1KZ, real_NK)
        return torch.where(real_NK.any(1, keepdim=True), interest_NX, self.nothing)

    def packed(
        self, target_ND: Tensor, event_ED: Tensor, age_E: Tensor, rows: Rows
    ) -> Tensor:  # (N, width)
        """The same over rows of very different lengths, pair by pair: nothing is padded."""
        self.centre.follow(target_ND)
        z_EZ, key_EHD = self._events(event_ED, age_E)
        query_NHD = self._queries(target_ND)
        if not torch.is_grad_enabled() and z_EZ.device.type == "cpu":
            return self._fused(query_NHD, key_EHD, z_EZ, age_E, rows)
        offsets = torch.cat([rows.length_N.new_zeros(1), rows.length_N.cumsum(0)])
        row_P = ragged.rows_of(offsets, int(offsets[-1]))
        at_P = rows.start_N[row_P] + torch.arange(len(row_P)) - offsets[:-1][row_P]
        cosine_PH = (key_EHD.index_select(0, at_P) * query_NHD.index_select(0, row_P)).sum(-1)
        logit_PH = self._logits(cosine_PH, age_E[at_P])
        interest_NX = attend_rows(logit_PH, z_EZ.index_select(0, at_P), offsets)
        return torch.where(rows.length_N.unsqueeze(1) > 0, interest_NX, self.nothing)

    def _fused(
        self, query_NHD: Tensor, key_EHD: Tensor, z_EZ: Tensor, age_E: Tensor, rows: Rows
    ) -> Tensor:  # (N, width)
        """The same without gradients, a head a pass: no pair leaves the cache."""
        bias_EH = self._logits(key_EHD.new_zeros(len(age_E), self.heads), age_E)
        value, start, length = z_EZ.numpy(), rows.start_N.numpy(), rows.length_N.numpy()
        nothing_HX = self.nothing.detach().unflatten(0, (self.heads, -1))
        parts = [
            row_attention.attend(
                (self.sharpness[head] * query_NHD[:, head]).numpy(),
                key_EHD[:, head].contiguous().numpy(),
                bias_EH[:, head].contiguous().numpy(),
                value,
                start,
                length,
                nothing_HX[head].numpy(),
            )
            for head in range(self.heads)
        ]
        return torch.from_numpy(np.concatenate(parts, axis=1))

    def _events(self, event_XD: Tensor, age_X: Tensor) -> tuple[Tensor, Tensor]:
        """What is summed, ``(..., Z)``, and keys of length 1, ``(..., H, D)``."""
        age_XA = self.age[age_X]
        inner_XX = self.event(torch.cat([self.centre(event_XD), age_XA], dim=-1))
        z_XZ = torch.cat([event_XD, age_XA], dim=-1)
        return z_XZ, direction(inner_XX.unflatten(-1, (self.heads, -1)))

    def _queries(self, target_ND: Tensor) -> Tensor:  # (N, H, D)
        inner_NX = self.target(self.centre(target_ND))
        return direction(inner_NX.unflatten(-1, (self.heads, -1)))

    def _logits(self, cosine_XH: Tensor, age_X: Tensor) -> Tensor:  # (..., H)
        # less 1: what equals the target counts one, and the log of the sum is that of a number
        logit_XH = self.sharpness * (cosine_XH - 1)
        return logit_XH + self.age_bias[age_X] if self.age_bias.shape[1] else logit_XH
