"""DIN's target attention, with the first layer of its unit taken apart.

The unit scores a (target q, event k) pair by an MLP over [q, k, q - k, q * k]. Its first layer is
linear, so ``q A + k B + (q * k) C`` gives the same function without building the 4D-wide input:
``q A`` is computed once a candidate, ``k B`` once an event. See ``ops/target_attention.py``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..data import Ragged
from ..ops import ragged
from ..ops.target_attention import Layer, Norm, Rows, attend
from .mlp import PReLU, activate

UnitActivation = Literal["prelu", "relu"]
CHUNK = 16  # candidates padded together; requests differ widely in how many they have


class TargetAttention(nn.Module):
    """Sum a request's events, weighted by how each matters to the candidate."""

    def __init__(
        self,
        dim: int,
        hidden: tuple[int, ...] = (36,),
        *,
        norm: Norm = "none",
        activation: UnitActivation = "prelu",
        side_dim: int = 0,
    ) -> None:
        """``side_dim`` is the width of what is known of the event but not of the target.

        norm: ``none`` leaves the weights unbounded (the paper: their sum is the intensity),
        ``sqrt`` divides by the square root of the history's length, ``softmax`` is the authors'
        code, logits divided by the square root of ``dim``.
        """
        super().__init__()
        self.norm: Norm = norm
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
        return attend(
            target_ND,
            self.target(target_ND),
            event_ED,
            side_ES,
            self.event.weight,
            self.product,
            self._layers(),
            Rows(items.spread(events.offsets[:-1]), items.spread(events.lengths)),
            self.norm,
        )

    def _layers(self) -> tuple[Layer, ...]:
        """The unit behind its first linear layer."""
        layers: list[Layer] = []
        modules = list(self.rest)
        for activation, linear in zip(modules[::2], modules[1::2], strict=True):
            assert isinstance(linear, nn.Linear)
            slope = activation.weight if isinstance(activation, PReLU) else None
            layers.append(Layer(slope, linear.weight, linear.bias))
        return tuple(layers)


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
