"""What COLD puts before its layers: inputs squashed, and groups of them weighed by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor, nn

from ..ops.first_layer import Layer


def linear_log(x: Tensor) -> Tensor:
    """``x`` within [-1, 1], ``sign(x) (log |x| + 1)`` beyond: COLD, section 3.3.3.

    Continuous with its slope; the largest number of fp16 becomes 12.1.
    """
    size = x.abs()
    return torch.where(size > 1, x.sign() * (size.clamp(min=1).log() + 1), x)


@final
class Squeeze(nn.Module):
    """Scales each group of inputs by ``s_g = σ(⟨w_g, x_g⟩ + b_g)``: COLD, section 3.2.

    The mean of ``s_g`` over data tells a group's importance. A scale depends on its own group only,
    so that groups can be made ready one by one.
    """

    group: Tensor  # (D,) int64, of each input
    pace: Final = 20.0  # of what is constant in a scale: slower, and vectors grow in its place

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer(
            "group", torch.repeat_interleave(torch.tensor(widths)), persistent=False
        )
        self.weight = nn.Parameter(torch.randn(sum(widths)) * 0.1)
        self.bias = nn.Parameter(torch.zeros(len(widths)))

    def scales(self, x_ND: Tensor) -> Tensor:  # (N, G)
        """Of every group of every row."""
        logit_NG = x_ND.new_zeros(len(x_ND), len(self.bias))
        return (
            logit_NG.index_add(1, self.group, x_ND * self.weight) + self.pace * self.bias
        ).sigmoid()

    def scaled(self, x_ND: Tensor, scale_NG: Tensor) -> Tensor:  # (N, D)
        """The inputs, scaled."""
        return x_ND * scale_NG[:, self.group]

    def part(self, x_ND: Tensor, columns: Tensor) -> Tensor:
        """Some columns scaled, whole groups of them, given alone."""
        group, place = self.group[columns].unique_consecutive(return_inverse=True)
        logit_NG = x_ND.new_zeros(len(x_ND), len(group))
        logit_NG = (
            logit_NG.index_add(1, place, x_ND * self.weight[columns]) + self.pace * self.bias[group]
        )
        return x_ND * logit_NG.sigmoid()[:, place]


def request_layer(first: nn.Linear, squeeze: Squeeze | None, width: int, squash: bool) -> Layer:
    """What makes the first ``width`` inputs, whole groups, a part of the layer behind them."""
    if squeeze is None:
        ends, scale_D = torch.tensor([width]), torch.zeros(width)
        level_G = torch.full((1,), torch.inf)  # of which the sigmoid is 1
    else:
        _, sizes = squeeze.group[:width].unique_consecutive(return_counts=True)
        ends, scale_D = sizes.cumsum(0), squeeze.weight[:width]
        level_G = squeeze.pace * squeeze.bias[: len(sizes)]
    start_G = torch.cat([ends.new_zeros(1), ends])
    read = first.weight[:, :width].T, first.bias, start_G, scale_D, level_G
    return Layer(*(x.detach().contiguous().numpy() for x in read), squash=squash)
