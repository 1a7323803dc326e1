"""DIN's target attention, with the first layer of its unit taken apart.

The unit scores a (target q, event k) pair by an MLP over [q, k, q - k, q * k]. Its first layer is
linear, so ``q A + k B + (q * k) C`` gives the same function without building the 4D-wide input:
``q A`` is computed once a candidate, ``k B`` once an event, and ``(q * k) C`` for all pairs of a
request by one matrix product of the events with ``diag(q) C``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..data import Ragged
from ..ops import ragged
from .mlp import Activation, activate

Norm = Literal["none", "sqrt", "softmax"]
CHUNK = 16  # candidates padded together; requests differ widely in how many they have


class TargetAttention(nn.Module):
    """Sum a request's events, weighted by how each matters to the candidate."""

    def __init__(
        self,
        dim: int,
        hidden: tuple[int, ...] = (36,),
        *,
        norm: Norm = "none",
        activation: Activation = "prelu",
        side_dim: int = 0,
    ) -> None:
        """``side_dim`` is the width of what is known of the event but not of the target.

        norm: ``none`` leaves the weights unbounded (the paper: their sum is the intensity),
        ``sqrt`` divides by the square root of the history's length, ``softmax`` is the authors'
        code, logits divided by the square root of ``dim``.
        """
        super().__init__()
        self.norm, self.scale = norm, dim**-0.5
        self.target = nn.Linear(dim, hidden[0])
        self.event = nn.Linear(dim + side_dim, hidden[0], bias=False)
        bound = (4 * dim) ** -0.5
        self.product = nn.Parameter(torch.empty(dim, hidden[0]).uniform_(-bound, bound))
        layers: list[nn.Module] = [activate(activation, hidden[0])]
        for a, b in pairwise(hidden):
            layers += [nn.Linear(a, b), activate(activation, b)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(
        self, target_ND: Tensor, items: Ragged, event_ED: Tensor, side_ES: Tensor, events: Ragged
    ) -> Tensor:  # (N, D)
        """Interest of each candidate. ``items`` and ``events`` cut their values into requests."""
        event_BLD, mask_BL = ragged.pad(event_ED, events.offsets)
        side_BLS, _ = ragged.pad(side_ES, events.offsets)
        key_BLH = self.event(torch.cat([event_BLD, side_BLS], dim=-1))
        row_C, at_CM, place_N = chunks(items.offsets, CHUNK)
        target_CMD = target_ND[at_CM]
        folded = target_CMD.transpose(1, 2).unsqueeze(-1) * self.product[:, None, :]  # C D M H
        event_CLD = event_BLD[row_C]
        pair = torch.bmm(event_CLD, folded.flatten(2)).unflatten(2, (at_CM.shape[1], -1))
        pair = pair + key_BLH[row_C].unsqueeze(2) + self.target(target_CMD).unsqueeze(1)
        logit_CLM = self.rest(pair).squeeze(-1)
        weight_CLM = self._weight(logit_CLM, mask_BL[row_C].unsqueeze(-1))
        interest_CMD = torch.bmm(weight_CLM.transpose(1, 2), event_CLD)
        return interest_CMD.flatten(0, 1)[place_N]

    def _weight(self, logit_CLM: Tensor, mask_CL1: Tensor) -> Tensor:
        if self.norm == "softmax":
            logit = (logit_CLM * self.scale).masked_fill(~mask_CL1, -torch.inf)
            # a request without events has only -inf: its weights are 0, not NaN
            return logit.softmax(dim=1).nan_to_num(0.0) * mask_CL1
        weight = logit_CLM * mask_CL1
        if self.norm == "sqrt":
            weight = weight / mask_CL1.sum(1, keepdim=True).clamp(min=1).sqrt()
        return weight


def chunks(offsets: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut each row of N values into chunks at most ``most`` wide, and pad them.

    Returns the row of each chunk ``(C,)``, positions ``(C, M)``, padded by the row's last one, and
    where each value stands in the flattened ``(C * M)``, ``(N,)``.
    """
    lengths = offsets.diff()
    width = max(1, min(most, int(lengths.max()) if len(lengths) else 1))
    if len(lengths) == 1:
        size = int(lengths)
        count = -(-size // width)
        at_CM = torch.arange(count * width).clamp_(max=size - 1).reshape(count, width)
        return offsets.new_zeros(count), at_CM, torch.arange(size)
    count_B = (lengths + width - 1) // width
    before_B = count_B.cumsum(0) - count_B
    row_C = torch.repeat_interleave(count_B)
    start_C = offsets[row_C] + (torch.arange(len(row_C)) - before_B[row_C]) * width
    at_CM = start_C.unsqueeze(1) + torch.arange(width)
    row_N = ragged.rows_of(offsets, int(offsets[-1]))
    place_N = before_B[row_N] * width + torch.arange(len(row_N)) - offsets[row_N]
    return row_C, torch.minimum(at_CM, (offsets[row_C + 1] - 1).unsqueeze(1)), place_N
