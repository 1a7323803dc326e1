"""The weights of a user's memory, and what it is from event to event; ``ops.memory`` runs it."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from ..data import Ragged
from ..ops import memory
from ..ops.memory import Sizes, Weights

Variant = Literal["paper", "code"]
USER_STATE = "user_state"  # a column (B, Z) of requests: states that somebody keeps
INITIAL_SD = 0.5  # of slots and keys: they must differ, or all slots would learn the same


@final
class Memory(nn.Module):
    """A memory of slots that a controller reads and writes, and channels beside it (MIMN).

    A state is one vector of ``sizes.total`` numbers: it can be kept, and continued later.
    """

    def __init__(
        self,
        inputs: int,
        sizes: Sizes,
        *,
        top: int,
        variant: Variant,
        balanced: bool,
    ) -> None:
        """``inputs`` is the width of an event; ``balanced`` spreads writes by past usage."""
        super().__init__()
        self.sizes, self.top = sizes, top
        self.seen = sizes.control + sizes.width
        self._balance = memory.NONE
        said = 4 * sizes.width + (memory.SAID if variant == "code" else 0)
        told = 0
        if balanced:
            self._balance = memory.USAGE if variant == "paper" else memory.SHIFT
            told = sizes.slots if variant == "paper" else said
        self.project = nn.Linear(inputs, 3 * (sizes.control + sizes.channel))
        self.read = _uniform(sizes.width, 3 * sizes.control)
        self.control = _uniform(sizes.control, 3 * sizes.control)
        self.head = nn.Linear(sizes.control, said)
        self.usage = nn.Parameter(torch.zeros(sizes.slots, told))
        keys = sizes.slots if variant == "code" else 0
        self.key = nn.Parameter(torch.randn(keys, sizes.width) * INITIAL_SD)
        self.slot_to_channel = _uniform(sizes.width, 3 * sizes.channel)
        self.channel = _uniform(sizes.channel, 3 * sizes.channel)
        self.first = nn.Parameter(torch.randn(sizes.slots, sizes.width) * INITIAL_SD)

    def start(self, size: int) -> Tensor:  # (size, Z)
        """The state of users of whom nothing is known."""
        before = self.first.new_zeros(self.sizes.control + self.sizes.width + self.sizes.slots)
        after = self.first.new_zeros(self.sizes.slots * self.sizes.channel)
        return torch.cat([before, self.first.flatten(), after]).expand(size, -1)

    def forward(
        self, event_UD: Tensor, place: Ragged, state_BZ: Tensor, *, see: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The state ``(B, Z)`` after each row's events, and what was seen after each ``(E, O)``.

        ``place`` says of which of the vectors each event is. Without ``see`` the second answer has
        no rows.
        """
        return memory.scan(
            self._balance,
            self.top,
            self._weights(),
            self.project(event_UD),
            place.values,
            place.offsets,
            state_BZ,
            see=see,
        )

    def look(self, input_ND: Tensor, state_NZ: Tensor) -> Tensor:  # (N, seen)
        """What the controller finds in a state for an input, leaving the state as it is."""
        found = memory.look(self._balance, self._weights(), self.project(input_ND), state_NZ)
        return torch.cat([found.control_NH, found.read_NW], dim=1)

    def unevenness(self, state_BZ: Tensor) -> Tensor:  # (B,)
        """Squared coefficient of variation of how much was written into each slot; 0 for nothing.

        MIMN's regulariser, ``Σ_i (W_i - mean W)²``, divided by the square of the mean, so that it
        does not grow with the length of a history.
        """
        usage_BS = self.sizes.parts(state_BZ)[2]
        mean_B1 = usage_BS.mean(1, keepdim=True).clamp(min=1e-6)
        return (usage_BS / mean_B1 - 1).square().mean(1) * (usage_BS.sum(1) > 0)

    def _weights(self) -> Weights:
        return Weights(
            self.read,
            self.control,
            self.head.weight.T,
            self.head.bias.unsqueeze(0),
            self.usage,
            self.key,
            self.slot_to_channel,
            self.channel,
        )


def _uniform(inputs: int, gates: int) -> nn.Parameter:
    """Weights of a GRU's gates; as nn.GRU, bounded by the width of its state."""
    bound = max(gates // 3, 1) ** -0.5
    return nn.Parameter(torch.empty(inputs, gates).uniform_(-bound, bound))
