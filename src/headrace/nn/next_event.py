"""DIEN's auxiliary loss: each state of a history should know the event that comes next."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..ops import ragged
from .mlp import mlp

Scorer = Literal["mlp", "inner"]
HIDDEN = (100, 50)  # widths of the network


@final
class NextEvent(nn.Module):
    """Tells the next event from a drawn one by the state before it (DIEN, arXiv:1809.03672).

    inner: ``hᵀe``, the paper, which asks for a state as wide as an event. mlp: a network of
    ``[h; e]``, 100-50-1, the authors' code, with ReLU for its sigmoids and without its batch norm.
    """

    def __init__(self, scorer: Scorer, state: int, item: int) -> None:
        super().__init__()
        self.scorer: Scorer = scorer
        if scorer == "mlp":  # the first layer in its two parts: a state meets two items
            self.state = nn.Linear(state, HIDDEN[0])
            self.item = nn.Linear(item, HIDDEN[0], bias=False)
            self.rest = mlp(*HIDDEN, 1)

    def forward(
        self, state_EH: Tensor, event_ED: Tensor, other_ED: Tensor, offsets: Tensor
    ) -> Tensor:  # (B,)
        """Cross-entropy of a row's steps, their mean; 0 for a row of fewer than two events.

        ``other_ED`` holds, in each event's place, an item that was not the event. A row's last
        state is not asked: what comes after it is the label's business.
        """
        lengths_B = offsets.diff()
        asked_E = torch.ones(len(state_EH), dtype=torch.bool)
        asked_E[offsets[1:][lengths_B > 0] - 1] = False
        at_M = torch.nonzero(asked_E)[:, 0]
        true_M, false_M = self._scores(state_EH[at_M], event_ED[at_M + 1], other_ED[at_M + 1])
        steps_B = (lengths_B - 1).clamp(min=0)
        steps = torch.cat([steps_B.new_zeros(1), steps_B.cumsum(0)])
        total_B = ragged.segment_sum(F.softplus(-true_M) + F.softplus(false_M), steps)
        return total_B / steps_B.clamp(min=1)

    def _scores(self, state_MH: Tensor, *item_MD: Tensor) -> list[Tensor]:  # (M,) each
        if self.scorer == "inner":
            return [(state_MH * each_MD).sum(1) for each_MD in item_MD]
        known_MK = self.state(state_MH)
        return [self.rest(F.relu(known_MK + self.item(each_MD))).squeeze(1) for each_MD in item_MD]


def others(item_E: Tensor, num_items: int) -> Tensor:  # (E,) int64
    """For each item another, uniform over the catalogue; item 0, the unknown, is never drawn.

    Draws from PyTorch's generator, which training seeds anew for every step. ``num_items`` counts
    the unknown and is at least 3.
    """
    drawn_E = torch.randint(1, num_items - 1, item_E.shape)
    return drawn_E + (drawn_E >= item_E.clamp(min=1))


def must_have_others(num_items: int, kind: str) -> None:
    """Raise ConfigError where a catalogue of so many, the unknown included, has no other item."""
    if num_items < 3:
        raise ConfigError(
            f"{kind}: the auxiliary loss draws another item for each event, but the catalogue has "
            f"{num_items - 1}; set alpha = 0"
        )
