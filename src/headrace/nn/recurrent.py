"""The weights of a gated recurrent unit; ``ops.gru`` runs it along ragged rows."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from ..ops import gru
from ..ops.gru import Gating


@final
class GRU(nn.Module):
    """A gated recurrent unit, alone or led by attention; gates are update, reset and state."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, 3 * width, bias=False)
        bound = width**-0.5  # for all weights, as nn.GRU
        nn.init.uniform_(self.project.weight, -bound, bound)
        self.weight = nn.Parameter(torch.empty(width, 3 * width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(3 * width))

    def forward(self, event_ED: Tensor, offsets: Tensor) -> Tensor:  # (E, width)
        """The state after every event of every row."""
        return gru.gru(self.project(event_ED), self.weight, self.bias, offsets)

    def led(
        self,
        gating: Gating,
        event_ED: Tensor,
        attention_NL: Tensor,
        start_N: Tensor,
        length_N: Tensor,
    ) -> Tensor:  # (N, width)
        """The last state of each of N rows over the events, each row with its own attention."""
        x_EG = self.project(event_ED)
        return gru.attention_gru(
            gating, x_EG, self.weight, self.bias, attention_NL, start_N, length_N
        )
